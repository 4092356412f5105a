"""What plays: the `Policy` protocol, the request a policy is built from, and the base of the policies written in numpy.

Legend: `B` rows, `A` actions, `O` observation features. Arrays are numpy or torch; torch is never imported here unless
the caller already holds a tensor.
"""

from __future__ import annotations

import dataclasses
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self, runtime_checkable

import numpy as np
from bargain_env.spec import GameSpec, ObservationKind
from numpy.typing import NDArray


class UnsupportedGame(ValueError):
    """The policy does not exist on this game, which is no mistake of the caller's."""


class PolicyFailed(RuntimeError):
    """The policy cannot move now for a reason outside of the program, such as a server that gives no answer."""


class Policy(Protocol):
    """Anything that chooses actions for the seat to move.

    The shape contract of every method: `obs` is `[O]` or `[B, O]` and `action_mask` is `[A]` or `[B, A]`, True = legal,
    with at least one legal action in each row. `O` is the size of the policy's own observation; a policy of the
    standing observation also takes the history observation and reads its prefix. A tensor is answered by a tensor on
    its device, a numpy array by numpy, one row by a scalar. A policy without memory treats each row on its own.

    Attributes:
        observation: The observation the policy reads, "standing" or "history".
        device: Where the policy computes, "cpu" or "cuda:k".
    """

    @property
    def observation(self) -> ObservationKind: ...  # noqa: D102 - see Attributes

    @property
    def device(self) -> str: ...  # noqa: D102 - see Attributes

    def get_action(
        self, obs: Any, action_mask: Any, rng: np.random.Generator | None = None, game_ids: Any = None
    ) -> Any:
        """Returns int64 actions `[B]` (or one action), legal in every row.

        Args:
            obs: Float32 observations of the seats to move.
            action_mask: Their legal actions.
            rng: Source of the policy's randomness; None uses the policy's own generator.
            game_ids: `[B]` int64, the game of each row; needed by policies with memory.

        Raises:
            ValueError: If a shape is not the contract's.
        """
        ...


@runtime_checkable
class HasProbabilities(Protocol):
    """A policy whose action distribution is known."""

    def action_probs(self, obs: Any, action_mask: Any) -> Any:
        """Returns float probabilities `[B, A]` (or `[A]`), exactly 0 for illegal actions."""
        ...


@runtime_checkable
class HasValues(Protocol):
    """A policy that also estimates what it will earn."""

    def values(self, obs: Any) -> Any:
        """Returns float `[B]` (or a scalar): the mover's expected payoff / own total."""
        ...


@runtime_checkable
class HasMemory(Protocol):
    """A policy that remembers something about a game from one decision to the next."""

    def begin(self, game_ids: Any, seat: int, rng: np.random.Generator | None = None) -> None:
        """Starts `game_ids` `[B]` int64 afresh for `seat`; whatever was remembered of them is forgotten."""
        ...


@dataclasses.dataclass(frozen=True)
class PolicyRequest:
    """What an entry point of the group `bargain.policies` is called with; it returns a `Policy`.

    Attributes:
        name: The registered name.
        argument: What follows `name:` in a policy string, "" if nothing does.
        options: The `key=value` pairs after `?`; a flag without a value reads "true".
        spec: The game to play, None = the policy's own (the standard game for a policy without one).
        seed: Seed of the policy's own generator.
        device: Where the policy computes.
        results_dir: The folder of stored runs.
    """

    name: str
    argument: str = ""
    options: Mapping[str, str] = dataclasses.field(default_factory=dict)
    spec: GameSpec | None = None
    seed: int = 0
    device: str = "cpu"
    results_dir: Path = Path("results")

    def read_options(self, **readers: Callable[[str], Any]) -> dict[str, Any]:
        """Returns the given options, each read by the function of its name, e.g. `read_options(depth=int)`.

        Raises:
            ValueError: If an option has no reader, or its reader refuses the text.
        """
        unknown = sorted(set(self.options) - set(readers))
        if unknown:
            known = f"its options are {', '.join(readers)}" if readers else "it has none"
            raise ValueError(f"policy {self.name!r} has no option {unknown[0]!r}; {known}.")
        values = {}
        for key, text in self.options.items():
            try:
                values[key] = readers[key](text)
            except (ValueError, ZeroDivisionError) as error:
                raise ValueError(f"option {key}={text} of policy {self.name!r} cannot be read: {error}.") from error
        return values

    def refuse_argument(self) -> None:
        """Raises ValueError if the policy string has an argument."""
        if self.argument:
            raise ValueError(f"policy {self.name!r} takes no argument, got {self.argument!r}.")


def read_bool(text: str) -> bool:
    """Returns the truth value of an option: true/yes/on/1 or false/no/off/0 in any case.

    Raises:
        ValueError: If the text is none of these.
    """
    lowered = text.lower()
    if lowered in ("true", "yes", "on", "1"):
        return True
    if lowered in ("false", "no", "off", "0"):
        return False
    raise ValueError(f"{text!r} is neither true nor false")


