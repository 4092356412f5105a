"""The result of `bargain-eval metagame` as tables for a reader, and as the rows of a CSV file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.table import Table

TOP_PAIRS = 10
"""Partner lifts that are printed; the JSON file has all."""

_WELFARE = ("utilitarian", "nash", "egalitarian", "nash_plus")


def tables(result: Mapping[str, Any]) -> Iterator[Table]:
    """Yields the tables of a result in JSON's types (see `metagame.study`), the most important first."""
    yield _leaderboard(result)
    yield _welfare(result)
    if len(result["solvers"]) > 1:
        yield _solvers(result)
    if result["partner_lift"] is not None:
        yield _partner_lift(result)
        yield _ecosystem_lift(result)
    if result["coalitions"] is not None:
        yield _coalitions(result)
    if result["mistakes"]:
        yield _mistakes(result)


def csv_rows(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns one flat row per policy, in the leaderboard's order; what is not known is None."""
    rows = []
    for rank, entry in enumerate(result["leaderboard"], start=1):
        name = entry["policy"]
        row: dict[str, Any] = {"rank": rank}
        for key, value in entry.items():
            row |= _flat(key, value)
        k = result["policies"].index(name)
        if result["ecosystem_lift"] is not None:
            lift = result["ecosystem_lift"][name]
            row |= {f"ecosystem_lift_{measure}": value for measure, value in lift["welfare"].items()}
            row |= _flat("equilibrium_shift", lift["shift"])
            for kind, value in result["partner_lift"]["summary"][name].items():
                row |= _flat(f"partner_lift_{kind}", value)
        if result["coalitions"] is not None:
            for kind in ("shapley", "banzhaf"):
                values = zip(result["coalitions"]["measures"], result["coalitions"][kind][k], strict=True)
                row |= {f"{kind}_{measure}": value for measure, value in values}
        for mistake, rates in result["mistakes"].get(name, {}).items():
            row |= _flat(mistake, rates)
        rows.append(row)
    return rows


def _flat(key: str, value: Any) -> dict[str, Any]:
    """Returns nested lists as columns: `ci` pairs end in _low and _high, pairs over seats in _0 and _1."""
    if not isinstance(value, list):
        return {key: value}
    flat: dict[str, Any] = {}
    is_interval = key.endswith("_ci")
    for index, item in enumerate(value):
        if is_interval and not isinstance(item, list):
            flat[f"{key.removesuffix('_ci')}_{('low', 'high')[index]}"] = item
        elif is_interval:
            flat |= _flat(f"{key.removesuffix('_by_seat_ci')}_{index}_ci", item)
        else:
            flat |= _flat(f"{key.removesuffix('_by_seat')}_{index}", item)
    return flat


def _leaderboard(result: Mapping[str, Any]) -> Table:
    seats = "one mixture for both seats" if result["symmetric"] else "seat 0 / seat 1"
    table = _table(
        f"Policies by NE-regret, least first; solver {result['solver']}, {seats}",
        "",
        "policy",
        "NE-regret",
        "by seat",
        "leave-one-out",
        "uniform score",
        "equilibrium mass",
        "in support",
    )
    for rank, entry in enumerate(result["leaderboard"], start=1):
        table.add_row(
            str(rank),
            entry["policy"],
            _with_interval(entry["ne_regret"], entry["ne_regret_ci"]),
            _pair(entry["ne_regret_by_seat"]),
            _number(entry["leave_one_out_regret"]),
            _number(entry["uniform_score"]),
            _pair(entry["mass"], 3),
            _pair(entry["support_frequency"], 2),
        )
    return table


def _welfare(result: Mapping[str, Any]) -> Table:
    solution, boot = result["solution"], result["bootstrap"]
    sampled = ""
    if boot is not None:
        sampled = f"; {boot['level']:.0%} intervals of {boot['resamples']} resamples, {boot['failures']} failed"
    proof = "" if solution["converged"] else ", the choice among equilibria not proven"
    title = f"In equilibrium (its regret {max(solution['regret']):.1e}{proof}){sampled}"
    table = _table(title, "", "normalised", "points")
    for seat in range(2):
        interval = None if solution["payoff_ci"] is None else solution["payoff_ci"][seat]
        table.add_row(f"payoff of seat {seat}", _with_interval(solution["payoff"][seat], interval), "")
    welfare = result["welfare"]
    for name in _WELFARE:
        if name in welfare:
            points = welfare.get(f"{name}_points", {"value": None})["value"]
            table.add_row(
                name,
                _with_interval(welfare[name]["value"], welfare[name]["ci"]),
                "" if points is None else f"{points:.1f}",
            )
    if result["efficiency"] is not None:
        efficiency = result["efficiency"]
        table.add_row("efficiency", f"{efficiency['normalised']:.1%}", f"{efficiency['points']:.1%}")
    for name, entry in welfare.items():
        if name.removesuffix("_points") not in _WELFARE:
            table.add_row(f"{name} (share)", _with_interval(entry["value"], entry["ci"]), "")
    return table


def _solvers(result: Mapping[str, Any]) -> Table:
    table = _table(
        "Does the solver matter?", "solver", "utilitarian", "difference", "regret", "played (mass of both seats)"
    )
    for name, entry in result["solvers"].items():
        masses = [(a + b) / 2 for a, b in zip(entry["row"], entry["column"], strict=True)]
        order = sorted(range(len(masses)), key=lambda k: -masses[k])
        played = ", ".join(f"{result['policies'][k]} {masses[k]:.2f}" for k in order[:4] if masses[k] >= 0.005)
        table.add_row(
            name if entry["converged"] else f"{name} (not converged)",
            _number(entry["welfare"]["utilitarian"]),
            _number(entry["welfare_difference"]["utilitarian"]),
            f"{max(entry['regret']):.1e}",
            played,
        )
    return table


def _partner_lift(result: Mapping[str, Any]) -> Table:
    table = _table(
        f"The {TOP_PAIRS} largest partner lifts: payoff with the partner less payoff in the equilibrium of the others",
        "policy",
        "seat",
        "partner",
        "lift",
    )
    names, lifts = result["policies"], result["partner_lift"]
    pairs = [
        (lifts[key][i][j], seat, i, j)
        for seat, key in enumerate(("row", "column"))
        for i in range(len(names))
        for j in range(len(names))
        if i != j
    ]
    for lift, seat, i, j in sorted(pairs, key=lambda pair: -pair[0])[:TOP_PAIRS]:
        table.add_row(names[i], str(seat), names[j], _number(lift))
    return table


def _ecosystem_lift(result: Mapping[str, Any]) -> Table:
    measures = [name for name in _WELFARE if name in result["welfare"]]
    table = _table("What each policy's entry does to the equilibrium", "policy", *measures, "entry mass", "shift")
    for name, lift in result["ecosystem_lift"].items():
        changes = [_number(lift["welfare"][measure]) for measure in measures]
        table.add_row(name, *changes, _pair(lift["entry_mass"], 3), _pair(lift["shift"], 3))
    return table


def _coalitions(result: Mapping[str, Any]) -> Table:
    coalitions = result["coalitions"]
    how = "exact" if coalitions["exact"] else f"{coalitions['samples']} samples"
    failed = f", {coalitions['failures']} not solved" if coalitions["failures"] else ""
    how = f"{coalitions['solver']}, {how}, {coalitions['solved']} coalitions{failed}"
    title = f"Contribution to equilibrium welfare ({how})"
    measures = coalitions["measures"]
    columns = [("Shapley", m) for m in range(len(measures))] + [("Banzhaf", 0)]
    table = _table(title, "policy", *(f"{kind}, {measures[m]}" for kind, m in columns))
    for k, name in enumerate(result["policies"]):
        cells = []
        for kind, m in columns:
            errors = coalitions[f"{kind.lower()}_se"]
            error = "" if errors is None else f" ± {errors[k][m]:.4f}"
            cells.append(_number(coalitions[kind.lower()][k][m]) + error)
        table.add_row(name, *cells)
    return table


def _mistakes(result: Mapping[str, Any]) -> Table:
    kinds = list(next(iter(result["mistakes"].values())))
    table = _table(
        "Mistakes per chance to make them, seat 0 / seat 1, against all policies",
        "policy",
        *(kind.replace("_", " ") for kind in kinds),
    )
    for name, rates in result["mistakes"].items():
        table.add_row(name, *(_pair(rates[kind], 3) for kind in kinds))
    return table


def _table(title: str, *heads: str) -> Table:
    return Table(*heads, title=title, title_justify="left")


def _number(value: float | None, digits: int = 4) -> str:
    return "-" if value is None else f"{round(value, digits) + 0.0:.{digits}f}"


def _pair(values: Sequence[float | None] | None, digits: int = 4) -> str:
    return "" if values is None else " / ".join(_number(value, digits) for value in values)


def _with_interval(value: float | None, interval: Sequence[float] | None) -> str:
    return _number(value) if interval is None else f"{_number(value)} [{_number(interval[0])}, {_number(interval[1])}]"
