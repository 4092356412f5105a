from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest
from bargain_env.spec import GAMES, GameSpec
from bargain_eval.exact import (
    Profile,
    TabularGame,
    best_response,
    cfr,
    cfr_iteration,
    cfr_start,
    evaluate,
    flow,
    inverse_root,
    mean_plan,
    mix_strategies,
    mmd,
    mmd_step,
    nash_conv,
    realisation,
    regret_matching,
    tabular_game,
    uniform_profile,
    xfp,
)
from bargain_eval.exact.cfr import VARIANTS, Variant
from bargain_eval.exact.mmd import Schedule
from bargain_eval.exact.solve import SOLVERS, powers_of_ten
from numpy.typing import NDArray
from test_exact_game import SPECS

GAME_NAMES = ("mini-a", "mini-b", "mini-c")

# NashConv after 10, 100 and 1,000 iterations on the three games, computed by another implementation.
CFR: dict[tuple[Variant, bool], tuple[tuple[float, float, float], ...]] = {
    ("cfr", True): ((0.0414, 0.00420, 0.000421), (0.0509, 0.00515, 0.00080), (0.0601, 0.00872, 0.00148)),
    ("cfr", False): ((0.0424, 0.00431, 0.000432), (0.0484, 0.00484, 0.000484), (0.0553, 0.00739, 0.00116)),
    ("cfr+", True): ((0.00994, 0.000109, 1e-6), (0.0166, 0.00067, 1.1e-5), (0.0250, 0.00130, 0.00016)),
    ("linear-cfr", True): ((0.00803, 0.000088, 1e-6), (0.0144, 0.00019, 2e-6), (0.0202, 0.00062, 0.00028)),
}
# Ties are open in the following: ceilings, to be met within a quarter.
XFP = ((0.2236, 0.0485, 0.00524, 0.00053), (0.2546, 0.0584, 0.00658, 0.00067), (0.2927, 0.0578, 0.00700, 0.00072))
MMD: dict[str, tuple[tuple[float, float, float], ...]] = {
    "alpha .05, eta .1": ((0.2815, 0.0395, 0.0098), (0.373, 0.0768, 0.0200), (0.406, 0.123, 0.038)),
    "alpha .01, eta 1": ((0.0302, 0.00015, 1e-5), (0.0605, 0.0021, 0.0012), (0.104, 0.0085, 0.0044)),
    "falling": ((0.0164, 0.00053, 1e-5), (0.0323, 0.0035, 0.00055), (0.0572, 0.0123, 0.0025)),
}
MMD_SETTINGS: dict[str, tuple[float | Schedule, float | Schedule]] = {
    "alpha .05, eta .1": (0.05, 0.1),
    "alpha .01, eta 1": (0.01, 1.0),
    "falling": (inverse_root(0.1), inverse_root(5.0)),
}


def curve(game: TabularGame, solver: Iterator[tuple[int, Profile]]) -> list[float]:
    return [nash_conv(game, profile) for _, profile in solver]


@pytest.mark.parametrize("name", GAME_NAMES)
@pytest.mark.parametrize("variant", CFR, ids=str)
def test_cfr_converges_as_another_implementation_does(variant: tuple[Variant, bool], name: str) -> None:
    game = tabular_game(GAMES[name])
    expected = CFR[variant][GAME_NAMES.index(name)]
    assert curve(game, cfr(game, (10, 100, 1000), *variant)) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("name", GAME_NAMES)
def test_fictitious_play_stays_below_its_ceilings(name: str) -> None:
    game = tabular_game(GAMES[name])
    found = np.array(curve(game, xfp(game, (1, 10, 100, 1000))))
    ceilings = np.array(XFP[GAME_NAMES.index(name)])
    assert (found <= 1.25 * ceilings).all()
    assert (found >= 0.5 * ceilings).all()


@pytest.mark.parametrize("name", GAME_NAMES)
@pytest.mark.parametrize("setting", MMD)
def test_mmd_stays_below_its_ceilings(setting: str, name: str) -> None:
    game = tabular_game(GAMES[name])
    alpha, eta = MMD_SETTINGS[setting]
    found: NDArray[np.float64] = np.array(curve(game, mmd(game, (10, 100, 1000), alpha, eta)))
    assert (found <= 1.25 * np.array(MMD[setting][GAME_NAMES.index(name)])).all()