def is_tensor(array: Any) -> bool:
    """Tells whether `array` is a torch tensor, without importing torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(array, torch.Tensor)


def to_numpy(array: Any) -> NDArray[Any]:
    """Returns `array` as numpy; a tensor on the CPU shares its memory, one on a GPU is copied."""
    return np.asarray(array.detach().cpu().numpy() if is_tensor(array) else array)


def like(reference: Any, array: NDArray[Any]) -> Any:
    """Returns `array` as the kind of `reference`: a tensor on its device, or numpy."""
    if not is_tensor(reference):
        return array
    import torch

    return torch.as_tensor(array, device=reference.device)


def check_shapes(spec: GameSpec, observation: ObservationKind, obs: Any, action_mask: Any) -> None:
    """Checks observations and masks of any array kind against the contract of `Policy`.

    Raises:
        ValueError: If a shape is wrong.
    """
    shape, mask_shape = tuple(obs.shape), tuple(action_mask.shape)
    history_dim = spec.with_observation("history").observation_dim
    allowed = (history_dim,) if observation == "history" else (spec.standing_dim, history_dim)
    if len(shape) not in (1, 2) or shape[-1] not in allowed:
        sizes = " or ".join(map(str, allowed))
        advice = '; make the game with GameSpec(observation="history")' if shape[-1:] == (spec.standing_dim,) else ""
        raise ValueError(f"obs must be [O] or [B, O] with O = {sizes}, got shape {shape}{advice}.")
    if mask_shape != (*shape[:-1], spec.num_actions):
        raise ValueError(f"action_mask must have shape {(*shape[:-1], spec.num_actions)}, got {mask_shape}.")


def sample_actions(probs: NDArray[Any], rng: np.random.Generator) -> NDArray[np.int64]:
    """Draws one action per row by inverting the distribution function; an action of probability 0 is never drawn.

    Args:
        probs: `[B, A]` nonnegative weights; rows need not sum to 1.
        rng: Source of one float64 per row, in row order.

    Returns:
        `[B]` int64.

    Raises:
        ValueError: If a weight is negative or not finite, or a row has none above 0.
    """
    weights = np.asarray(probs, dtype=np.float64)
    cumulative = np.cumsum(weights, axis=1)
    total = cumulative[:, -1:]
    if not (np.all(weights >= 0) and np.all(total > 0) and np.all(np.isfinite(total))):
        raise ValueError("action probabilities must be finite and nonnegative, with one above 0 in each row.")
    # rng.random() <= 1 - 2**-53, so the product rounds to below `total` and some entry always exceeds it.
    actions: NDArray[np.int64] = np.argmax(cumulative > rng.random((len(weights), 1)) * total, axis=1)
    return actions


class NumpyPolicy(ABC):
    """Base of the policies written in numpy: the one place that adapts shapes, array kinds and legality.

    A subclass writes `_decide`. It takes tensors of any device and computes on the CPU.

    Args:
        spec: The game; the standard one if None.
        seed: Seed of the generator used when `get_action` is called without one.
    """

    observation: ObservationKind = "standing"
    device: ClassVar[str] = "cpu"

    def __init__(self, spec: GameSpec | None = None, seed: int = 0) -> None:
        self.spec = spec or GameSpec()
        self._rng = np.random.default_rng(seed)

    @classmethod
    def from_request(cls, request: PolicyRequest) -> Self:
        """Builds the policy that a policy string asks for; it takes neither an argument nor options."""
        request.refuse_argument()
        return cls(request.spec, request.seed, **request.read_options())

    @abstractmethod
    def _decide(self, obs: NDArray[Any], action_mask: NDArray[np.bool_]) -> NDArray[Any]:
        """Returns the actions `[B]` of a deterministic rule (an illegal one becomes walk) or probabilities `[B, A]`."""

    def get_action(
        self, obs: Any, action_mask: Any, rng: np.random.Generator | None = None, game_ids: Any = None
    ) -> Any:
        """See `Policy.get_action`."""
        choice = self._legal_choice(obs, action_mask)
        if choice.ndim == 2:
            choice = sample_actions(choice, self._rng if rng is None else rng)
        return like(obs, choice if len(obs.shape) == 2 else choice[0])

    def action_probs(self, obs: Any, action_mask: Any) -> Any:
        """See `HasProbabilities.action_probs`; float64."""
        probs = self._legal_choice(obs, action_mask)
        if probs.ndim == 1:
            probs = (probs[:, None] == np.arange(self.spec.num_actions)).astype(np.float64)
        return like(obs, probs if len(obs.shape) == 2 else probs[0])

    def _legal_choice(self, obs: Any, action_mask: Any) -> NDArray[Any]:
        check_shapes(self.spec, self.observation, obs, action_mask)
        rows, mask = np.atleast_2d(to_numpy(obs)), np.atleast_2d(to_numpy(action_mask)).astype(bool, copy=False)
        if not (mask[:, self.spec.walk_action].all() or mask.any(axis=1).all()):
            raise ValueError("each row of action_mask needs a legal action; a finished game has none.")
        choice = self._decide(rows, mask)
        if choice.ndim == 1:
            choice = np.where(mask[np.arange(len(choice)), choice], choice, self.spec.walk_action)
        return choice
