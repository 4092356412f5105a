"""What the other seat does, averaged over its possible hands.

The searcher cannot see the other seat's hand, but it has a model of how each hand is played. Hands are private and
independent, so all that matters of them is their weight given the moves made: the reply to an own move is the mean of
the replies of all hands.

Legend: `R` rows, `N` hands (particles), `G` sets of hands, `I` item types, `K` offers, `A` actions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import torch
from bargain_eval.policy import HasProbabilities, HasValues, Policy

from bargain_train.search.rules import Rules

_ROWS = 65_536  # rows shown to a policy at once
_GATHERED = 2**22  # numbers up to which a gather and one product beat a product for each standing offer
ENDS = 4
"""Columns that tell how a reply ends a game: the probabilities of accept and of walk, and what each pays the other."""


class Hands(NamedTuple):
    """Weighted hands of the other seat: one set for all rows (`G` = 1), or one set for each.

    Attributes:
        values: `[G, N, I]` int64, points a unit.
        outside: `[G, N]` int64, points.
        member: `[G, N]` int64, which of the opponent's policies plays the hand.
        weight: `[G, N]` float32, probabilities before any move, with sum 1.
    """

    values: torch.Tensor
    outside: torch.Tensor
    member: torch.Tensor
    weight: torch.Tensor


class Opponent(ABC):
    """The replies of the other seat to rows that all stand at one decision.

    Args:
        rules: The game.
        seat: The other seat.
        policies: Its policies; `hands.member` says who plays which hand.
        hands: Its possible hands.
    """

    def __init__(self, rules: Rules, seat: int, policies: tuple[Policy, ...], hands: Hands) -> None:
        for policy in policies:
            if not isinstance(policy, HasProbabilities):
                raise ValueError(
                    f"{type(policy).__name__} does not tell its action probabilities, so it cannot be searched against."
                )
        self.rules, self.seat, self.policies, self.hands = rules, seat, policies, hands
        self.shares = rules.shares(hands.values, seat).transpose(1, 2).contiguous()  # [G, K, N]
        self.walks = rules.walks(hands.values, hands.outside)

    @property
    def num_hands(self) -> int:
        """Hands `N` of a row."""
        return self.hands.weight.shape[1]

    @property
    @abstractmethod
    def kept_hands(self) -> int:
        """Hands of the beliefs that are kept at every node: `N`, or 0 where `likelihood` is cheap."""

    @property
    @abstractmethod
    def solves_last(self) -> bool:
        """Whether `last_replies` is cheap enough for every node."""

    @abstractmethod
    def likelihood(
        self, decision: int, offers: torch.Tensor, actions: torch.Tensor, rows: torch.Tensor
    ) -> torch.Tensor:
        """Returns `[R, N]` float32, the probability with which each hand makes the offers `actions` `[R]`.

        Args:
            decision: A decision of the other seat.
            offers: `[R, decision]` int64, the offers made so far.
            actions: `[R]` int64, offers.
            rows: `[R]` int64, the set of hands of each row.
        """

    @abstractmethod
    def replies(self, decision: int, offers: torch.Tensor, weight: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Returns `[R, K + ENDS]` float32: the weight of each counteroffer, then the ends.

        Args:
            decision: A decision of the other seat.
            offers: `[R, decision]` int64, the offers made so far.
            weight: `[R, N]` float32, the weights of the hands.
            rows: `[R]` int64, the set of hands of each row.
        """

    @abstractmethod
    def last_replies(self, offers: torch.Tensor, weight: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Returns `[R, K, ENDS]`: how the last decision ends the game after each offer; takes those made before it."""

    def stop_payoffs(self, offers: torch.Tensor, weight: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Returns `[R, 2]`: what the other seat expects if the last of `offers` is accepted, and if someone walks."""
        row = self._set(rows)
        walk = (weight * self.walks[row]).sum(1)
        accept = (weight * self.shares[row, offers[:, -1]]).sum(1) if offers.shape[1] else walk
        return torch.stack([accept, walk], dim=1)

    def expects(self, offers: torch.Tensor, hand: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Returns `[R]` float32: what the policies say the other seat will earn with the hand numbered `hand` `[R]`.

        It is to answer the last of `offers` `[R, d]`. Only for policies that have values.
        """
        sets, rules = self._set(rows), self.rules
        values, outside, member = (part[sets, hand] for part in self.hands[:3])
        said = torch.empty(len(rows), device=rules.device)
        for index, policy in enumerate(self.policies):
            mine = torch.nonzero(member == index)[:, 0]
            if not len(mine):
                continue
            assert isinstance(policy, HasValues)
            view = rules.view(values[mine], outside[mine], offers.shape[1], offers[mine], policy.observation)[0]
            said[mine] = torch.as_tensor(policy.values(view)).to(said)
        return said

    def _set(self, rows: torch.Tensor) -> torch.Tensor:
        return rows if len(self.walks) > 1 else torch.zeros_like(rows)

    def _ask(self, decision: int, offers: torch.Tensor, sets: torch.Tensor) -> torch.Tensor:
        """Returns the probabilities `[R, N, A]` that the policies tell for every hand of the sets `[R]`."""
        rules, count = self.rules, self.num_hands
        probs = torch.empty(len(offers), count, rules.spec.num_actions, device=rules.device)
        step = max(1, _ROWS // count)
        for first in range(0, len(offers), step):
            part = slice(first, first + step)
            own = sets[part]
            shape = len(own) * count
            hands = self.hands.values[own].reshape(shape, -1), self.hands.outside[own].reshape(shape)
            made = offers[part].repeat_interleave(count, dim=0)
            member = self.hands.member[own].reshape(shape)
            told = torch.empty(shape, rules.spec.num_actions, device=rules.device)
            for index, policy in enumerate(self.policies):
                mine = slice(None) if len(self.policies) == 1 else torch.nonzero(member == index)[:, 0]
                told[mine] = tell(rules, policy, hands[0][mine], hands[1][mine], decision, made[mine])
            probs[part] = told.reshape(len(own), count, -1)
        return probs

    def _columns(self, probs: torch.Tensor, offer: torch.Tensor | None, sets: torch.Tensor) -> torch.Tensor:
        """Returns probabilities `[R, N, A]` as columns `[R, K + ENDS, N]`: what each hand adds to a reply."""
        walk = probs[:, :, -1]
        accept = torch.zeros_like(walk) if offer is None else probs[:, :, -2]
        paid = accept if offer is None else accept * self.shares[sets, offer]
        ends = torch.stack([accept, walk, paid, walk * self.walks[sets]], dim=1)
        return torch.cat([probs[:, :, : self.rules.spec.num_offers].transpose(1, 2), ends], dim=1)


class AskedOpponent(Opponent):
    """Asks the policies anew at every node: any observation, and hands of each row's own. Costs `N` rows a reply."""

    @property
    def kept_hands(self) -> int:
        """See `Opponent.kept_hands`."""
        return self.num_hands

    @property
    def solves_last(self) -> bool:
        """See `Opponent.solves_last`."""
        return self.num_hands * self.rules.spec.num_offers <= 4096

    def likelihood(
        self, decision: int, offers: torch.Tensor, actions: torch.Tensor, rows: torch.Tensor
    ) -> torch.Tensor:
        """See `Opponent.likelihood`."""
        probs = self._ask(decision, offers, self._set(rows))
        return probs.gather(2, actions[:, None, None].expand(-1, self.num_hands, 1))[:, :, 0]

    def replies(self, decision: int, offers: torch.Tensor, weight: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """See `Opponent.replies`."""
        sets = self._set(rows)
        columns = self._columns(self._ask(decision, offers, sets), offers[:, -1] if decision else None, sets)
        return torch.einsum("rcn,rn->rc", columns, weight)

    def last_replies(self, offers: torch.Tensor, weight: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """See `Opponent.last_replies`; asks for `N * K` rows each."""
        last, count = self.rules.last_turn, self.rules.spec.num_offers
        each = torch.arange(count, device=rows.device).repeat(len(rows))[:, None]
        made = torch.cat([offers.repeat_interleave(count, dim=0), each], dim=1)
        wide = rows.repeat_interleave(count), weight.repeat_interleave(count, dim=0)
        return self.replies(last, made, wide[1], wide[0])[:, -ENDS:].reshape(len(rows), count, ENDS)


class TabledOpponent(Opponent):
    """Asks policies of the standing observation once, for every hand and standing offer, and looks the answers up.

    The tables hold `K * (K + 4) * N` numbers for each decision that may be answered by an offer (27 MB for 1,024 hands
    of the standard game) and `4 * K * N` for the last one.
    """

    def __init__(self, rules: Rules, seat: int, policies: tuple[Policy, ...], hands: Hands) -> None:
        super().__init__(rules, seat, policies, hands)
        if len(hands.weight) != 1 or any(policy.observation != "standing" for policy in policies):
            raise ValueError("tables need one set of hands, and policies of the standing observation.")
        self._tables = {decision: self._table(decision) for decision in range(seat, rules.spec.max_turns, 2)}
        self._last = self._tables.get(rules.last_turn)

    def _table(self, decision: int) -> torch.Tensor:
        """Returns `[S, C, N]`: standing offers (one, "none", at decision 0), columns, hands."""
        kept = slice(-ENDS, None) if decision == self.rules.last_turn else slice(None)
        standing = torch.arange(self.rules.spec.num_offers if decision else 1, device=self.rules.device)
        parts = []
        for offer in standing[:, None]:
            made = offer.expand(1, decision)
            sets = torch.zeros(1, dtype=torch.int64, device=self.rules.device)
            columns = self._columns(self._ask(decision, made, sets), offer if decision else None, sets)
            parts.append(columns[:, kept])
        return torch.cat(parts)

    @property
    def kept_hands(self) -> int:
        """See `Opponent.kept_hands`."""
        return 0

    @property
    def solves_last(self) -> bool:
        """See `Opponent.solves_last`."""
        return True

    def likelihood(
        self, decision: int, offers: torch.Tensor, actions: torch.Tensor, rows: torch.Tensor
    ) -> torch.Tensor:
        """See `Opponent.likelihood`."""
        return self._tables[decision][self._standing(decision, offers), actions]

    def replies(self, decision: int, offers: torch.Tensor, weight: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """See `Opponent.replies`; one matrix product for each standing offer among the rows, or one in all."""
        table, standing = self._tables[decision], self._standing(decision, offers)
        if weight.device.type != "cpu" or len(weight) * table[0].numel() <= _GATHERED:
            found = torch.bmm(table[standing], weight[:, :, None])[:, :, 0]
        else:
            found = torch.empty(len(weight), table.shape[1])
            order = torch.argsort(standing)
            kinds, counts = torch.unique_consecutive(standing[order], return_counts=True)
            for kind, part in zip(kinds.tolist(), torch.split(order, counts.tolist()), strict=True):
                found[part] = weight[part] @ table[kind].T
        missing = self.rules.spec.num_offers + ENDS - found.shape[1]
        return torch.nn.functional.pad(found, (missing, 0)) if missing else found

    def last_replies(self, offers: torch.Tensor, weight: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """See `Opponent.last_replies`; one matrix product."""
        assert self._last is not None
        return (weight @ self._last.flatten(0, 1).T).reshape(len(weight), -1, ENDS)

    def _standing(self, decision: int, offers: torch.Tensor) -> torch.Tensor:
        return offers[:, -1] if decision else torch.zeros(len(offers), dtype=torch.int64, device=offers.device)


def tell(
    rules: Rules, policy: Policy, values: torch.Tensor, outside: torch.Tensor, decision: int, offers: torch.Tensor
) -> Any:
    """Returns `[R, A]` float32, the probabilities that a policy tells for rows of hands and offers made."""
    assert isinstance(policy, HasProbabilities)
    views = rules.view(values, outside, decision, offers, policy.observation)
    return torch.as_tensor(policy.action_probs(*views)).to(rules.device, torch.float32)
