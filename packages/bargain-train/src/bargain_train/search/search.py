"""Information-set Monte Carlo tree search for many games at once (Cowling, Powley and Whitehouse 2012).

One simulation walks from the root to the first history that has no node, makes it and evaluates it. Everything that is
known is used instead of being sampled: what accepting and walking pay, the chance that the other seat ends the game,
and, where the answers are cheap, the whole last own decision.

Legend: `G` games, `R` rows (games that still move), `I` item types, `K` offers, `A` actions, `N` hands, 2 seats (the
own one first).
"""

from __future__ import annotations

import dataclasses
from typing import Literal, NamedTuple

import torch
from bargain_eval.policy import HasProbabilities, HasValues, Policy

from bargain_train.actors import sample_cdf
from bargain_train.search.opponent import ENDS, Opponent, tell
from bargain_train.search.rules import Rules
from bargain_train.search.selection import Root, SelectionOptions, scores
from bargain_train.search.tree import Tree, weights

Evaluation = Literal["rollout", "values"]


class Searched(NamedTuple):
    """What the search of `G` games found.

    Attributes:
        action: `[G]` int64, the action to play.
        value: `[G, 2]` float32, both seats' expected payoffs of playing it.
        visits: `[G, K]` int64, the simulations spent on each offer; their sum is the budget in every row.
        means: `[G, K]` float32, the searcher's mean payoff of each offer, NaN where it was never tried.
        stop: `[G, 2]` float32, the payoffs of the better of accepting and walking.
    """

    action: torch.Tensor
    value: torch.Tensor
    visits: torch.Tensor
    means: torch.Tensor
    stop: torch.Tensor


class Situation(NamedTuple):
    """Own decisions of `R` rows.

    Attributes:
        rows: `[R]` int64, the games they belong to.
        offers: `[R, d]` int64, the offers made so far.
        weight: `[R, N]` float32, the belief.
    """

    rows: torch.Tensor
    offers: torch.Tensor
    weight: torch.Tensor

    def at(self, index: torch.Tensor) -> Situation:
        """Returns the rows that `index` (numbers or bool) picks."""
        return Situation(self.rows[index], self.offers[index], self.weight[index])


