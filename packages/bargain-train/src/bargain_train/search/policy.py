"""The policy that searches before every move, and the entry point that builds it.

Legend: `B` rows, `G` rows of one decision, `A` actions, `K` offers, `O` features.
"""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import numpy as np
import torch
from bargain_env.spec import GameSpec, ObservationKind
from bargain_eval.by_seat import policy_of_seat
from bargain_eval.mixture import Mixture, weighted_members
from bargain_eval.policy import (
    HasProbabilities,
    Policy,
    PolicyRequest,
    check_shapes,
    is_tensor,
    like,
    read_bool,
    sample_actions,
    to_numpy,
)
from bargain_eval.registry import load_policy

from bargain_train.search.beliefs import BeliefOptions, effective_sample_size, posterior, prior_hands, rejuvenate
from bargain_train.search.log import SearchLog
from bargain_train.search.opponent import AskedOpponent, Hands, Opponent, TabledOpponent
from bargain_train.search.rules import Rules
from bargain_train.search.search import Evaluation, Searched, Searcher
from bargain_train.search.selection import SelectionOptions
from bargain_train.search.tree import Tree

_BYTES = 2**29  # of the trees that are searched at once


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchOptions:
    """How a `SearchPolicy` searches.

    Attributes:
        num_simulations: Simulations before each move.
        evaluation: What a new node is worth: "rollout" plays on by the policy, "values" asks it.
        selection: Which offer to try next.
        belief: What is believed of the other seat's hand.
        solve_last: Compute the last own decision exactly where the opponent's answers are cheap.

    Raises:
        ValueError: If the budget is below 1.
    """

    num_simulations: int = 100
    evaluation: Evaluation = "rollout"
    selection: SelectionOptions = dataclasses.field(default_factory=SelectionOptions)
    belief: BeliefOptions = dataclasses.field(default_factory=BeliefOptions)
    solve_last: bool = True

    def __post_init__(self) -> None:
        if self.num_simulations < 1:
            raise ValueError(f"num_simulations must be at least 1, got {self.num_simulations}.")


