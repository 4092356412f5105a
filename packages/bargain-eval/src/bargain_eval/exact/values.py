"""Expected payoffs, best responses and NashConv, exactly, in a few array operations per decision.

A `Strategy` is one seat's behaviour: a tuple with one array `[H, T, A]` per round, the probabilities of the legal
actions (`TabularGame.actions`) of the seat's decision `2 * round + seat`. A `Profile` is the strategies of both seats.
A `Plan` has a strategy's shapes and holds its realisation weights: the product of the own probabilities along the way
to an action (von Stengel 1996). A `Flow`, `[H, A]` per round, is a plan averaged over the types.

Types are independent and values are private. So all that a seat's payoff depends on, besides its own strategy, is the
flow of its opponent: where offer `x` stands, an opponent that accepts with weight `f` adds
`f * discount**round * share(x, t)` to the payoff of the own type `t`, and one that walks adds
`f * discount**round * walk(t)`. Everything is therefore linear in the flow, and a mixture of opponents is the mean of
their flows.

Legend: `H` histories before a decision, `T` types, `K` offers, `A` legal actions of a decision, 2 seats.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from bargain_eval.exact.game import FloatArray, TabularGame

Strategy = tuple[FloatArray, ...]
Profile = tuple[Strategy, Strategy]
Plan = tuple[FloatArray, ...]
Flow = tuple[FloatArray, ...]

_TIE = 1e-12  # relative: what differs by less counts as equal, and the lowest action is taken


def realisation(game: TabularGame, strategy: Strategy) -> Plan:
    """Returns the realisation weights of a strategy; an opponent's and chance's probabilities are left out."""
    plan: list[FloatArray] = []
    for behaviour in strategy:
        reach = own_reach(game, plan[-1]) if plan else np.ones((len(behaviour), game.num_types))
        plan.append(reach[:, :, None] * behaviour)
    return tuple(plan)


def own_reach(game: TabularGame, plan: FloatArray) -> FloatArray:
    """Returns `[H, T]`: the own weight of reaching the seat's next decision, from a round's plan."""
    num_offers = game.spec.num_offers
    offered = plan[:, :, :num_offers].transpose(0, 2, 1).reshape(-1, game.num_types)
    return np.repeat(offered, num_offers, axis=0)  # whatever the opponent counters


def flow(game: TabularGame, plan: Plan) -> Flow:
    """Returns the plan averaged over the seat's types: `[H, A]` per round."""
    return tuple(game.chance @ weights for weights in plan)


def action_values(game: TabularGame, seat: int, against: Flow, strategy: Strategy) -> tuple[Strategy, FloatArray]:
    """Returns what every action of a seat is worth, by backward induction.

    Args:
        game: The game.
        seat: The seat that acts.
        against: The flow of the other seat.
        strategy: What the seat plays afterwards.

    Returns:
        Counterfactual values (Zinkevich et al. 2007), an array `[H, T, A]` per round: the expected payoff of the own
        type if it plays to this action and then by `strategy`, times the opponent's weight of the history; the own
        type's probability is left out. And `[T]`, the expected payoff of each type.
    """
    worth: list[FloatArray] = []
    root = _backward(game, seat, against, strategy, worth)
    return tuple(reversed(worth)), root


def type_values(game: TabularGame, seat: int, against: Flow, strategy: Strategy) -> FloatArray:
    """Returns `[T]`: the expected payoff of each type of `seat` that plays `strategy` against a flow."""
    return _backward(game, seat, against, strategy, None)


def best_response(game: TabularGame, seat: int, against: Flow) -> tuple[Strategy, FloatArray]:
    """Returns a best response to a flow, and `[T]`, what it pays each type.

    The response is pure. Actions whose values differ by less than 1e-12 of themselves tie, and the lowest is taken; so
    it is where the opponent never goes, because nothing matters there.
    """
    worth: list[FloatArray] = []
    root = _backward(game, seat, against, None, worth)
    return tuple(_first_best(values) for values in reversed(worth)), root


def best_response_values(game: TabularGame, seat: int, against: Flow) -> FloatArray:
    """Returns `[T]`: what a best response to a flow pays each type."""
    return _backward(game, seat, against, None, None)


