"""External sampling over batches of engine states: what each action of a seat would have earned.

One traversal is one deal. At the decisions of the seat that traverses, accepting, walking and offers are followed:
every offer, or a few that are drawn and weighted by importance. At those of the other seat its chances of accepting and
walking are taken as they are, and one offer is drawn for the games that go on, which weigh as much as it goes on.

Lanctot et al. 2009 (external sampling); Brown et al. 2019, algorithm 2.

Legend: `K` traversals, `n` states of one decision, `k` offers followed at an own decision, `J = k + 2` actions, `S`
offers, `A` actions, `O` features, `C` packed features, `R` rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from bargain_env import GameSpec
from bargain_env.engine import Engine, make_engine
from bargain_env.torchrl_views import as_tensors, for_engine
from tensordict import TensorDict, TensorDictBase

from bargain_train.actors import draw_cdf, sample_cdf
from bargain_train.buffers import pack_observation
from bargain_train.seeds import derive_seed

Strategy = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Observations `[n, O]` and masks `[n, A]` to probabilities `[n, A]`, 0 for illegal actions."""

State = Mapping[str, torch.Tensor]

_UNIFORM_SHARE = 0.5  # of the distribution that offers are drawn from: no importance exceeds 1 / share


class Traversal(NamedTuple):
    """The samples of `K` traversals.

    Attributes:
        value: The mean payoff / own total of the seat that traverses, under both seats' strategies.
        nodes: Decisions visited.
        advantages: `[R]` rows at the decisions of the seat that traverses: `observation` `[R, C]` (packed), `action`
            `[R, J]` int16, `advantage` `[R, J]` (its value minus the strategy's), `importance` `[R, J]` (0 where there
            is no action), `weight` `[R]` (the share of the other seat's play that goes on to here, and the importance
            of the own offers).
        strategies: `[R]` rows at the decisions of the other seat: `observation` `[R, C]`, `probs` `[R, A]`, `weight`
            `[R]`.
    """

    value: float
    nodes: int
    advantages: TensorDictBase
    strategies: TensorDictBase