class SearchPolicy:
    """Improves a policy by searching from every decision, against a model of the other seat.

    It reads the history, because what the other seat did tells of its hand, and treats each row on its own. A row with
    a single legal action takes it. Cost: `Searcher.search`, in parts that take some 500 MB.

    Args:
        policy: The policy to improve: it proposes moves, and plays or values what comes after new nodes.
        opponent: The model of the other seat; `policy` itself if None. A `Mixture` may be any of its members, of which
            one plays the whole game: what it does tells which.
        options: The search.
        seed: Seed of the hands sampled, and of the generator used when `get_action` is called without one.

    Attributes:
        spec: The game.
        log: What its searches were like so far.

    Raises:
        ValueError: If a policy does not tell its probabilities, or is of another game.
    """

    observation: ObservationKind = "history"

    def __init__(
        self, policy: Policy, opponent: Policy | None = None, *, options: SearchOptions | None = None, seed: int = 0
    ) -> None:
        self.options = options or SearchOptions()
        own = getattr(policy, "spec", None)
        self.spec = (own if isinstance(own, GameSpec) else GameSpec()).with_observation("history")
        other = getattr(opponent, "spec", None)
        if isinstance(other, GameSpec) and not other.same_game(self.spec):
            raise ValueError(f"the opponent was made for another game: {other}, not {self.spec}.")
        self.device = policy.device
        self._rules = Rules(self.spec, self.device)
        self._own = tuple(_as_one(policy_of_seat(policy, seat)) for seat in range(2))
        model = policy if opponent is None else opponent
        self._models = tuple(weighted_members(policy_of_seat(model, seat)) for seat in range(2))
        for member in (*self._own, *(each for models in self._models for each, _ in models)):
            _checked(member)
        self._opponents: dict[int, Opponent] = {}
        self.log = SearchLog()
        self._seed, self._rng = seed, np.random.default_rng(seed)

    def get_action(
        self, obs: Any, action_mask: Any, rng: np.random.Generator | None = None, game_ids: Any = None
    ) -> Any:
        """See `bargain_eval.Policy.get_action`."""
        check_shapes(self.spec, self.observation, obs, action_mask)
        mask = torch.atleast_2d(self._tensor(action_mask)).bool()
        rows = torch.atleast_2d(self._tensor(obs))
        actions = mask.int().argmax(1)
        free = torch.nonzero(mask.sum(1) > 1)[:, 0]
        if len(free):
            found = self.search(rows[free], rng).action
            legal = mask[free, found]
            actions[free] = torch.where(legal, found, self.spec.walk_action)
        chosen = actions if len(obs.shape) == 2 else actions[0]
        return chosen.to(obs.device) if is_tensor(obs) else chosen.cpu().numpy()[()]

    def search(self, obs: Any, rng: np.random.Generator | None = None) -> Searched:
        """Searches the decisions that history observations `[B, O]` show; they may be of any seats and rounds."""
        rng = self._rng if rng is None else rng
        rows = self._tensor(obs).float()
        seen = self.spec.read_observation(rows.cpu().numpy())
        decision = torch.as_tensor(2 * seen.round + seen.seat, device=self.device)
        hands = torch.as_tensor(seen.values, device=self.device), torch.as_tensor(seen.outside, device=self.device)
        parts, order = [], []
        for number in torch.unique(decision).tolist():
            index = torch.nonzero(decision == number)[:, 0]
            offers = self._rules.offers_made(rows[index], number)
            for some, found in self._search_decision(number, hands[0][index], hands[1][index], offers, rng):
                order.append(index[some])
                parts.append(found)
        back = torch.argsort(torch.cat(order))
        return Searched(*(torch.cat(columns)[back] for columns in zip(*parts, strict=True)))

    def _tensor(self, array: Any) -> torch.Tensor:
        """Returns `array` on the policy's device; numpy is copied, because it may be read-only."""
        return array.to(self.device) if is_tensor(array) else torch.tensor(array, device=self.device)

    def _search_decision(
        self,
        decision: int,
        values: torch.Tensor,
        outside: torch.Tensor,
        offers: torch.Tensor,
        rng: np.random.Generator,
    ) -> list[tuple[torch.Tensor, Searched]]:
        """Returns what was found in groups of rows, which are given by their indices."""
        seat, options = decision % 2, self.options
        opponent = self._opponent(1 - seat)
        padded, which = torch.unique(torch.nn.functional.pad(offers, (1, 0)), dim=0, return_inverse=True)
        histories = padded[:, 1:]
        weight = posterior(opponent, histories, options.belief)
        effective = effective_sample_size(weight) / opponent.num_hands
        worn = effective < options.belief.least_ess
        result = []
        for fresh in (False, True):
            chosen = torch.nonzero(worn if fresh else ~worn)[:, 0]
            rows = torch.nonzero(worn[which] == fresh)[:, 0]
            if not len(rows):
                continue
            model, belief = opponent, weight[chosen]
            if fresh:
                model = rejuvenate(opponent, histories[chosen], belief, options.belief, rng)
                belief = model.hands.weight
            place = torch.searchsorted(chosen, which[rows])
            size = max(1, _BYTES // Tree.bytes_of_game(options.num_simulations, self.spec.num_offers, model.kept_hands))
            for part in torch.split(torch.arange(len(rows), device=self.device), size):
                index = rows[part]
                searcher = Searcher(
                    rules=self._rules,
                    seat=seat,
                    values=values[index],
                    outside=outside[index],
                    opponent=_of_rows(model, place[part]),
                    policy=self._own[seat],
                    selection=options.selection,
                    generator=torch.Generator(self.device).manual_seed(int(rng.integers(2**63))),
                    evaluation=options.evaluation,
                    solve_last=options.solve_last,
                )
                start = time.perf_counter()
                found = searcher.search(offers[index], belief[place[part]], options.num_simulations)
                seconds = time.perf_counter() - start
                self.log.add(decision, found.value, found.visits, effective[which[index]], seconds)
                result.append((index, found))
        return result

    def _opponent(self, seat: int) -> Opponent:
        """Returns the model of `seat` with hands from the prior, made at its first use."""
        if seat not in self._opponents:
            members, shares = zip(*self._models[seat], strict=True)
            rng = np.random.default_rng(np.random.SeedSequence(self._seed, spawn_key=(seat,)))
            hands = prior_hands(self.spec, self.options.belief.particles, shares, rng, self.device)
            standing = all(member.observation == "standing" for member in members)
            kind = TabledOpponent if standing else AskedOpponent
            self._opponents[seat] = kind(self._rules, seat, members, hands)
        return self._opponents[seat]


def _of_rows(opponent: Opponent, sets: torch.Tensor) -> Opponent:
    """Returns the opponent with one set of hands for each of the rows, of which `sets` `[G]` names the number."""
    if len(opponent.hands.weight) == 1:
        return opponent
    hands = Hands(*(part[sets] for part in opponent.hands))
    return AskedOpponent(opponent.rules, opponent.seat, opponent.policies, hands)


class MeanPolicy:
    """The probabilities and values of a mixture, averaged over its members whatever they did before.

    Attributes:
        observation: The mixture's.
        device: The mixture's.
    """

    def __init__(self, mixture: Mixture) -> None:
        self.observation, self.device = mixture.observation, mixture.device
        self._members = [(_checked(policy), share) for policy, share in weighted_members(mixture)]

    def get_action(
        self, obs: Any, action_mask: Any, rng: np.random.Generator | None = None, game_ids: Any = None
    ) -> Any:
        """See `bargain_eval.Policy.get_action`; a draw from `action_probs`."""
        probs = np.atleast_2d(to_numpy(self.action_probs(obs, action_mask)))
        actions = sample_actions(probs, np.random.default_rng(0) if rng is None else rng)
        return like(obs, actions if len(obs.shape) == 2 else actions[0])

    def action_probs(self, obs: Any, action_mask: Any) -> Any:
        """See `bargain_eval.policy.HasProbabilities`."""
        parts = [share * torch.as_tensor(policy.action_probs(obs, action_mask)) for policy, share in self._members]
        return sum(parts[1:], start=parts[0])


def _checked(policy: Policy) -> HasProbabilities:
    if not isinstance(policy, HasProbabilities):
        raise ValueError(f"{type(policy).__name__} does not tell its action probabilities, which search needs.")
    return policy


def _as_one(policy: Policy) -> Policy:
    return MeanPolicy(policy) if isinstance(policy, Mixture) else policy


def load_search(request: PolicyRequest) -> SearchPolicy:
    """Loads `search:POLICY[?num_simulations=100&gumbel&...]`.

    Raises:
        ValueError: If the inner policy string or an option does not fit.
    """
    given = request.read_options(
        num_simulations=int,
        gumbel=read_bool,
        uct=read_bool,
        c_uct=float,
        c_puct=float,
        considered=int,
        gumbel_scale=float,
        c_visit=float,
        c_scale=float,
        evaluation=_read_evaluation,
        particles=int,
        rejuvenated=int,
        floor=float,
        temper=float,
        least_ess=float,
        opponent=str,
        solve_last=read_bool,
    )
    if not request.argument:
        raise ValueError("a search policy needs the policy that it improves: search:POLICY.")
    gumbel, uct = given.pop("gumbel", False), given.pop("uct", False)
    if gumbel and uct:
        raise ValueError("the options gumbel and uct exclude each other.")

    def load(policy: str) -> Policy:
        return load_policy(policy, request.spec, request.seed, request.device, request.results_dir)

    policy, model = load(request.argument), given.pop("opponent", None)
    selection = {"rule": "gumbel" if gumbel else "uct" if uct else "puct"} | _taken(given, SelectionOptions)
    options = SearchOptions(
        selection=SelectionOptions(**selection), belief=BeliefOptions(**_taken(given, BeliefOptions)), **given
    )
    return SearchPolicy(policy, None if model is None else load(model), options=options, seed=request.seed)


def _read_evaluation(text: str) -> str:
    if text not in ("rollout", "values"):
        raise ValueError(f"{text!r} is neither rollout nor values")
    return text


def _taken(given: dict[str, Any], kind: type[Any]) -> dict[str, Any]:
    """Takes the fields of a dataclass out of `given` and returns them."""
    return {field.name: given.pop(field.name) for field in dataclasses.fields(kind) if field.name in given}
