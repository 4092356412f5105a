"""What training commands are told: one flat dataclass whose fields are flags, defaults, help and stored settings."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from bargain_env.spec import GameSpec
from bargain_eval.game_options import GameOptions
from pydantic import ConfigDict, Field, TypeAdapter, model_validator
from pydantic.dataclasses import dataclass

Positive = Annotated[int, Field(ge=1)]

Space = Mapping[str, Mapping[str, Any]]
"""What may be searched: fields of a config by name, each as `parameters` of a W&B sweep describe it."""

MAGNET_INTERVAL = 20

FEWEST_GAMES = 16
"""Played at once in a part of a run, however small its budget."""

MIN_UPDATES = 50
"""Updates that the budget of a part of a run should pay for; fewer games are played at once where it would not."""

STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)
"""Of the config of every algorithm: unknown settings and numbers that are not finite are refused."""


def games_at_once(num_envs: int, rollout_steps: int, steps: int) -> int:
    """Returns how many games a training of `steps` plays at once: at most `num_envs`, and see `MIN_UPDATES`."""
    return min(num_envs, max(FEWEST_GAMES, steps // (rollout_steps * MIN_UPDATES)))


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
    value_coef: Annotated[float, Field(gt=0)] = 0.5
    """Weight of the squared value error."""
    max_grad_norm: Annotated[float, Field(gt=0)] = 0.5
    """Gradients are scaled down to this norm."""
    ppo_epochs: Annotated[int, Field(ge=1)] = 4
    """Passes over each rollout."""
    minibatch_size: Annotated[int, Field(ge=1)] = 4096
    """Rows of a gradient step; a rollout is split into equal minibatches of at most this size."""
    kl_rollout_coef: Annotated[float, Field(ge=0)] = 0.0
    """Weight at the start of the KL divergence of the policy from the rollout's; 1 / the step size of MMD."""
    kl_rollout_coef_final: Annotated[float, Field(ge=0)] | None = None
    """Weight of that KL at the end (default: as at the start)."""
    kl_magnet_coef: Annotated[float, Field(ge=0)] = 0.0
    """Weight at the start of the KL divergence of the policy from the magnet, a frozen copy of it (NashPG)."""
    kl_magnet_coef_final: Annotated[float, Field(ge=0)] | None = None
    """Weight of that KL at the end (default: as at the start)."""
    magnet_interval: Annotated[int, Field(ge=2)] | None = None
    """Updates after which the magnet is copied from the policy again, with --kl-magnet-coef (default 20)."""
    anneal: Literal["geometric", "root"] = "geometric"
    """How weights change: by equal factors, or as 1 / sqrt(t) down and sqrt(t) up; linearly from or to 0."""
    gamma: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Discount from one decision of a seat to its next."""
    gae_lambda: Annotated[float, Field(ge=0, le=1)] = 0.95
    """Lambda of generalised advantage estimation."""

    @model_validator(mode="after")
    def _magnet_pulls(self) -> Self:
        if self.magnet_interval is not None and "magnet" not in self.kl_terms:
            raise ValueError("--magnet-interval says when the magnet is copied; it needs a --kl-magnet-coef above 0.")
        return self

    @property
    def kl_terms(self) -> tuple[str, ...]:
        """What the policy is held close to at some time: of "rollout" and "magnet", those with a weight."""
        weights = {
            "rollout": (self.kl_rollout_coef, self.kl_rollout_coef_final),
            "magnet": (self.kl_magnet_coef, self.kl_magnet_coef_final),
        }
        return tuple(name for name, ends in weights.items() if any(ends))

    def check_kl_rollout(self, rows: int) -> None:
        """Raises ValueError if updates on `rows` rows are a single gradient step, and it should feel the KL."""
        if "rollout" in self.kl_terms and self.ppo_epochs == 1 and rows <= self.minibatch_size:
            raise ValueError(
                "--kl-rollout-coef needs more --ppo-epochs or minibatches: one gradient step cannot feel it."
            )

    def at(self, progress: float) -> dict[str, float]:
        """Returns the learning rate and the weights in use when `progress` (0 to 1) of the budget is spent, by name."""
        done = min(max(progress, 0.0), 1.0)
        names = ["entropy_coef", *(f"kl_{name}_coef" for name in self.kl_terms)]
        ends = {name: (getattr(self, name), getattr(self, f"{name}_final")) for name in names}
        weights = {
            name: between(first, first if last is None else last, done, self.anneal)
            for name, (first, last) in ends.items()
        }
        return {"lr": self.lr * (self.lr_final + (1.0 - self.lr_final) * (1.0 - done)), **weights}


def between(first: float, last: float, done: float, anneal: Literal["geometric", "root"]) -> float:
    """Returns the weight when the share `done` of the way from `first` to `last` is behind.

    geometric: `first^(1 - done) last^done`. root: the power mean of exponent -2 going down, which is `1 / sqrt(t)` with
    `t` linear in `done`, and of exponent 2 going up. Linear if one of the two is 0.
    """
    left = 1.0 - done
    if not (first and last):
        return last + (first - last) * left
    if anneal == "geometric":
        return last * (first / last) ** left
    power = -2.0 if last < first else 2.0
    weight: float = (left * first**power + done * last**power) ** (1.0 / power)
    return weight


@dataclass(frozen=True, kw_only=True)
class MappoOptions:
    """What MAPPO adds to PPO: critics apart from the actors."""

    critic_hidden_dims: tuple[Positive, ...] = (256, 256)
    """Sizes of the hidden layers of the critics, which are mlps and read the whole history."""
    centralized_critic: bool = True
    """Let a seat's critic see the other seat's hand too; the actors never do."""
    value_norm: bool = True
    """Let critics predict payoffs less their running mean, in running standard deviations."""
    share_actor: bool = False
    """One actor for both seats, trained on the decisions of both; each seat keeps a critic of its own."""

    @model_validator(mode="after")
    def _critics_have_layers(self) -> Self:
        if not self.critic_hidden_dims:
            raise ValueError("--critic-hidden-dims needs at least one positive size, got ().")
        return self


@dataclass(frozen=True, kw_only=True)
class ExplorationOptions:
    """What Ex2PSRO adds to PSRO: which of the games already played are imitated, and how close responses stay to it."""

    welfare_fn: Literal["utilitarian", "nash", "egalitarian"] = "utilitarian"
    """What is good for both seats, game by game: the sum of their payoffs, the geometric mean, or the smaller one."""
    exploration_top_k: Positive = 3
    """Imitate only games of so many pairs of policies, those of highest mean welfare."""
    exploration_temperature: Annotated[float, Field(gt=0)] = 1.0
    """Of the weights of imitated games, softmax(welfare as a share of the deal's best / temperature)."""
    use_welfare_weighted_sampling: bool = True
    """Weigh imitated games by their welfare; --no-use-welfare-weighted-sampling weighs all alike."""
    kl_coef: Annotated[float, Field(ge=0)] = 0.05
    """Weight of the KL divergence from the exploration policy to a response, at its start; 0 switches both off."""
    kl_target: Annotated[float, Field(gt=0)] = 1.0
    """The KL in nats that an adaptive weight aims at: above twice of it the weight grows, below half of it it falls."""
    use_adaptive_kl: bool = False
    """Adapt the weight after each update of a response, to keep the KL near --kl-target; else it stays at --kl-coef."""
    kl_horizon: Positive = 10
    """Updates that the adaptive weight looks back on."""
    kl_anneal_iterations: Positive | None = None
    """Iterations after which a factor on the weight has fallen, linearly, from 1 to 0 (default: in the last)."""
    imitation_epochs: Positive = 5
    """Passes over the imitated games."""
    imitation_lr: Annotated[float, Field(gt=0)] = 1e-3
    """Learning rate of Adam for the imitation."""
    imitation_batch_size: Positive = 1024
    """Decisions of a gradient step of the imitation; they are split into equal batches of at most this size."""
    imitation_data_size: Positive = 1000
    """The most games that are imitated, those of highest welfare as a share of the deal's best."""

    def kl_factor(self, done: int, iterations: int) -> float:
        """Returns the factor on the weight, 1 to 0, when `done` iterations of `iterations` are behind."""
        return max(0.0, 1.0 - done / (self.kl_anneal_iterations or iterations))


@dataclass(frozen=True, kw_only=True)
class FictitiousOptions:
    """The numbers of neural fictitious self-play."""

    eta: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Probability that a seat plays a whole game by its best response instead of its average strategy."""
    epsilon_start: Annotated[float, Field(ge=0, le=1)] = 0.06
    """Share of random actions in best response mode at the start."""
    epsilon_end: Annotated[float, Field(ge=0, le=1)] = 0.001
    """That share from --epsilon-decay-steps on; linear in between."""
    epsilon_decay_steps: Positive | None = None
    """Environment steps until --epsilon-end is reached (default: two fifths of the budget)."""
    gamma: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Discount from one decision of a seat to its next."""
    br_lr: Annotated[float, Field(gt=0)] = 1e-3
    """Learning rate of the Q networks (Adam) at the start."""
    br_buffer_size: Positive = 200_000
    """Latest transitions kept for each seat."""
    br_batch_size: Positive = 256
    """Transitions of a gradient step of a Q network."""
    br_train_freq: Positive = 256
    """Environment steps, of both seats together, for each gradient step of each Q network."""
    br_target_update_freq: Positive = 300
    """Gradient steps of a Q network after which its target is copied from it."""
    avg_lr: Annotated[float, Field(gt=0)] = 1e-3
    """Learning rate of the average networks (Adam) at the start."""
    avg_memory: Literal["reservoir", "window"] = "reservoir"
    """What is kept of the play in best response mode: a uniform sample of all, or the latest."""
    avg_buffer_size: Positive = 2_000_000
    """Decisions in best response mode kept for each seat."""
    avg_batch_size: Positive = 256
    """Decisions of a gradient step of an average network."""
    avg_train_freq: Positive = 256
    """Environment steps, of both seats together, for each gradient step of each average network."""
    lr_final: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Learning rates at the end, as a share of --br-lr and --avg-lr; linear in between."""


@dataclass(frozen=True, kw_only=True)
class RegretOptions:
    """The numbers of sampled CFR's regressions."""

    lr: Annotated[float, Field(gt=0)] = 3e-3
    """Learning rate of Adam at the start of each fit, falling linearly to 0."""
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    """Gradients are scaled down to this norm."""
    advantage_memory_size: Positive = 1_000_000
    """Rows of advantages kept for each seat."""
    advantage_batch_size: Positive = 512
    """Rows of a gradient step of an advantage network."""
    advantage_train_steps: Positive = 800
    """Gradient steps of an advantage network in each iteration."""
    memory: Literal["reservoir", "window"] = "reservoir"
    """What the memories keep once they are full: a uniform sample of all rows, or the latest."""
    reinitialise: bool = True
    """Fit a new network in each iteration; --no-reinitialise goes on with the last one."""
    fallback: Literal["argmax", "uniform"] = "argmax"
    """What is played where no advantage is positive: the action with the greatest, or all alike."""
    readout: Literal["sd-cfr", "network"] = "sd-cfr"
    """sd-cfr: one of the stored advantage networks plays a game; network: one that is fitted to all strategies."""
    stored_networks: Positive = 100
    """Advantage networks kept for each seat by sd-cfr; if there are more, every second gives its weight to the next."""
    strategy_memory_size: Positive = 1_000_000
    """Rows of strategies kept for each seat, with --readout network."""
    strategy_batch_size: Positive = 512
    """Rows of a gradient step of a strategy network."""
    strategy_train_steps: Positive = 2000
    """Gradient steps of a strategy network, which is fitted whenever the policy is evaluated or stored."""


@dataclass(frozen=True, kw_only=True)
class JobOptions:
    """Where a run does its independent jobs."""

    executor: Literal["local", "ray", "submitit", "dask"] = "local"
    """Where jobs run: on this machine, or on a cluster (each needs its extra)."""
    workers: Positive = 1
    """Jobs at the same time; 1 local worker is the process itself."""


@dataclass(frozen=True, kw_only=True)
class RunConfig(GameOptions):
    """What all algorithms share: game, seed, evaluation, storage and logging; `StepConfig` and others add a budget."""

    unit: ClassVar[Literal["steps", "iterations"]]
    """What the budget and the intervals count."""
    budget_field: ClassVar[str]
    """The field that holds the budget."""

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
        return int(getattr(self, self.budget_field))

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
    budget_field: ClassVar[str] = "total_timesteps"

    total_timesteps: Positive = 4_000_000
    """Budget in environment steps; one step is one decision of one game."""
    checkpoint_interval: Positive = 1_000_000
    """Store a resumable checkpoint whenever this many steps more are done."""
    eval_interval: Positive = 1_000_000
    """Evaluate on held-out deals, and keep the best policy, whenever this many steps more are done."""


@dataclass(frozen=True, kw_only=True)
class IterationConfig(RunConfig):
    """A run whose budget is counted in iterations of its algorithm."""

    unit: ClassVar[Literal["steps", "iterations"]] = "iterations"
    budget_field: ClassVar[str] = "iterations"

    iterations: Positive = 100
    """Budget in iterations."""
    checkpoint_interval: Positive = 10
    """Store a resumable checkpoint whenever this many iterations more are done."""
    eval_interval: Positive = 10
    """Evaluate on held-out deals, and keep the best policy, whenever this many iterations more are done."""


@dataclass(frozen=True, kw_only=True)
class OracleConfig(PpoOptions, NetworkOptions, JobOptions, RunConfig):
    """A run of a double oracle: populations that grow by responses to the solution of their own game.

    The numbers of a PPO update are those of each response, whose schedules begin anew.
    """

    unit: ClassVar[Literal["steps", "iterations"]] = "iterations"
    budget_field: ClassVar[str] = "psro_iterations"

    observation: Literal["standing", "history"] = "history"
    """standing: the offer on the table; history: every offer made so far as well, which tells opponents apart."""
    psro_iterations: Positive = 20
    """Budget in iterations; each adds a response to each seat's population."""
    num_envs: Positive = 4096
    """The most games that a response is trained on at once; fewer where its budget would not pay for 50 updates."""
    br_training_steps: Positive = 100_000
    """Environment steps, of both seats together, for each response."""
    br_rollout_steps: Annotated[int, Field(ge=2)] = 16
    """Decisions of each game in a rollout of a response; games go on from one rollout to the next."""
    max_policies: Annotated[int, Field(ge=2)] = 20
    """Most policies of a seat; the one of least probability leaves for a new one."""
    nash_solver: Literal["replicator", "fictitious_play", "mene", "max_welfare", "rrd", "nbs", "uniform"] = "replicator"
    """How the game between the policies is solved; see the page on PSRO."""
    num_eval_games: Annotated[int, Field(ge=2)] = 1000
    """Deals on which each pair of policies is played, the same for all pairs."""
    warm_start: bool = True
    """Start a response from the seat's newest one; --no-warm-start starts each from new weights."""
    self_play_share: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of a response's games that are played against the other seat's response, which trains at the same time."""
    keep: Literal["best", "last"] = "best"
    """The solution that is stored at the end: the one hardest to gain on, or the last; NashConv is not monotone."""
    lr: Annotated[float, Field(gt=0)] = 1e-3
    """Learning rate of Adam at the start of each response."""
    entropy_coef: Annotated[float, Field(ge=0)] = 0.1
    """Weight of the entropy bonus at the start of each response."""
    minibatch_size: Annotated[int, Field(ge=1)] = 1024
    """Rows of a gradient step; a rollout is split into equal minibatches of at most this size."""
    checkpoint_interval: Positive = 1
    """Store a resumable checkpoint whenever this many iterations more are done; finished jobs are stored at once."""
    eval_interval: Positive = 5
    """Evaluate on held-out deals, and keep the best policy, whenever this many iterations more are done."""

    def __post_init__(self) -> None:
        super().__post_init__()
        games = games_at_once(self.num_envs, self.br_rollout_steps, self.br_training_steps)
        self.check_kl_rollout(games * self.br_rollout_steps)


@dataclass(frozen=True, kw_only=True)
class CoPlayConfig(PpoOptions, NetworkOptions, JobOptions, RunConfig):
    """A run of fictitious co-play: half of the budget trains partners, the other half responses to them."""

    unit: ClassVar[Literal["steps", "iterations"]] = "steps"
    budget_field: ClassVar[str] = "total_timesteps"

    observation: Literal["standing", "history"] = "history"
    """standing: the offer on the table; history: every offer made so far as well, which tells partners apart."""
    total_timesteps: Positive = 8_000_000
    """Budget in environment steps; one step is one decision of one game."""
    population_size: Positive = 10
    """Independent pairs in the pool; each adds three partners."""
    snapshot_interval: Positive = 10_000
    """Take a snapshot of a pair whenever this many of its steps more are done, at most one an update."""
    prioritized: bool = False
    """Meet partners who earn more in self-play more often; --no-prioritized meets all alike."""
    uniform_prob: Annotated[float, Field(ge=0, lt=1)] | None = None
    """With --prioritized, the share of games whose partner is drawn from all alike (default 0.5)."""
    num_envs: Positive = 4096
    """The most games played at once; fewer where a training would not have 50 updates."""
    rollout_steps: Annotated[int, Field(ge=2)] = 32
    """Decisions of each game in a rollout; games go on from one rollout to the next."""
    lr: Annotated[float, Field(gt=0)] = 1e-3
    """Learning rate of Adam at the start of each training."""
    minibatch_size: Annotated[int, Field(ge=1)] = 2048
    """Rows of a gradient step; a rollout is split into equal minibatches of at most this size."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.uniform_prob is not None and not self.prioritized:
            raise ValueError("--uniform-prob says how often --prioritized draws from all partners alike; it needs it.")
        self.check_kl_rollout(games_at_once(self.num_envs, self.rollout_steps, self.pair_steps) * self.rollout_steps)
        if self.pair_steps < 3 * max(self.snapshot_interval, FEWEST_GAMES * self.rollout_steps):
            raise ValueError(
                f"each pair trains for {self.pair_steps:,} steps, too few for three snapshots; "
                "try more --total-timesteps, or a smaller --population-size or --snapshot-interval."
            )

    @property
    def pair_steps(self) -> int:
        """Steps of each pair."""
        return self.total_timesteps // 2 // self.population_size

    @property
    def response_steps(self) -> int:
        """Steps of each seat's response."""
        return self.total_timesteps // 4
