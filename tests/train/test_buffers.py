"""Memories keep the rows they promise, with the probabilities they promise, and packed observations come back."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from bargain_env import GAMES, BargainEnv, GameSpec
from bargain_train.buffers import Memory, pack_observation, unpack_observation
from scipy.stats import chi2, kstest
from tensordict import TensorDict, TensorDictBase


def _rows(first: int, count: int) -> TensorDictBase:
    number = torch.arange(first, first + count)
    return TensorDict({"number": number, "pair": torch.stack([number, -number], -1).float()}, [count])


def _memory(capacity: int, seed: int = 0, *, reservoir: bool = True) -> Memory:
    return Memory(capacity, torch.Generator().manual_seed(seed), reservoir=reservoir)


def _filled(memory: Memory, sizes: Sequence[int]) -> list[int]:
    for size in sizes:
        memory.extend(_rows(memory.seen, size))
    numbers: list[int] = memory.rows["number"].tolist()
    assert torch.equal(memory.rows["pair"][:, 1], -memory.rows["number"].float())
    return numbers


@pytest.mark.parametrize("sizes", [[40], [1] * 40, [3, 7, 30], [10, 30], [12] * 3 + [4]])
def test_a_reservoir_holds_every_row_with_the_same_probability(sizes: list[int]) -> None:
    capacity, offered, trials = 10, 40, 400
    held = torch.zeros(offered)
    together = 0
    for trial in range(trials):
        numbers = _filled(_memory(capacity, trial), sizes)
        assert len(set(numbers)) == capacity
        held[numbers] += 1
        together += 0 in numbers and 39 in numbers
    share = capacity / offered
    # Counts of sampling without replacement: the variance of each is trials * share * (1 - share).
    statistic = ((held - trials * share) ** 2).sum() / (trials * share * (1 - share)) * (offered - 1) / offered
    assert chi2.ppf(1e-4, offered - 1) < float(statistic) < chi2.ppf(1 - 1e-4, offered - 1)
    both = share * (capacity - 1) / (offered - 1)
    assert abs(together - trials * both) < 4 * (trials * both * (1 - both)) ** 0.5


@pytest.mark.parametrize("sizes", [[1] * 300, [300], [64, 200, 36]])
def test_a_reservoir_does_with_a_batch_what_algorithm_r_does_row_by_row(sizes: list[int]) -> None:
    capacity, seed = 16, 5
    memory = _memory(capacity, seed)
    generator, expected, seen = torch.Generator().manual_seed(seed), list(range(capacity)), 0
    for size in sizes:
        memory.extend(_rows(seen, size))
        fresh = max(seen, capacity)
        if seen + size > fresh:
            drawn = torch.randint(2**62, (seen + size - fresh,), generator=generator).tolist()
            for number, draw in zip(range(fresh, seen + size), drawn, strict=True):
                if (place := draw % (number + 1)) < capacity:
                    expected[place] = number
        seen += size
    assert memory.rows["number"].tolist() == expected
    assert (memory.seen, len(memory)) == (300, capacity)


@pytest.mark.parametrize("sizes", [[3], [10], [11], [25], [4, 4, 4], [7, 20, 2], [1] * 23, [10, 10], [9, 40]])
def test_a_circular_memory_holds_the_latest_rows_in_a_ring(sizes: list[int]) -> None:
    capacity = 10
    numbers, total = _filled(_memory(capacity, reservoir=False), sizes), sum(sizes)
    expected = [0] * min(total, capacity)
    for number in range(total):
        expected[number % capacity] = number
    assert numbers == expected


@pytest.mark.parametrize("reservoir", [True, False])
def test_samples_are_uniform_and_drawn_with_replacement(reservoir: bool) -> None:
    memory = _memory(50, reservoir=reservoir)
    numbers = _filled(memory, [20, 60])
    sample = memory.sample(100_000)
    assert sample.batch_size == (100_000,)
    counts = sample["number"].bincount(minlength=80).float()
    assert set(counts.nonzero().squeeze(-1).tolist()) == set(numbers)
    statistic = float(((counts[numbers] - 2000) ** 2).sum() / 2000)
    assert chi2.ppf(1e-4, 49) < statistic < chi2.ppf(1 - 1e-4, 49)
    assert kstest(memory.sample(2000)["number"].float().numpy(), sample["number"].float().numpy()).pvalue > 1e-4


@pytest.mark.parametrize("reservoir", [True, False])
@pytest.mark.parametrize("before", [5, 30, 31, 200])
def test_a_restored_memory_goes_on_bit_for_bit(reservoir: bool, before: int) -> None:
    memory, other = _memory(30, 1, reservoir=reservoir), _memory(30, 2, reservoir=reservoir)
    _filled(memory, [before])
    state = memory.state_dict()
    assert {len(column) for column in state["rows"].values()} == {min(before, 30)}
    expected = [_filled(memory, [17, 100]), memory.sample(40)["number"].tolist()]
    other.extend(_rows(0, 3))
    other.load_state_dict(state)
    assert (other.seen, len(other)) == (before, min(before, 30))
    assert [_filled(other, [17, 100]), other.sample(40)["number"].tolist()] == expected


def test_an_empty_memory_is_restored_and_filled() -> None:
    state = _memory(4).state_dict()
    memory = _memory(4, 3)
    memory.load_state_dict(state)
    assert len(memory) == len(memory.rows) == 0
    assert _filled(memory, [2]) == [0, 1]


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^a memory needs room for at least one row, got 0\.$"):
        _memory(0)
    memory = _memory(4)
    with pytest.raises(ValueError, match=r"^an empty memory has no rows to sample\.$"):
        memory.sample(1)
    memory.extend(_rows(0, 9))
    with pytest.raises(ValueError, match=r"^this memory holds \['number', 'pair'\], got rows of \['number'\]\.$"):
        memory.extend(_rows(0, 2).select("number"))
    with pytest.raises(ValueError, match=r"^a memory of capacity 5 cannot take up this state\.$"):
        _memory(5).load_state_dict(memory.state_dict())


@pytest.mark.parametrize("spec", [GameSpec(), *GAMES.values(), GameSpec(max_rounds=5)])
@pytest.mark.parametrize("observation", ["standing", "history"])
def test_packed_observations_come_back_bit_for_bit(spec: GameSpec, observation: str) -> None:
    spec = spec.with_observation("history" if observation == "history" else "standing")
    env = BargainEnv(spec, 500, seed=1)
    root, generator = env.reset(), torch.Generator().manual_seed(0)
    seen = set()
    for _ in range(3 * spec.max_turns):
        shown, mask = root["observation"].clone(), root["action_mask"].clone()
        packed = pack_observation(spec, shown)
        assert packed.shape == (500, spec.observation_dim - spec.num_actions)
        back, legal = unpack_observation(spec, packed)
        assert torch.equal(back, shown)
        assert torch.equal(legal, mask)
        assert legal.dtype == torch.bool
        seen |= {tuple(pattern) for pattern in mask[:, [0, spec.accept_action]].tolist()}
        noise = torch.rand(mask.shape, generator=generator)
        root = env.step_and_maybe_reset(root.set("action", noise.masked_fill(~mask, -1.0).argmax(-1)))[1]
    patterns = {(True, False), (True, True), (False, True)}
    assert seen == (patterns if spec.max_rounds > 1 else patterns - {(True, True)})


@pytest.mark.parametrize("reservoir", [True, False])
def test_a_memory_takes_room_for_what_it_holds(reservoir: bool) -> None:
    memory = _memory(10**15, reservoir=reservoir)  # more than any machine has
    for start in range(0, 100, 20):
        memory.extend(TensorDict({"number": torch.arange(start, start + 20)}, 20))
    assert memory.rows["number"].tolist() == list(range(100))
    again = _memory(10**15, reservoir=reservoir)
    again.load_state_dict(memory.state_dict())
    assert again.rows["number"].tolist() == list(range(100))