def test_the_default_setting_of_mmd_falls() -> None:
    game = tabular_game(GAMES["mini-a"])
    assert curve(game, mmd(game, (10, 20))) == curve(game, mmd(game, (10, 20), *MMD_SETTINGS["falling"]))


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_every_solver_comes_close_to_an_equilibrium_of_every_small_game(spec: GameSpec, name: str) -> None:
    game = tabular_game(spec)
    start = nash_conv(game, uniform_profile(game))
    first, last = curve(game, SOLVERS[name](game, (1, 300)))
    assert -1e-12 <= last < 0.012 < start
    assert last < first


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("alternating", [True, False])
def test_the_first_iteration_of_cfr_by_hand(variant: Variant, alternating: bool) -> None:
    game = tabular_game(GAMES["mini-a"])
    uniform, state = uniform_profile(game), cfr_start(game)
    cfr_iteration(game, state, variant, alternating)
    # Seat 0 offers (to seat 1) nothing, b, a or everything to a uniform seat 1, or walks: half of what it keeps, or ...
    for kind in range(game.num_types):
        worth = np.array([(game.shares[0, k, kind] + game.walk[kind]) / 2 for k in range(4)] + [game.walk[kind]])
        regret = worth - worth.mean()
        if variant == "cfr+":
            regret = np.maximum(regret, 0)
        np.testing.assert_allclose(state.regrets[0][0][0, kind], regret, atol=1e-15)
        expected = np.maximum(regret, 0) / np.maximum(regret, 0).sum() if regret.max() > 1e-12 else np.full(5, 0.2)
        np.testing.assert_allclose(state.profile[0][0][0, kind], expected, atol=1e-12)
    reach = flow(game, realisation(game, state.profile[0] if alternating else uniform[0]))[0][0]
    for offer, kind in np.ndindex(4, game.num_types):
        accept, walk = reach[offer] * game.shares[1, offer, kind], reach[offer] * game.walk[kind]
        regret = (accept - walk) / 2 * np.array([1, -1])
        if variant == "cfr+":
            regret = np.maximum(regret, 0)
        np.testing.assert_allclose(state.regrets[1][0][offer, kind], regret, atol=1e-15)
    average = state.average()
    assert all((a == b).all() for s, u in zip(average, uniform, strict=True) for a, b in zip(s, u, strict=True))


@pytest.mark.parametrize(("variant", "weights"), [("cfr", [1, 1, 1]), ("cfr+", [1, 2, 3]), ("linear-cfr", [1, 2, 3])])
def test_the_average_of_cfr_mixes_the_profiles_played(variant: Variant, weights: list[int]) -> None:
    game = tabular_game(GAMES["mini-b"])
    state, played = cfr_start(game), []
    for _ in weights:
        played.append(tuple(state.profile))
        cfr_iteration(game, state, variant)
    shares = np.array(weights) / sum(weights)
    for seat in range(2):
        mixed = realisation(game, mix_strategies(game, [profile[seat] for profile in played], shares))
        for found, wanted in zip(realisation(game, state.average()[seat]), mixed, strict=True):
            np.testing.assert_allclose(found, wanted, atol=1e-15)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_regrets_of_cfr_bound_the_regret_of_the_joint_play(variant: Variant) -> None:
    # The mean regret of simultaneous play is what a seat could have gained against the mean of the opponent's plans.
    game = tabular_game(GAMES["mini-b"])
    state = cfr_start(game)
    plans: list[list[tuple[NDArray[np.float64], ...]]] = [[], []]
    earned = np.zeros(2)
    weights = np.arange(1, 31) if variant == "linear-cfr" else np.ones(30)
    for weight in weights:
        earned += weight * evaluate(game, (state.profile[0], state.profile[1])).payoffs
        for seat in range(2):
            plans[seat].append(realisation(game, state.profile[seat]))
        cfr_iteration(game, state, variant, alternating=False)
    for seat in range(2):
        mean = flow(game, mean_plan(plans[1 - seat], weights / weights.sum()))
        regret = best_response(game, seat, mean)[1] @ game.chance - earned[seat] / weights.sum()
        positive = sum(np.maximum(r, 0).max(axis=2).sum(axis=0) @ game.chance for r in state.regrets[seat])
        assert -1e-12 <= regret <= positive / weights.sum() + 1e-12