def _backward(
    game: TabularGame, seat: int, against: Flow, strategy: Strategy | None, worth: list[FloatArray] | None
) -> FloatArray:
    """Returns the values `[T]` at the root under `strategy` (None: the best), and appends each round's to `worth`."""
    below: FloatArray = np.zeros((0, game.num_types))
    for decision in reversed(range(game.spec.max_turns)):
        if decision % 2 == seat:
            values = _own_values(game, seat, decision, against, below)
            if worth is not None:
                worth.append(values)
            if strategy is None:
                below = values.max(axis=2)
            else:
                below = np.einsum("hta,hta->ht", values, strategy[decision // 2])
        else:
            below = _others_values(game, seat, decision, against[decision // 2], below)
    root: FloatArray = below[0]
    return root


def _own_values(game: TabularGame, seat: int, decision: int, against: Flow, below: FloatArray) -> FloatArray:
    shape, num_offers = game.shape(decision), game.spec.num_offers
    values = np.empty(shape)
    if len(below):
        values[:, :, :num_offers] = below.reshape(-1, num_offers, game.num_types).transpose(0, 2, 1)
    weight = history_weights(game, decision, against) * game.discount(decision)
    if decision:
        values[:, :, -2] = _deal(game, seat, weight)
    values[:, :, -1] = weight[:, None] * game.walk
    return values


def _others_values(game: TabularGame, seat: int, decision: int, others: FloatArray, below: FloatArray) -> FloatArray:
    discounted = others * game.discount(decision)
    values: FloatArray = discounted[:, -1:] * game.walk
    if decision:
        values += _deal(game, seat, discounted[:, -2])
    if len(below):
        values += below.reshape(-1, game.spec.num_offers, game.num_types).sum(axis=1)
    return values


def _deal(game: TabularGame, seat: int, weight: FloatArray) -> FloatArray:
    """Returns `[H, T]`: what the standing offer pays each type, times `weight` `[H]`."""
    share = game.shares[seat]
    deal: FloatArray = (weight.reshape(-1, len(share), 1) * share).reshape(len(weight), -1)
    return deal


def history_weights(game: TabularGame, decision: int, against: Flow) -> FloatArray:
    """Returns `[H]`: the weight with which the opponent plays to the histories of a seat's decision."""
    if decision == 0:
        return np.ones(1)
    offered: FloatArray = against[(decision - 1) // 2][:, : game.spec.num_offers].reshape(-1)
    return offered


def _first_best(values: FloatArray) -> FloatArray:
    best = values.max(axis=2, keepdims=True)
    chosen = np.argmax(values >= best * (1 - _TIE), axis=2)
    pure: FloatArray = (chosen[:, :, None] == np.arange(values.shape[2])).astype(np.float64)
    return pure


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluation:
    """What a profile is worth, and what each seat could gain by leaving it.

    Payoffs are shares of the own total, after any discount, in expectation over deals and play.

    Attributes:
        payoffs: `[2]` float64, the payoff of each seat.
        best_payoffs: `[2]` float64, of a best response of the seat to the other seat's strategy.
        interim_payoffs: `[2, T]` float64, `payoffs` by own type.
        interim_regret: `[2, T]` float64, the best response's payoff minus the profile's, by own type.
        agreement_rate: The probability that the game ends in a deal.
    """

    payoffs: FloatArray
    best_payoffs: FloatArray
    interim_payoffs: FloatArray
    interim_regret: FloatArray
    agreement_rate: float

    @property
    def gains(self) -> FloatArray:
        """`[2]` float64, the best response's payoff minus the profile's."""
        return self.best_payoffs - self.payoffs

    @property
    def nash_conv(self) -> float:
        """The sum of both gains, not divided by two; 0 exactly in a Nash equilibrium."""
        return float(self.gains.sum())

    @property
    def welfare(self) -> float:
        """The sum of both payoffs."""
        return float(self.payoffs.sum())


def evaluate(game: TabularGame, profile: Profile) -> Evaluation:
    """Evaluates a profile: two forward passes over its tables and four backward ones."""
    flows = [flow(game, realisation(game, strategy)) for strategy in profile]
    payoffs = np.stack([type_values(game, seat, flows[1 - seat], profile[seat]) for seat in range(2)])
    best = np.stack([best_response_values(game, seat, flows[1 - seat]) for seat in range(2)])
    return Evaluation(
        payoffs=payoffs @ game.chance,
        best_payoffs=best @ game.chance,
        interim_payoffs=payoffs,
        interim_regret=best - payoffs,
        agreement_rate=agreement_rate(game, flows[0], flows[1]),
    )


def regret_by_outside(game: TabularGame, evaluation: Evaluation, bins: int = 10) -> FloatArray:
    """Returns `[2, bins]`: each seat's mean interim regret over the types whose outside offer is alike.

    Bin `b` holds the types with an outside offer above `b / bins` and up to `(b + 1) / bins` of the own total; without
    any it is NaN. Regret in the last bins means that the policy misses walks.
    """
    place = (game.outside * bins - 1) // game.total
    weight = np.bincount(place, game.chance, bins)
    sums = np.stack([np.bincount(place, game.chance * regret, bins) for regret in evaluation.interim_regret])
    return np.divide(sums, weight, out=np.full_like(sums, np.nan), where=weight > 0)


def nash_conv(game: TabularGame, profile: Profile) -> float:
    """Returns the sum of both seats' gains from a best response; see `Evaluation.nash_conv`."""
    return evaluate(game, profile).nash_conv


def agreement_rate(game: TabularGame, first: Flow, second: Flow) -> float:
    """Returns the probability of a deal between the flows of seat 0 and seat 1."""
    flows = first, second
    return sum(
        float(history_weights(game, decision, flows[1 - decision % 2]) @ flows[decision % 2][decision // 2][:, -2])
        for decision in range(1, game.spec.max_turns)
    )