class Traverser:
    """Traverses the game for one seat at a time, always on new deals.

    Args:
        spec: The game and the kind of observation.
        num_traversals: Deals `K` of a batch.
        offers: Offers `k` followed at an own decision, at least 2; all if there are no more.
        seed: Key of the deals and of the offers drawn.
        device: Where states and strategies live.
        threads: CPU threads of the engines.

    Raises:
        ValueError: If `offers` is below 2.
    """

    def __init__(
        self,
        spec: GameSpec,
        num_traversals: int,
        *,
        offers: int,
        seed: int,
        device: str = "cpu",
        threads: int = 1,
    ) -> None:
        if offers < 2:
            raise ValueError(f"at least 2 offers must be followed at each decision, got {offers}.")
        self.spec, self.device = spec, device
        self.offers = min(offers, spec.num_offers)
        self._generator = torch.Generator(device=device).manual_seed(derive_seed(seed, "offers"))
        self._threads = threads if device == "cpu" else 1
        self._engines: dict[int, Engine] = {}
        self._deals = make_engine(spec, num_traversals, device, seed, threads=self._threads, views=False)
        self._deals.reset()
        quantities = torch.tensor(spec.item_quantities, dtype=torch.float32, device=device)
        given = torch.tensor(spec.offers, dtype=torch.float32, device=device)
        self._quantities, self._received = quantities, (quantities - given, given)

    def traverse(self, seat: int, strategies: tuple[Strategy, Strategy]) -> Traversal:
        """Traverses a new batch of deals for `seat`; both seats play `strategies`.

        Costs one call of a strategy for each decision of the game, on `K * k**m` rows after `m` own decisions.
        """
        walk = _Walk(self, seat, strategies)
        state = {name: torch.as_tensor(array) for name, array in self._deals.get_state().items()}
        value = walk.visit(state, 0, torch.ones(self._deals.num_envs, device=self.device))
        self._deals.reset()
        return Traversal(float(value.mean()), walk.nodes, torch.cat(walk.advantages), torch.cat(walk.strategies))

    def state_dict(self) -> dict[str, Any]:
        """Returns the deals to come and the generator's state."""
        deals = {name: torch.as_tensor(array).cpu() for name, array in self._deals.get_state().items()}
        return {"deals": deals, "generator": self._generator.get_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on exactly where `state_dict` was taken.

        Raises:
            ValueError: If they belong to another game or number of traversals.
        """
        self._deals.set_state({name: for_engine(self._deals, rows) for name, rows in state["deals"].items()})
        self._generator.set_state(state["generator"].cpu())

    def close(self) -> None:
        """Releases the engines."""
        for engine in (self._deals, *self._engines.values()):
            engine.close()

    def views(self, state: State) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns what the movers see in `state`: `[n, O]` and `[n, A]`, the engine's until the next call."""
        count = len(state["offer"])
        if count not in self._engines:
            self._engines[count] = make_engine(self.spec, count, self.device, threads=self._threads, autoreset=False)
        engine = self._engines[count]
        engine.set_state({name: for_engine(engine, rows) for name, rows in state.items()})
        shown = as_tensors(engine)
        return shown["observation"], shown["action_mask"]

    def payoffs(self, state: State, decision: int, seat: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns what the standing offer (0 if there is none) and walking pay `seat` now, `[n]` each."""
        values = state["values"][:, seat].float()
        total = values @ self._quantities
        accept = (values * self._received[seat][state["offer"].long().clamp_min(0)]).sum(-1) * float(decision > 0)
        scale = self.spec.discount ** (decision // 2) / total
        return accept * scale, state["outside"][:, seat] * scale

    def draw_offers(self, chance: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Draws the offers to follow, half by `chance` `[n, S]` and half uniformly, or takes all.

        Returns:
            Offers `[n, k]` int64 and their importance `[n, k]`, what a uniform draw's probability is to theirs.
        """
        rows, number = chance.shape
        if self.offers == number:
            every = torch.arange(number, device=chance.device).expand(rows, number)
            return every, torch.ones_like(chance)
        total = chance.sum(-1, keepdim=True)
        share = torch.where(total > 0, chance / total.clamp_min(1e-30), 1.0 / number)
        proposal = (1.0 - _UNIFORM_SHARE) * share + _UNIFORM_SHARE / number
        offers = draw_cdf(proposal, self.offers, self._generator)
        return offers, 1.0 / (number * proposal.gather(-1, offers))

    def draw_one(self, chance: torch.Tensor) -> torch.Tensor:
        """Returns one offer a row `[n]`, drawn by `chance` `[n, S]`; any where all chances are 0."""
        return sample_cdf(chance + torch.finfo(chance.dtype).tiny, self._generator)


class _Walk:
    """One batch of traversals for `seat`, decision by decision."""

    def __init__(self, traverser: Traverser, seat: int, strategies: tuple[Strategy, Strategy]) -> None:
        self.traverser, self.spec, self.seat, self.play = traverser, traverser.spec, seat, strategies
        self.nodes = 0
        self.advantages: list[TensorDictBase] = []
        self.strategies: list[TensorDictBase] = []

    def visit(self, state: State, decision: int, weight: torch.Tensor) -> torch.Tensor:
        """Returns the values `[n]` of the states of a decision to the seat that traverses, and keeps their samples.

        `weight` `[n]`: see `Traversal.advantages`.
        """
        self.nodes += len(weight)
        observation, mask = self.traverser.views(state)
        chance = self.play[decision % 2](observation, mask)
        sample = {"observation": pack_observation(self.spec, observation), "weight": weight}
        if decision % 2 == self.seat:
            return self._follow(state, decision, chance, sample)
        self.strategies.append(TensorDict(sample | {"probs": chance}, len(weight)))
        accept, walk = self.traverser.payoffs(state, decision, self.seat)
        value = chance[:, self.spec.accept_action] * accept + chance[:, self.spec.walk_action] * walk
        if decision < self.spec.max_turns - 1:
            offers = chance[:, : self.spec.num_offers]
            going_on, chosen = offers.sum(-1), self.traverser.draw_one(offers)
            value += going_on * self.visit(_offered(state, decision, chosen), decision + 1, weight * going_on)
        return value

    def _follow(
        self, state: State, decision: int, chance: torch.Tensor, sample: dict[str, torch.Tensor]
    ) -> torch.Tensor:
        spec, weight = self.spec, sample["weight"]
        accept, walk = self.traverser.payoffs(state, decision, self.seat)
        offers = chance[:, : spec.num_offers]
        chosen, importance = self.traverser.draw_offers(offers)
        if decision < spec.max_turns - 1:
            count = chosen.shape[1]
            repeated = {name: rows.repeat_interleave(count, 0) for name, rows in state.items()}
            following = _offered(repeated, decision, chosen.flatten())
            earned = self.visit(following, decision + 1, (weight[:, None] * importance).flatten()).view_as(importance)
        else:
            importance, earned = torch.zeros_like(importance), torch.zeros_like(importance)
        ended = chance[:, spec.accept_action] * accept + chance[:, spec.walk_action] * walk
        terms = importance * offers.gather(-1, chosen) * earned * (spec.num_offers / chosen.shape[1])
        value = ended + terms.sum(-1)
        ending = torch.tensor([spec.accept_action, spec.walk_action], device=chosen.device)
        legal = torch.tensor([float(decision > 0), 1.0], device=chosen.device)
        sample |= {
            "action": torch.cat([chosen, ending.expand(len(chosen), 2)], -1).to(torch.int16),
            "advantage": torch.cat(
                [earned - self._baselines(ended, terms), (accept - value)[:, None], (walk - value)[:, None]], -1
            ),
            "importance": torch.cat([importance, legal.expand(len(chosen), 2)], -1),
        }
        self.advantages.append(TensorDict(sample, len(chosen)))
        return value

    def _baselines(self, ended: torch.Tensor, terms: torch.Tensor) -> torch.Tensor:
        """Returns the strategy's value beside each offer, `[n, k]` or `[n, 1]`.

        Where offers are drawn it is estimated from the others: an offer that helps to estimate what it is compared
        with would bias its own advantage.
        """
        total, count = terms.sum(-1, keepdim=True), terms.shape[1]
        if count == self.spec.num_offers:
            return ended[:, None] + total
        return ended[:, None] + (total - terms) * (count / (count - 1))


def _offered(state: State, decision: int, offers: torch.Tensor) -> State:
    """Returns the states `[n]` after the movers of a decision made `offers` `[n]`."""
    actions = state["actions"].clone()
    actions[:, decision] = offers.to(actions.dtype)
    turn = torch.full_like(state["turn"], decision + 1)
    return dict(state) | {"actions": actions, "offer": offers.to(state["offer"].dtype), "turn": turn}