def test_regret_matching() -> None:
    regrets = np.array([[1.0, 3.0, -2.0], [-1.0, -2.0, 0.0], [0.0, 0.0, 0.0]])
    np.testing.assert_array_equal(regret_matching(regrets), [[0.25, 0.75, 0], [1 / 3] * 3, [1 / 3] * 3])


def test_fictitious_play_averages_the_best_responses() -> None:
    game = tabular_game(GAMES["mini-b"])
    responses = [[strategy] for strategy in uniform_profile(game)]
    for stop, average in xfp(game, (1, 2, 3)):
        previous = [mix_strategies(game, r, np.full(len(r), 1 / len(r))) for r in responses]
        flows = [flow(game, realisation(game, strategy)) for strategy in previous]
        for seat in range(2):
            responses[seat].append(best_response(game, seat, flows[1 - seat])[0])
            mixed = mix_strategies(game, responses[seat], np.full(stop + 1, 1 / (stop + 1)))
            for found, wanted in zip(realisation(game, average[seat]), realisation(game, mixed), strict=True):
                np.testing.assert_allclose(found, wanted, atol=1e-14)


def test_an_mmd_step_maximises_its_objective() -> None:
    rng = np.random.default_rng(0)
    behaviour, payoff = rng.dirichlet(np.ones(4), size=3), rng.normal(size=(3, 4))
    alpha, eta = 0.3, 0.7
    moved = mmd_step(behaviour, payoff, alpha, eta)
    np.testing.assert_allclose(moved.sum(axis=1), 1, atol=1e-15)

    def objective(
        p: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        entropy, divergence = -(p * np.log(p)).sum(axis=1), (p * np.log(p / behaviour)).sum(axis=1)
        result: NDArray[np.float64] = eta * ((p * payoff).sum(axis=1) + alpha * entropy) - divergence
        return result

    for _ in range(200):
        other = 0.9 * moved + 0.1 * rng.dirichlet(np.ones(4), size=3)
        assert (objective(other) < objective(moved)).all()
    np.testing.assert_array_equal(
        mmd_step(np.array([0.0, 0.5, 0.5]), np.array([9.0, 1.0, 1.0]), 0.1, 1.0), [0, 0.5, 0.5]
    )


def test_a_fixed_magnet_leaves_the_regret_of_its_quantal_equilibrium() -> None:
    # The floors of alpha .05, computed by another implementation.
    for name, floor in (("mini-a", 0.0096), ("mini-b", 0.0199)):
        game = tabular_game(GAMES[name])
        (found,) = curve(game, mmd(game, (1000,), 0.05, 1.0))
        assert found == pytest.approx(floor, abs=5.1e-5)


@pytest.mark.parametrize("checkpoints", [(0,), (2, 1), (3, 3), (-1, 2)])
@pytest.mark.parametrize("solver", [cfr, xfp, mmd])
def test_checkpoints_ascend(
    solver: Callable[[TabularGame, Sequence[int]], Iterator[tuple[int, Profile]]], checkpoints: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match="checkpoints must ascend from 1 or above"):
        next(solver(tabular_game(GAMES["mini-a"]), checkpoints))


def test_settings_out_of_range() -> None:
    game = tabular_game(GAMES["mini-a"])
    with pytest.raises(ValueError, match="variant must be one of cfr, cfr\\+, linear-cfr, got 'dcfr'"):
        next(cfr(game, (1,), "dcfr"))  # type: ignore[arg-type]
    for alpha, eta in ((-0.1, 1.0), (0.1, 0.0), (0.1, float("nan"))):
        with pytest.raises(ValueError, match="alpha must be at least 0 and eta above 0"):
            next(mmd(game, (1,), alpha, eta))


@pytest.mark.parametrize(
    ("iterations", "powers"), [(1, [1]), (10, [1, 10]), (999, [1, 10, 100, 999]), (20, [1, 10, 20])]
)
def test_powers_of_ten(iterations: int, powers: list[int]) -> None:
    assert powers_of_ten(iterations) == powers
