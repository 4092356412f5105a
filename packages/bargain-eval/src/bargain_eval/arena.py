"""The arena: two policies play exactly the assigned deals, every game to its end.

Legend: `N` games, `B` games of a block, `I` item types, `A` actions, `O` observation features.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from bargain_env.engine import Engine, make_engine
from bargain_env.reference import DEAL
from bargain_env.spec import GameSpec
from numpy.typing import ArrayLike, NDArray

from bargain_eval.game_rows import GameRows, PairedRows
from bargain_eval.policy import HasMemory, Policy, is_tensor, like, to_numpy

FIRST_BEST_TOTAL = 1.3501
"""Mean total payoff of the standard game under full information: no policies can earn more on average."""


def play(
    policies: Sequence[Policy],
    num_games: int,
    seed: int,
    *,
    spec: GameSpec | None = None,
    first_game: int = 0,
    device: str = "cpu",
    threads: int = 1,
    block_size: int = 4096,
    deals: tuple[ArrayLike, ArrayLike] | None = None,
) -> GameRows:
    """Plays games `first_game` .. `first_game + num_games - 1`, each to its end, and returns a row for each.

    Game n is the deal (seed, n, episode 0) of the engine. Games are played in blocks cut at the multiples of
    `block_size`, all games of a block at once, with one policy call per decision on the games still running. In each
    block each seat has its own generator, seeded by (seed, seat, number of the block). Hence the result is a function
    of the policies, `seed`, the games and, for policies that use randomness, `block_size`; neither `threads` nor
    splitting the games at a multiple of `block_size` changes it.

    Args:
        policies: The policies of seat 0 and seat 1; one policy may play both.
        num_games: Games `N`, at least 1.
        seed: Key of the deals and of the policies' randomness, 0 to 2**64 - 1.
        spec: The game; the standard one if None. Its observation kind is ignored: the policies' needs decide.
        first_game: Index of the first game.
        device: Where the games are simulated, "cpu" or "cuda:k". On a GPU, policies that compute on one get tensors
            there, and the others numpy copies.
        threads: Blocks played at the same time.
        block_size: Games played at once.
        deals: Explicit `(values [N, 2, I], outside [N, 2])` in points instead of the seed's deals.

    Raises:
        ValueError: If an argument is out of range, a policy was made for another game, or a policy returns anything
            but one action per game.
        RuntimeError: If the total of a game exceeds the first-best of its deal, which no policies can earn.
    """
    spec = spec or GameSpec()
    _check(policies, num_games, first_game, threads, block_size, spec)
    explicit = _explicit_deals(deals, num_games, spec)
    history = any(policy.observation == "history" for policy in policies)
    spec = spec.with_observation("history" if history else "standing")
    stop = first_game + num_games
    cuts = [first_game, *range((first_game // block_size + 1) * block_size, stop, block_size), stop]

    def run(first: int, end: int) -> GameRows:
        with_deals = {key: array[first - first_game : end - first_game] for key, array in explicit.items()}
        engine = make_engine(spec, end - first, device, seed, first_game=first, autoreset=False)
        engine.reset(options=with_deals)
        generators = [_generator(seed, seat, first // block_size) for seat in range(2)]
        try:
            return _play_block(engine, policies, generators, np.arange(first, end))
        finally:
            engine.close()

    if threads == 1:
        parts = list(map(run, cuts[:-1], cuts[1:]))
    else:
        with ThreadPoolExecutor(threads) as pool:
            parts = list(pool.map(run, cuts[:-1], cuts[1:]))
    rows = GameRows.concatenate(parts)
    _guard(rows, spec)
    return rows


def play_paired(policy_a: Policy, policy_b: Policy, num_games: int, seed: int, **options: Any) -> PairedRows:
    """Plays the same deals as (A, B) and as (B, A); takes the options of `play`, and costs two calls of it."""
    return PairedRows(
        a_first=play((policy_a, policy_b), num_games, seed, **options),
        b_first=play((policy_b, policy_a), num_games, seed, **options),
    )


def _check(
    policies: Sequence[Policy], num_games: int, first_game: int, threads: int, block_size: int, spec: GameSpec
) -> None:
    if len(policies) != 2:
        raise ValueError(f"a match needs two policies, got {len(policies)}.")
    numbers = {"num_games": num_games, "threads": threads, "block_size": block_size}
    for name, number in numbers.items():
        if number < 1:
            raise ValueError(f"{name} must be at least 1, got {number}.")
    if first_game < 0:
        raise ValueError(f"first_game must be at least 0, got {first_game}.")
    for seat, policy in enumerate(policies):
        own = getattr(policy, "spec", None)
        if isinstance(own, GameSpec) and not own.same_game(spec):
            raise ValueError(f"the policy of seat {seat} was made for another game: {own}, not {spec}.")


def _explicit_deals(
    deals: tuple[ArrayLike, ArrayLike] | None, num_games: int, spec: GameSpec
) -> dict[str, NDArray[Any]]:
    if deals is None:
        return {}
    arrays = dict(zip(("values", "outside"), map(np.asarray, deals), strict=True))
    shapes = {"values": (num_games, 2, spec.num_items), "outside": (num_games, 2)}
    for name, array in arrays.items():
        if array.shape != shapes[name]:
            raise ValueError(f"the {name} of the deals need shape {shapes[name]}, got {array.shape}.")
    return arrays


def _generator(seed: int, seat: int, block: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(seat, block)))


def _play_block(
    engine: Engine,
    policies: Sequence[Policy],
    generators: Sequence[np.random.Generator],
    games: NDArray[np.int64],
) -> GameRows:
    for seat, policy in enumerate(policies):
        if isinstance(policy, HasMemory):
            policy.begin(games, seat, generators[seat])
    illegal = np.zeros((len(games), 2), dtype=np.int64)
    active = np.arange(len(games))
    turn = 0
    while len(active):
        seat = turn % 2
        policy = policies[seat]
        width = engine.spec.standing_dim if policy.observation == "standing" else engine.spec.observation_dim
        rows = like(engine.observation, active)
        shown = engine.observation[rows, :width], engine.action_mask[rows]
        if policy.device == "cpu":
            shown = to_numpy(shown[0]), to_numpy(shown[1])
        actions = like(engine.observation, np.full(len(games), engine.spec.walk_action, dtype=np.int64))
        chosen = policy.get_action(*shown, generators[seat], games[active])
        actions[rows] = _checked_actions(policy, chosen, len(active), actions)
        engine.step(actions)
        illegal[active, seat] += to_numpy(engine.illegal)[active]
        active = active[~to_numpy(engine.terminated)[active]]
        turn += 1
    return _rows(engine, games, illegal)


def _checked_actions(policy: Policy, chosen: Any, num_games: int, reference: Any) -> Any:
    """Returns what `policy` chose as int64 of the kind of `reference` and on its device; a tensor there stays there."""
    chosen = chosen if is_tensor(chosen) else np.asarray(chosen)
    kind, shape = str(chosen.dtype).removeprefix("torch."), tuple(chosen.shape)
    if shape != (num_games,) or not kind.startswith(("int", "uint")):
        raise ValueError(
            f"{type(policy).__name__} returned {kind} actions of shape {shape} for {num_games} games; "
            "one integer each is needed."
        )
    if is_tensor(chosen) and is_tensor(reference):
        return chosen.to(reference)
    return like(reference, to_numpy(chosen).astype(np.int64))


def _rows(engine: Engine, games: NDArray[np.int64], illegal: NDArray[np.int64]) -> GameRows:
    spec = engine.spec
    values, outside = (to_numpy(array).astype(np.int64) for array in (engine.values, engine.outside))
    recorded = engine.outcome, engine.offer, engine.decisions, engine.actions
    outcome, offer, decisions, actions = (to_numpy(array).copy() for array in recorded)
    points, total = game_points(spec, values, outside, outcome, offer, decisions)
    return GameRows(
        game=games,
        payoff=points / total,
        points=points,
        values=values,
        outside=outside,
        total=total,
        outcome=outcome,
        offer=offer,
        decisions=decisions,
        illegal=illegal,
        actions=actions,
    )


def game_points(
    spec: GameSpec,
    values: NDArray[np.int64],
    outside: NDArray[np.int64],
    outcome: NDArray[np.int8],
    offer: NDArray[np.int16],
    decisions: NDArray[np.int8],
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Returns the payoffs in points and the own totals, `[N, 2]` each, of finished games; see `GameRows`."""
    quantities = np.asarray(spec.item_quantities)
    to_seat_1 = spec.offers[np.maximum(offer, 0)]
    bundles = np.stack([quantities - to_seat_1, to_seat_1], axis=1)
    points = np.where((outcome == DEAL)[:, None], (values * bundles).sum(axis=2), outside)
    if spec.discount < 1.0:
        points = points * spec.discount ** ((decisions - 1) // 2)[:, None].astype(np.float64)
    return points, values @ quantities


def _guard(rows: GameRows, spec: GameSpec) -> None:
    """Checks that no game earned more than the better of walking and the best split of its very deal."""
    best_split = (rows.values / rows.total[:, :, None]).max(axis=1) @ np.asarray(spec.item_quantities)
    bound = np.maximum(best_split, (rows.outside / rows.total).sum(axis=1))
    total = rows.payoff.sum(axis=1)
    above = np.flatnonzero(total > bound + 1e-9)
    if len(above):
        raise RuntimeError(
            f"broken measurement: the total of {len(above)} of {len(rows)} games exceeds the first-best of its deal, "
            f"at first {total[above[0]]:.4f} instead of at most {bound[above[0]]:.4f} in game {rows.game[above[0]]}."
        )
