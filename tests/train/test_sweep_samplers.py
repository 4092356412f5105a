"""What trials are drawn: by number, not by process; and that the methods which learn do."""

from __future__ import annotations

import importlib.util
import math
from typing import Any

import optuna
import pytest
from bargain_train.sweep.options import Method
from bargain_train.sweep.parameters import Choice, Parameter, Range
from bargain_train.sweep.samplers import STARTUP, draw, make_pruner, make_sampler, stored_values

PARAMETERS: dict[str, Parameter] = {
    "lr": Range(1e-5, 1e-2, log=True),
    "clip": Range(0.0, 1.0),
    "layers": Range(1, 6, integer=True),
    "dims": Choice(([32], [64, 64], [128, 128])),
    "share": Choice((True, False)),
}
LEARNING: tuple[Method, ...] = ("bayes", "gp", "cma")


@pytest.fixture(autouse=True)
def quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def _needs(method: Method) -> None:
    if method == "cma" and importlib.util.find_spec("cmaes") is None:
        pytest.skip("needs cmaes")


def synthetic(values: dict[str, Any]) -> float:
    """Greatest, 0, at lr 3e-4, clip .2, 4 layers, dims [64, 64] and share."""
    worse = math.log10(values["lr"] / 3e-4) ** 2 + 4 * (values["clip"] - 0.2) ** 2 + (values["layers"] - 4) ** 2 / 4
    return -worse - (values["dims"] != [64, 64]) - (not values["share"])


def _best(method: Method, seed: int, trials: int) -> float:
    study = optuna.create_study(direction="maximize", sampler=make_sampler(method, PARAMETERS, seed))
    for _ in range(trials):
        trial = study.ask()
        study.tell(trial, synthetic(draw(trial, PARAMETERS)))
    return float(study.best_value)


@pytest.mark.parametrize("method", ["bayes", "cma"])
def test_a_method_that_learns_beats_the_median_of_random_search(method: Method) -> None:
    _needs(method)
    random = sorted(_best("random", seed, 30) for seed in range(9))
    learned = [_best(method, seed, 30) for seed in range(3)]
    assert min(learned) > random[4]


def test_the_gaussian_process_finds_more_than_it_begins_with() -> None:
    parameters: dict[str, Parameter] = {"x": Range(0.0, 1.0), "share": Choice((True, False))}
    study = optuna.create_study(direction="maximize", sampler=make_sampler("gp", parameters, 1))
    for _ in range(13):
        trial = study.ask()
        values = draw(trial, parameters)
        study.tell(trial, values["share"] - (values["x"] - 0.3) ** 2)
    found = [trial.value or 0.0 for trial in study.trials]
    assert max(found[10:]) > max(found[:10])


@pytest.mark.parametrize("method", ["random", "grid", *LEARNING])
def test_a_trial_follows_from_its_number_and_the_results_before_it(method: Method) -> None:
    _needs(method)

    def trials(restart: bool) -> list[dict[str, Any]]:
        study, found = optuna.create_study(sampler=make_sampler(method, PARAMETERS, 7)), []
        for _ in range(13 if method == "bayes" else 8):
            if restart:  # another process
                study.sampler = make_sampler(method, PARAMETERS, 7)
            trial = study.ask()
            found.append(draw(trial, PARAMETERS))
            study.tell(trial, synthetic(found[-1]))
        return found

    found = trials(restart=False)
    assert found == trials(restart=True)
    assert len({str(values) for values in found}) == len(found)
    other = optuna.create_study(sampler=make_sampler(method, PARAMETERS, 8))
    assert draw(other.ask(), PARAMETERS) != found[0]


def test_a_trial_keeps_its_values_whoever_asks_again() -> None:
    study = optuna.create_study(sampler=make_sampler("random", PARAMETERS, 7))
    trial = study.ask()
    values = draw(trial, PARAMETERS)
    study.sampler = make_sampler("random", PARAMETERS, 8)
    again = optuna.Trial(study, trial._trial_id)
    assert draw(again, PARAMETERS) == values == stored_values(study.trials[0].params, PARAMETERS)
    assert values["dims"] in PARAMETERS["dims"].grid()


def test_only_the_first_trials_of_a_method_depend_on_no_result() -> None:
    def drawn(results: list[float]) -> dict[str, Any]:
        study = optuna.create_study(sampler=make_sampler("bayes", PARAMETERS, 7))
        for result in results:
            trial = study.ask()
            draw(trial, PARAMETERS)
            study.tell(trial, result)
        return draw(study.ask(), PARAMETERS)

    startup = STARTUP["bayes"]
    assert startup == 10
    assert drawn([1.0] * (startup - 1)) == drawn([float(k) for k in range(startup - 1)])
    assert drawn([float(k) for k in range(startup)]) != drawn([float(-k) for k in range(startup)])


def test_cma_is_refused_where_it_cannot_search(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    with pytest.raises(ValueError, match="at least two parameters that are ranges"):
        make_sampler("cma", {"a": Range(0, 1), "b": Choice((1, 2))}, 0)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'bargain-train\[cma\]'"):
        make_sampler("cma", PARAMETERS, 0)


def test_the_median_pruner_spares_the_first_evaluation_and_the_first_trials() -> None:
    study = optuna.create_study(direction="maximize", pruner=make_pruner("median"))

    def pruned_at(curve: list[float]) -> int | None:
        trial = study.ask()
        for number, value in enumerate(curve, 1):
            trial.report(value, number)
            if trial.should_prune():
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
                return number
        study.tell(trial, curve[-1])
        return None

    assert [pruned_at([0.1 * k, 0.2 * k, 0.3 * k]) for k in (5, 4, 3, 2, 1)] == [None] * 5
    assert pruned_at([0.0, 0.0, 0.0]) == 2
    assert pruned_at([0.0, 0.9, 0.9]) is None


def test_halving_and_none_are_pruners_too() -> None:
    assert isinstance(make_pruner("halving"), optuna.pruners.SuccessiveHalvingPruner)
    assert isinstance(make_pruner("none"), optuna.pruners.NopPruner)
