"""Credit per seat against a slow reference that walks every game and seat on its own."""

from __future__ import annotations

import pytest
import torch
from bargain_train.advantage import seat_gae

Stream = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


def _stream(length: int, games: int, seed: int, end: float = 0.3) -> Stream:
    """Random games that may already be in progress at the start and still be at the end."""
    generator = torch.Generator().manual_seed(seed)
    done = torch.rand(length, games, generator=generator) < end
    player = torch.zeros(length, games, dtype=torch.int64)
    player[0] = torch.randint(2, (games,), generator=generator)
    for t in range(1, length):
        player[t] = torch.where(done[t - 1], 0, 1 - player[t - 1])
    reward = torch.rand(length, games, 2, generator=generator) * done.unsqueeze(-1)
    value, head = torch.rand(length, games, generator=generator), torch.rand(games, generator=generator)
    return player, reward, done, value, head


def _reference(stream: Stream, gamma: float, lmbda: float) -> tuple[dict[tuple[int, int], float], set[tuple[int, int]]]:
    """Advantages by (t, game), and the decisions whose successor is unknown."""
    player, reward, done, value, head = (tensor.tolist() for tensor in stream)
    advantages, unknown = {}, set()
    length, games = len(player), len(head)
    for n in range(games):
        start = 0
        while start < length:
            stop = next((t for t in range(start, length) if done[t][n]), length - 1)
            ended = done[stop][n]
            for seat in (0, 1):
                own = [t for t in range(start, stop + 1) if player[t][n] == seat]
                running = 0.0
                for i, t in reversed(list(enumerate(own))):
                    following = own[i + 1] if i + 1 < len(own) else None
                    until = (following if following is not None else stop + 1) - 1
                    gain = sum(reward[u][n][seat] for u in range(t, until + 1))
                    if following is not None:
                        after = value[following][n]
                    elif ended:
                        after = 0.0
                    elif t == length - 2:
                        after = head[n]
                    else:
                        assert t == length - 1
                        unknown.add((t, n))
                        continue
                    running = gain + gamma * after - value[t][n] + gamma * lmbda * running
                    advantages[t, n] = running
            start = stop + 1
    return advantages, unknown


@pytest.mark.parametrize(("gamma", "lmbda"), [(1.0, 0.95), (1.0, 1.0), (0.9, 0.0), (0.99, 0.5)])
@pytest.mark.parametrize("length", [2, 3, 4, 17])
def test_seat_gae_equals_the_slow_reference(length: int, gamma: float, lmbda: float) -> None:
    for seed in range(3):
        stream = _stream(length, 40, seed)
        credit = seat_gae(*stream, gamma=gamma, lmbda=lmbda)
        expected, unknown = _reference(stream, gamma, lmbda)
        assert {tuple(index) for index in (~credit.valid).nonzero().tolist()} == unknown
        for (t, n), advantage in expected.items():
            assert credit.advantage[t, n].item() == pytest.approx(advantage, abs=1e-5), (t, n)
        torch.testing.assert_close(credit.value_target, credit.advantage + stream[3])


def test_no_game_ends_and_the_head_value_counts_once() -> None:
    player = torch.tensor([[0], [1], [0]])
    reward, done = torch.zeros(3, 1, 2), torch.zeros(3, 1, dtype=torch.bool)
    credit = seat_gae(player, reward, done, torch.zeros(3, 1), torch.tensor([0.5]), gamma=1.0, lmbda=1.0)
    assert credit.advantage.squeeze(-1).tolist() == [0.0, 0.5, 0.0]
    assert credit.valid.squeeze(-1).tolist() == [True, True, False]


def _two_decisions(first_walks: bool) -> torch.Tensor:
    """The game's first two rows: seat 0 offers and seat 1 accepts, or seat 0 walks and a new game begins."""
    player = torch.tensor([[0], [0 if first_walks else 1]])
    reward = torch.zeros(2, 1, 2)
    reward[0 if first_walks else 1, 0] = torch.tensor([0.2, 0.9])
    done = torch.tensor([[first_walks], [not first_walks]])
    credit = seat_gae(player, reward, done, torch.zeros(2, 1), torch.zeros(1), gamma=1.0, lmbda=1.0)
    return torch.where(credit.valid, credit.advantage, torch.nan).squeeze(-1)


def test_both_seats_of_an_accepted_offer_get_their_own_reward() -> None:
    assert _two_decisions(first_walks=False).tolist() == pytest.approx([0.2, 0.9])


def test_a_walk_at_the_first_move_pays_seat_0_and_the_next_game_is_unknown() -> None:
    assert _two_decisions(first_walks=True).tolist() == pytest.approx([0.2, float("nan")], nan_ok=True)


def test_rewards_do_not_leak_into_the_next_game() -> None:
    stream = _stream(12, 30, seed=4, end=0.5)
    player, reward, done, value, head = stream
    credit = seat_gae(*stream, gamma=1.0, lmbda=1.0)
    changed = reward.clone()
    changed[6:] += 5.0 * done[6:].unsqueeze(-1)
    other = seat_gae(player, changed, done, value, head, gamma=1.0, lmbda=1.0)
    ended = done[:6].flip(0).cumsum(0).flip(0) > 0
    assert ended.any()
    assert torch.equal(credit.advantage[:6][ended], other.advantage[:6][ended])


def test_one_decision_cannot_be_credited() -> None:
    with pytest.raises(ValueError, match="at least two decisions"):
        seat_gae(*_stream(1, 3, 0))