@dataclasses.dataclass(eq=False)
class Searcher:
    """Searches games in which one seat has known hands.

    Attributes:
        rules: The game.
        seat: The seat that searches.
        values: `[G, I]` int64, its values in points.
        outside: `[G]` int64, its outside offers in points.
        opponent: How the other seat plays.
        policy: The searcher's own policy: priors, rollouts, and values if `evaluation` asks for them.
        selection: Which offer to try next.
        evaluation: New nodes are worth what playing on by the policy pays ("rollout"), or what it says ("values").
        solve_last: Compute the last own decision exactly where the opponent's answers are cheap.
        generator: Source of every draw.

    Raises:
        ValueError: If "values" are asked of policies that have none.
    """

    rules: Rules
    seat: int
    values: torch.Tensor
    outside: torch.Tensor
    opponent: Opponent
    policy: Policy
    selection: SelectionOptions
    generator: torch.Generator
    evaluation: Evaluation = "rollout"
    solve_last: bool = True

    def __post_init__(self) -> None:
        if self.evaluation == "values":
            for policy in (self.policy, *self.opponent.policies):
                if not isinstance(policy, HasValues):
                    raise ValueError(f"{type(policy).__name__} has no values; evaluate by rollout.")
        rules = self.rules
        self._offers = rules.spec.num_offers
        self._points = rules.points(self.values, self.seat)
        self._shares = rules.shares(self.values, self.seat)
        self._walks = rules.walks(self.values, self.outside)
        self._solves = self.seat == 1 or (self.solve_last and self.opponent.solves_last)

    def search(self, offers: torch.Tensor, weight: torch.Tensor, num_simulations: int) -> Searched:
        """Searches all games from one decision.

        Costs for each simulation one step of every game down to a new node, at most one query of the opponent for the
        replies of a new slot and one for those of a rollout's every decision, and one query of the own policy.

        Args:
            offers: `[G, d]` int64, the offers made so far.
            weight: `[G, N]` float32, the belief about the other seat's hands.
            num_simulations: Simulations of each game, at least 1.
        """
        games, count = torch.arange(len(offers), device=offers.device), num_simulations
        root = Situation(games, offers, weight)
        stop, stop_action = self._stops(root)
        if self._is_solved(offers.shape[1]):
            return self._known(root, stop, stop_action, count)
        tree = Tree(
            len(games), count, self._offers, self.opponent.kept_hands, self.rules.spec.max_turns, self.rules.device
        )
        top = self._make_nodes(tree, root)
        first = Root(self.selection, tree.prior[:, 0], count, self.generator)
        for simulation in range(count):
            chosen = first.choose(simulation, tree.visits[:, 0], tree.means(games, top), tree.value[:, 0, 0])
            self._simulate(tree, root, chosen)
        visits, means = tree.visits[:, 0], tree.means(games, top)
        best = first.best(visits, means, tree.value[:, 0, 0])
        earned = tree.sums[games, 0, best] / weights(tree.visits[games, 0, best])[:, None]
        stops = stop[:, 0] >= earned[:, 0]
        return Searched(
            action=torch.where(stops, stop_action, best),
            value=torch.where(stops[:, None], stop, earned),
            visits=visits.long(),
            means=torch.where(visits > 0, means, torch.nan),
            stop=stop,
        )

    def _known(self, root: Situation, stop: torch.Tensor, stop_action: torch.Tensor, count: int) -> Searched:
        """Returns the answer at the last own decision, where every simulation would find the same."""
        action, value, means = self._solution(root, stop)
        visits = torch.zeros(means.shape, dtype=torch.int64, device=means.device)
        visits[root.rows, means.nan_to_num(-torch.inf).argmax(1)] = count
        return Searched(torch.where(action < 0, stop_action, action), value, visits, means, stop)

    def _simulate(self, tree: Tree, root: Situation, chosen: torch.Tensor) -> None:
        situation, nodes = root, torch.zeros_like(root.rows)
        worth = torch.zeros(len(root.rows), 2, device=self.rules.device)
        path = []
        while True:
            ended, goes_on, slots = self._try(tree, situation, nodes, chosen)
            path.append((situation, nodes, chosen, ended, goes_on))
            moving = torch.nonzero(goes_on > 0)[:, 0]
            if not len(moving):
                break
            situation, nodes = self._counter(tree, situation, chosen, slots, moving, worth)
            stop = tree.stop[situation.rows, nodes]
            best, chosen = self._select(tree, situation.rows, nodes).max(dim=1)
            stops = stop[:, 0] >= best
            worth[situation.rows[stops]] = stop[stops]
            going = torch.nonzero(~stops)[:, 0]
            if not len(going):
                break
            situation, nodes, chosen = situation.at(going), nodes[going], chosen[going]
        for (rows, offers, _), visited, tried, ended, goes_on in reversed(path):
            payoffs = ended + goes_on[:, None] * worth[rows]
            worth[rows] = tree.back_up(rows, visited, tried, offers.shape[1], payoffs)

    def _select(self, tree: Tree, rows: torch.Tensor, nodes: torch.Tensor) -> torch.Tensor:
        means, value = tree.means(rows, nodes), tree.value[rows, nodes, 0]
        return scores(self.selection, tree.visits[rows, nodes], means, tree.prior[rows, nodes], value)

    def _try(
        self, tree: Tree, situation: Situation, nodes: torch.Tensor, chosen: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Returns what ends after an offer pay `[R, 2]`, the weight of going on `[R]`, and the slots `[R]`."""
        rows, turn = situation.rows, situation.offers.shape[1] + 1
        slots = tree.slot[rows, nodes, chosen].long()
        new = torch.nonzero(slots < 0)[:, 0]
        if len(new):
            made = tree.new_slots(rows[new], nodes[new], chosen[new])
            asked = torch.cat([situation.offers[new], chosen[new, None]], dim=1)
            tree.replies[rows[new], made] = self.opponent.replies(turn, asked, situation.weight[new], rows[new])
            slots[new] = made
        replies = tree.replies[rows, slots]
        goes_on = replies[:, : self._offers].sum(1)
        return self._ended(rows, chosen, replies[:, -ENDS:], turn), goes_on, slots

    def _ended(self, rows: torch.Tensor, offers: torch.Tensor, ends: torch.Tensor, turn: int) -> torch.Tensor:
        """Returns both seats' payoffs `[..., 2]` of the ends `[..., ENDS]` of replies at decision `turn`."""
        accept, walk, paid, kept = ends.unbind(-1)
        shares = self._shares[rows, offers] if offers.dim() == 1 else self._shares[rows]
        walks = self._walks[rows] if offers.dim() == 1 else self._walks[rows, None]
        return self.rules.discount(turn) * torch.stack([accept * shares + walk * walks, paid + kept], dim=-1)

    def _counter(
        self,
        tree: Tree,
        situation: Situation,
        chosen: torch.Tensor,
        slots: torch.Tensor,
        moving: torch.Tensor,
        worth: torch.Tensor,
    ) -> tuple[Situation, torch.Tensor]:
        """Draws counteroffers for the rows `moving`, makes the nodes that are missing, and writes what those are worth.

        Returns the situations and nodes `[R]` of the rows that go on within the tree.
        """
        before, slots = situation.at(moving), slots[moving]
        rows = before.rows
        counter = sample_cdf(tree.replies[rows, slots, : self._offers], self.generator)
        made = torch.cat([before.offers, chosen[moving, None]], dim=1)
        after = Situation(rows, torch.cat([made, counter[:, None]], dim=1), before.weight)
        nodes = tree.child[rows, slots, counter].long()
        missing = torch.nonzero(nodes < 0)[:, 0]
        if len(missing):
            new = after.at(missing)
            new = new._replace(weight=self._updated(new.weight, made[missing], counter[missing], new.rows))
            index = self._make_nodes(tree, new)
            tree.child[new.rows, slots[missing], counter[missing]] = index.int()
            worth[new.rows] = tree.value[new.rows, index]
        found = nodes >= 0
        solved = tree.solved[rows, nodes.clamp_min(0)] & found
        worth[rows[solved]] = tree.value[rows[solved], nodes[solved]]
        inside = torch.nonzero(found & ~solved)[:, 0]
        nodes, within = nodes[inside], after.at(inside)
        if self.opponent.kept_hands:
            weight = tree.weight[within.rows, nodes]
        else:
            weight = self._updated(within.weight, made[inside], counter[inside], within.rows)
        return within._replace(weight=weight), nodes

    def _updated(
        self, weight: torch.Tensor, offers: torch.Tensor, counter: torch.Tensor, rows: torch.Tensor
    ) -> torch.Tensor:
        """Returns the belief after a counteroffer that the belief `weight` `[R, N]` thought possible."""
        joint = weight * self.opponent.likelihood(offers.shape[1], offers, counter, rows)
        return joint / joint.sum(1, keepdim=True)

    def _make_nodes(self, tree: Tree, situation: Situation) -> torch.Tensor:
        """Returns new nodes `[R]`, evaluated."""
        rows, decision = situation.rows, situation.offers.shape[1]
        nodes = tree.new_nodes(rows)
        if self.opponent.kept_hands:
            tree.weight[rows, nodes] = situation.weight
        stop = self._stops(situation)[0]
        tree.stop[rows, nodes] = stop
        if self._is_solved(decision):
            tree.value[rows, nodes] = self._solution(situation, stop)[1]
            tree.solved[rows, nodes] = True
            return nodes
        probs = self._own_probs(situation)
        offered = probs[:, : self._offers] + 1e-9  # a policy that never offers leaves them all alike
        tree.prior[rows, nodes] = offered / offered.sum(1, keepdim=True)
        going_on = self._say(situation, probs) if self.evaluation == "values" else self._roll_out(situation, probs)
        tree.value[rows, nodes] = tree.new_values(rows, nodes, decision, going_on)
        return nodes

    def _is_solved(self, decision: int) -> bool:
        return self._solves and decision == self.rules.last_own(self.seat)

    def _stops(self, situation: Situation) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the payoffs `[R, 2]` and the action `[R]` of the better of accepting and walking."""
        rows, offers = situation.rows, situation.offers
        spec, decision = self.rules.spec, offers.shape[1]
        others = self.opponent.stop_payoffs(offers, situation.weight, rows)
        walk = torch.stack([self._walks[rows], others[:, 1]], dim=1)
        action = torch.full_like(rows, spec.walk_action)
        if decision:
            standing = offers[:, -1]
            takes = self._points[rows, standing] >= self.outside[rows]
            accept = torch.stack([self._shares[rows, standing], others[:, 0]], dim=1)
            walk = torch.where(takes[:, None], accept, walk)
            action = torch.where(takes, spec.accept_action, action)
        return self.rules.discount(decision) * walk, action

    def _solution(self, situation: Situation, stop: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Returns the best offer `[R]` (-1 = stop), both payoffs `[R, 2]` and all offers' `[R, K]`, at the end.

        Where no offer can be made, theirs are NaN.
        """
        rows, offers, weight = situation
        if self.seat == 1:
            return torch.full_like(rows, -1), stop, torch.full_like(self._shares[rows], torch.nan)
        each = torch.arange(self._offers, device=rows.device).expand(len(rows), -1)
        payoffs = self._ended(rows, each, self.opponent.last_replies(offers, weight, rows), self.rules.last_turn)
        best, offer = payoffs[:, :, 0].max(dim=1)
        stops = stop[:, 0] >= best
        value = torch.where(stops[:, None], stop, payoffs[torch.arange(len(rows), device=rows.device), offer])
        return torch.where(stops, -1, offer), value, payoffs[:, :, 0]

    def _own_probs(self, situation: Situation) -> torch.Tensor:
        rows, offers = situation.rows, situation.offers
        assert isinstance(self.policy, HasProbabilities)
        probs: torch.Tensor = tell(
            self.rules, self.policy, self.values[rows], self.outside[rows], offers.shape[1], offers
        )
        return probs

    def _say(self, situation: Situation, probs: torch.Tensor) -> torch.Tensor:
        """Returns `[R, 2]`: what the own policy says a node is worth, and what the other seat's says after one move.

        The move is drawn from `probs` `[R, A]`, and so is the other seat's hand from the belief.
        """
        rows, offers, weight = situation
        policy = self.policy
        assert isinstance(policy, HasValues)
        view = self.rules.view(self.values[rows], self.outside[rows], offers.shape[1], offers, policy.observation)[0]
        worth = torch.empty(len(rows), 2, device=self.rules.device)
        worth[:, 0] = torch.as_tensor(policy.values(view)).to(worth)
        action = sample_cdf(probs, self.generator)
        stops = action >= self._offers
        worth[stops, 1] = self._stop_of(situation.at(stops), action[stops])[:, 1]
        made = torch.cat([offers, action[:, None]], dim=1)[~stops]
        worth[~stops, 1] = self.opponent.expects(made, sample_cdf(weight[~stops], self.generator), rows[~stops])
        return worth

    def _roll_out(self, situation: Situation, probs: torch.Tensor) -> torch.Tensor:
        """Returns `[R, 2]`: what one continuation by the own policy pays both seats; its `probs` `[R, A]` are given.

        Only the own moves and the counteroffers are drawn.
        """
        worth = torch.zeros(len(probs), 2, device=self.rules.device)
        factor = torch.ones(len(probs), device=self.rules.device)
        index = torch.arange(len(probs), device=self.rules.device)
        while True:
            rows, offers, weight = situation
            turn = offers.shape[1] + 1
            action = sample_cdf(probs, self.generator)
            stops = action >= self._offers
            worth[index[stops]] += factor[stops, None] * self._stop_of(situation.at(stops), action[stops])
            goes = torch.nonzero(~stops)[:, 0]
            if not len(goes):
                return worth
            situation, index, factor, action = situation.at(goes), index[goes], factor[goes], action[goes]
            rows, offers, weight = situation
            made = torch.cat([offers, action[:, None]], dim=1)
            replies = self.opponent.replies(turn, made, weight, rows)
            worth[index] += factor[:, None] * self._ended(rows, action, replies[:, -ENDS:], turn)
            factor = factor * replies[:, : self._offers].sum(1)
            moving = torch.nonzero(factor > 0)[:, 0]
            if not len(moving):
                return worth
            index, factor = index[moving], factor[moving]
            counter = sample_cdf(replies[moving, : self._offers], self.generator)
            weight = self._updated(weight[moving], made[moving], counter, rows[moving])
            situation = Situation(rows[moving], torch.cat([made[moving], counter[:, None]], dim=1), weight)
            if self._is_solved(turn + 1):
                worth[index] += factor[:, None] * self._solution(situation, self._stops(situation)[0])[1]
                return worth
            probs = self._own_probs(situation)

    def _stop_of(self, situation: Situation, action: torch.Tensor) -> torch.Tensor:
        """Returns both seats' payoffs `[R, 2]` of accepting or walking, as `action` `[R]` says."""
        rows, offers, weight = situation
        others = self.opponent.stop_payoffs(offers, weight, rows)
        accepts = action == self.rules.spec.accept_action
        standing = offers[:, -1] if offers.shape[1] else torch.zeros_like(rows)
        own = torch.where(accepts, self._shares[rows, standing], self._walks[rows])
        other = torch.where(accepts, others[:, 0], others[:, 1])
        return self.rules.discount(offers.shape[1]) * torch.stack([own, other], dim=1)
