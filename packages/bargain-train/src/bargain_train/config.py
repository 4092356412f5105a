"""What training commands are told: one flat dataclass whose fields are flags, defaults, help and stored settings."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from bargain_env.spec import GameSpec
from bargain_eval.game_options import GameOptions
from pydantic import Field, TypeAdapter
from pydantic.dataclasses import dataclass

Positive = Annotated[int, Field(ge=1)]


@dataclass(frozen=True, kw_only=True)
class NetworkOptions:
    """The network that learns."""

    network: Literal["mlp", "transformer"] = "mlp"
    """mlp: linear layers with ReLU; transformer: one token per group of features (about 20 times slower)."""
    hidden_dims: tuple[Positive, ...] = (256, 256)
    """Sizes of the hidden layers of the mlp."""
    d_model: Positive = 128
    """Width of the transformer."""
    nhead: Positive = 4
    """Attention heads of the transformer; --d-model must be a multiple."""
    num_layers: Positive = 2
    """Encoder layers of the transformer."""

    def network_config(self) -> dict[str, Any]:
        """Returns the options of the chosen network alone, as `networks.build_network` takes them."""
        if self.network == "mlp":
            return {"network": "mlp", "hidden_dims": list(self.hidden_dims)}
        return {
            "network": "transformer",
            "d_model": self.d_model,
            "nhead": self.nhead,
            "num_layers": self.num_layers,
        }


@dataclass(frozen=True, kw_only=True)
class PpoOptions:
    """The numbers of a PPO update."""

    lr: Annotated[float, Field(gt=0)] = 3e-4
    """Learning rate of Adam at the start."""
    lr_final: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Learning rate at the end, as a share of --lr; linear in between."""
    clip_eps: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Probability ratios are clipped to 1 - eps .. 1 + eps."""
    entropy_coef: Annotated[float, Field(ge=0)] = 0.05
    """Weight of the entropy bonus at the start."""
    entropy_coef_final: Annotated[float, Field(ge=0)] = 0.001
    """Weight of the entropy bonus at the end; it falls by equal factors, or linearly if one of the two is 0."""
    value_coef: Annotated[float, Field(ge=0)] = 0.5
    """Weight of the squared value error."""
    max_grad_norm: Annotated[float, Field(gt=0)] = 0.5
    """Gradients are scaled down to this norm."""
    ppo_epochs: Annotated[int, Field(ge=1)] = 4
    """Passes over each rollout."""
    minibatch_size: Annotated[int, Field(ge=1)] = 4096
    """Rows of a gradient step; a rollout is split into equal minibatches of at most this size."""
    gamma: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Discount from one decision of a seat to its next."""
    gae_lambda: Annotated[float, Field(ge=0, le=1)] = 0.95
    """Lambda of generalised advantage estimation."""

    def at(self, progress: float) -> tuple[float, float]:
        """Returns the learning rate and entropy weight when `progress` (0 to 1) of the budget is spent."""
        left = 1.0 - min(max(progress, 0.0), 1.0)
        rate = self.lr * (self.lr_final + (1.0 - self.lr_final) * left)
        first, last = self.entropy_coef, self.entropy_coef_final
        return rate, last * (first / last) ** left if first and last else last + (first - last) * left


@dataclass(frozen=True, kw_only=True)
class RunConfig(GameOptions):
    """What all algorithms share: game, seed, evaluation, storage and logging; `StepConfig` and others add a budget."""

    unit: ClassVar[Literal["steps", "iterations"]]
    """What the budget and the intervals count."""

    observation: Literal["standing", "history"] = "standing"
    """standing: the offer on the table; history: every offer made so far as well."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 42
    """Seed of the networks, the deals and every random draw."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to play and train; auto is the GPU if one can be used."""
    cuda_device: Annotated[int, Field(ge=0)] = 0
    """Which GPU, unless --device is cpu."""
    threads: Annotated[int, Field(ge=0)] = 0
    """CPU threads of the games and of torch; 0 takes one per core. Bitwise repeatability needs the same number."""
    resume: str | None = None
    """Continue the stored run of this id, with its own settings, towards its own budget."""
    results_dir: str = "results"
    """The folder of stored runs."""
    checkpoint_dir: str | None = None
    """The folder that mirrors best.pt and latest.pt (default: checkpoints/<algorithm>)."""
    eval_games: Positive = 10_000
    """Held-out deals of each evaluation, each played against every baseline in both seats."""
    eval_nash_conv: bool = True
    """Measure NashConv in each evaluation: exactly on small games, else bounds of it; in seconds."""
    log_interval: Positive = 1
    """Log the metrics of every so many updates."""
    wandb: bool = False
    """Log to Weights & Biases too (WANDB_MODE=offline needs no account)."""
    wandb_project: str = "bargain"
    """W&B project."""
    wandb_name: str | None = None
    """W&B name of the run (default: the run id)."""
    wandb_tags: tuple[str, ...] = ()
    """W&B tags (default: the algorithm and "bargain")."""
    tensorboard: bool = False
    """Write TensorBoard files into the run's folder too."""

    @property
    def budget(self) -> int:
        """When to end, in the config's `unit`."""
        raise NotImplementedError

    def spec(self) -> GameSpec:
        """Returns the game, seen through `observation`."""
        return super().spec().with_observation(self.observation)

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as JSON-ready values; `from_dict` is the inverse."""
        fields = dataclasses.asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> RunConfig:
        """Builds a config of this class from stored fields.

        Raises:
            ValueError: If a field is unknown or out of range; the sentence names it.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(fields) - known)
        if unknown:
            raise ValueError(f"unknown settings for {cls.__name__}: {', '.join(unknown)}.")
        config: RunConfig = TypeAdapter(cls).validate_python(dict(fields))
        return config


@dataclass(frozen=True, kw_only=True)
class StepConfig(RunConfig):
    """A run whose budget is counted in environment steps."""

    unit: ClassVar[Literal["steps", "iterations"]] = "steps"

    total_timesteps: Positive = 4_000_000
    """Budget in environment steps; one step is one decision of one game."""
    checkpoint_interval: Positive = 1_000_000
    """Store a resumable checkpoint whenever this many steps more are done."""
    eval_interval: Positive = 1_000_000
    """Evaluate on held-out deals, and keep the best policy, whenever this many steps more are done."""

    @property
    def budget(self) -> int:
        """`total_timesteps`."""
        return self.total_timesteps


@dataclass(frozen=True, kw_only=True)
class IterationConfig(RunConfig):
    """A run whose budget is counted in iterations of its algorithm."""

    unit: ClassVar[Literal["steps", "iterations"]] = "iterations"

    iterations: Positive = 100
    """Budget in iterations."""
    checkpoint_interval: Positive = 10
    """Store a resumable checkpoint whenever this many iterations more are done."""
    eval_interval: Positive = 10
    """Evaluate on held-out deals, and keep the best policy, whenever this many iterations more are done."""

    @property
    def budget(self) -> int:
        """`iterations`."""
        return self.iterations
