"""The trees of many games in flat tensors: an own decision is a node, an offer made there leads to replies.

Nodes are public histories: the own hand is fixed, and the other seat's is averaged over (`opponent.py`). A node's offer
that was tried has a slot, which holds the other seat's replies, and each counteroffer drawn from there leads to the
node of the next own decision.

Legend: `G` games, `V` nodes and slots of a game, `K` offers, `N` hands, `D` decisions, `R` rows, 2 seats (the own one
first).
"""

from __future__ import annotations

import torch

from bargain_train.search.opponent import ENDS

_LEANING = 4.0  # tries that the mean of a decision counts for
_WIDTH = 28  # bytes that the tensors of `[G, V, K]` take together


class Tree:
    """Empty trees, each with room for `num_simulations` expansions.

    Args:
        games: Games `G`.
        num_simulations: Expansions of each game; `V` is one more.
        num_offers: Offers `K`.
        num_hands: Hands `N` of a kept belief.
        max_turns: Decisions `D` of a game.
        device: Where the tensors are.

    Attributes:
        visits: `[G, V, K]` float32, how often each offer was tried.
        sums: `[G, V, K, 2]` float32, the payoffs of both seats; the k-th try of an offer weighs k, because later
            tries know more of what lies below.
        prior: `[G, V, K]` float32, the probabilities of the offers by the searcher's own policy.
        slot: `[G, V, K]` int32, the slot of each offer, -1 if it was never tried.
        replies: `[G, V, K + ENDS]` float32 by slot, what `Opponent.replies` returned.
        child: `[G, V, K]` int32 by slot, the node after each counteroffer, -1 if there is none yet.
        weight: `[G, V, N]` float32, the belief at each node; `N` is 0 where it is cheaper to compute it anew.
        stop: `[G, V, 2]` float32, the payoffs of the better of accepting and walking.
        value: `[G, V, 2]` float32, the node's evaluation when it was made.
        solved: `[G, V]` bool, whether `value` is exact, so that nothing is searched below.
        gone_on: `[G, D, 2]` float32, by decision: the searcher's payoffs of going on, summed, and their number.
        nodes: `[G]` int64, the nodes made.
        slots: `[G]` int64, the slots made.
    """

    def __init__(
        self, games: int, num_simulations: int, num_offers: int, num_hands: int, max_turns: int, device: str
    ) -> None:
        room = num_simulations + 1

        def zeros(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
            return torch.zeros(games, *shape, dtype=dtype, device=device)

        self.visits = zeros(room, num_offers)
        self.sums = zeros(room, num_offers, 2)
        self.prior = zeros(room, num_offers)
        self.slot = zeros(room, num_offers, dtype=torch.int32) - 1
        self.replies = zeros(room, num_offers + ENDS)
        self.child = zeros(room, num_offers, dtype=torch.int32) - 1
        self.weight = zeros(room, num_hands)
        self.stop, self.value = zeros(room, 2), zeros(room, 2)
        self.solved = zeros(room, dtype=torch.bool)
        self.gone_on = zeros(max_turns, 2)
        self.nodes, self.slots = zeros(dtype=torch.int64), zeros(dtype=torch.int64)

    @staticmethod
    def bytes_of_game(num_simulations: int, num_offers: int, num_hands: int) -> int:
        """Returns the memory that one game takes."""
        return (num_simulations + 1) * (_WIDTH * num_offers + 4 * num_hands + 64)

    def new_nodes(self, games: torch.Tensor) -> torch.Tensor:
        """Returns a new node `[R]` of each of the games `[R]`, which are distinct."""
        made = self.nodes[games]
        self.nodes[games] = made + 1
        return made

    def new_slots(self, games: torch.Tensor, nodes: torch.Tensor, offers: torch.Tensor) -> torch.Tensor:
        """Returns new slots `[R]` for the `offers` `[R]` of nodes `[R]` of distinct games `[R]`."""
        made = self.slots[games]
        self.slots[games] = made + 1
        self.slot[games, nodes, offers] = made.int()
        return made

    def means(self, games: torch.Tensor, nodes: torch.Tensor) -> torch.Tensor:
        """Returns `[R, K]`, the searcher's mean payoff of each offer; 0 where it was never tried."""
        return self.sums[games, nodes, :, 0] / weights(self.visits[games, nodes])

    def new_values(
        self, games: torch.Tensor, nodes: torch.Tensor, decision: int, payoffs: torch.Tensor
    ) -> torch.Tensor:
        """Returns `[R, 2]`, what new nodes are worth whose first continuation paid `payoffs`; see `back_up`."""
        nothing = torch.zeros(len(games), device=payoffs.device)
        return self._better(games, nodes, decision, payoffs, nothing, nothing)

    def back_up(
        self, games: torch.Tensor, nodes: torch.Tensor, offers: torch.Tensor, decision: int, payoffs: torch.Tensor
    ) -> torch.Tensor:
        """Adds the payoffs `[R, 2]` of one try of `offers` `[R]`, and returns what the nodes are worth by them.

        An offer tried less often than another was tried to learn about it: the mean of the most tried one is passed up
        in its place, because that is what would be played. And what stopping pays is passed up where it is more than
        going on paid on average: accepting and walking are known, so nobody goes on for less. A node that was tried a
        few times leans on the mean of all of the game's nodes of that decision, because the better of a sure payoff and
        a single noisy one would be too high. Every seat gets its own payoff, and none is negated.
        """
        tried = self.visits[games, nodes].scatter_add(1, offers[:, None], torch.ones_like(payoffs[:, :1]))
        sums = self.sums[games, nodes]
        count = tried.gather(1, offers[:, None])
        sums[self._rows(offers), offers] += count * payoffs
        self.visits[games, nodes], self.sums[games, nodes] = tried, sums
        most, favourite = tried.max(dim=1)
        mean = sums[self._rows(offers), favourite] / weights(most)[:, None]
        payoffs = torch.where(count < most[:, None], mean, payoffs)
        total = (tried * sums[:, :, 0] / weights(tried)).sum(1)
        return self._better(games, nodes, decision, payoffs, total, tried.sum(1))

    def _better(
        self,
        games: torch.Tensor,
        nodes: torch.Tensor,
        decision: int,
        payoffs: torch.Tensor,
        total: torch.Tensor,
        tries: torch.Tensor,
    ) -> torch.Tensor:
        """Returns `[R, 2]`: `payoffs`, or what stopping pays where `total` over `tries` `[R]` does not reach it."""
        ones = torch.ones_like(payoffs[:, :1])
        gone_on = self.gone_on[games, decision] + torch.cat([payoffs[:, :1], ones], dim=1)
        self.gone_on[games, decision] = gone_on
        stop = self.stop[games, nodes]
        going_on = (total + _LEANING * gone_on[:, 0] / gone_on[:, 1]) / (tries + _LEANING)
        return torch.where((going_on < stop[:, 0])[:, None], stop, payoffs)

    def _rows(self, offers: torch.Tensor) -> torch.Tensor:
        return torch.arange(len(offers), device=offers.device)


def weights(visits: torch.Tensor) -> torch.Tensor:
    """Returns what `visits` `[...]` tries weigh together in `Tree.sums`, at least 1: 1 + 2 + ... + visits."""
    return (visits * (visits + 1) / 2).clamp_min(1)
