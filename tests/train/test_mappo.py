"""Whole MAPPO runs: what they store, when they coincide with PPO bit for bit, that they resume, and how they learn."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import cast

import pytest
import torch
from bargain_env import GAMES
from bargain_eval import load_policy
from bargain_eval.arena import play
from bargain_eval.checkpoint import read_checkpoint
from bargain_eval.policy import HasProbabilities, HasValues
from bargain_train.algorithms.mappo import MAPPOConfig
from bargain_train.cli import main
from bargain_train.collect import Rollouts
from bargain_train.config import PpoOptions
from bargain_train.critics import build_actor_critics
from bargain_train.hands import Hands
from bargain_train.learner import Budget, ppo_phase
from bargain_train.networks import Network, build_network
from bargain_train.policies import ActorPolicy, NetworkPolicy
from bargain_train.run import Run
from bargain_train.seeds import derive_seed
from bargain_train.updates import Learner
from torch import nn

from tests.train.conftest import Train, Trained

GAME_METRICS = ("payoff_0", "payoff_1", "total", "agreement_rate", "first_move_walk_rate", "mean_decisions", "games")
UPDATE_METRICS = {
    *("loss", "policy_loss", "value_loss", "entropy", "approx_kl", "clip_fraction", "grad_norm", "first_ratio_error"),
    "explained_variance",
}
COMMON_METRICS = {*GAME_METRICS, "lr", "entropy_coef", "step", "updates"}


@pytest.fixture
def train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Train:
    monkeypatch.chdir(tmp_path)
    return Train(tmp_path, "mappo")


def _learned(run: Trained) -> list[dict[str, torch.Tensor]]:
    """The parameters of each learner, critics included."""
    stored = read_checkpoint(run.folder / "checkpoints" / "latest.pt")["resume"]["learners"]
    return [dict(learner["network"]) for learner in stored]


@pytest.mark.parametrize(
    "flags", [(), ("--share-actor",), ("--network", "transformer", "--d-model", "8", "--nhead", "2")]
)
@pytest.mark.parametrize("observation", ["standing", "history"])
def test_a_run_stores_the_actors_alone_which_play_without_hands(
    train: Train, flags: tuple[str, ...], observation: str
) -> None:
    run = train("--observation", observation, "--eval-interval", "512", *flags)
    assert run.code == 0
    assert run.metadata["status"] == "completed"
    shared = "--share-actor" in flags
    update = UPDATE_METRICS if shared else {f"{name}_{seat}" for name in UPDATE_METRICS for seat in range(2)}
    for line in run.metrics:
        logged = {name for name in line if not name.startswith("eval/")}
        assert logged == COMMON_METRICS | update
        assert ("eval/nash_conv" in line) == (line["step"] % 512 == 0)
        assert max(abs(line[name]) for name in update if name.startswith("first_ratio_error")) < 1e-5

    stored = read_checkpoint(run.folder / "policy.pt")["networks"]
    assert len(stored) == (1 if shared else 2)
    for network, learned in zip(stored, _learned(run), strict=True):
        assert network["config"]["observation"] == observation
        assert network["config"]["values"] is False
        weights = network["policy_state_dict"]
        assert all(name.startswith(("trunk.", "policy_head.")) for name in weights)
        assert all(torch.equal(weights[name], learned[name]) for name in weights)
        assert any(name.startswith("critics.0.norm.") for name in learned)

    names = f"run:{run.run_id}", str(run.folder / "policy.pt"), f"run:{run.run_id}?checkpoint=latest"
    random = load_policy("random", GAMES["mini-b"])
    played = [play((load_policy(name), random), 50, 1, spec=GAMES["mini-b"]).payoff for name in names]
    assert (played[1] == played[0]).all()
    assert (played[2] == played[0]).all()
    policy = load_policy(names[0])
    assert policy.observation == observation
    assert isinstance(policy, HasProbabilities)
    assert not isinstance(policy, HasValues)


def test_a_policy_of_actors_tells_no_values(train: Train) -> None:
    run = train("--total-timesteps", "256")
    policy = load_policy(f"run:{run.run_id}")
    assert type(policy) is ActorPolicy
    first, second = policy.networks
    with pytest.raises(ValueError, match="nobody trained this policy's values"):
        NetworkPolicy((first, second)).values(torch.zeros(1, GAMES["mini-b"].observation_dim))


COMPARED = ("--lr", "0.003", "--minibatch-size", "100")


@pytest.mark.parametrize("flags", [(), ("--share-actor",), ("--no-value-norm",), ("--hidden-dims", "24", "12", "8")])
def test_with_the_hands_zeroed_nothing_differs_from_critics_that_see_their_own(
    train: Train, monkeypatch: pytest.MonkeyPatch, flags: tuple[str, ...]
) -> None:
    seeing, blind = train(*COMPARED, *flags), train(*COMPARED, *flags, "--no-centralized-critic")
    assert seeing.metrics[0] != blind.metrics[0]
    waiting = Hands.waiting
    monkeypatch.setattr(Hands, "waiting", lambda hands: torch.zeros_like(waiting(hands)))
    dark = train(*COMPARED, *flags)
    assert dark.metrics == blind.metrics
    dark.assert_same_weights(blind)
    for ours, theirs in zip(_learned(dark), _learned(blind), strict=True):
        assert {name.split(".")[0] for name in set(ours) - set(theirs)} == {"hand_maps"}
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


class _Joined(nn.Module):
    """What an actor reads and what a critic reads, side by side."""

    def __init__(self, actor: nn.Module, critic: nn.Module) -> None:
        super().__init__()
        self.actor, self.critic = actor, critic

    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.actor(observation), self.critic(observation)], -1)


class _TwoTrunks(Network):
    """Two networks of PPO, the policy of one and the value of the other: a critic with a trunk of its own."""

    def __init__(self, actor: Network, critic: Network) -> None:
        reader, value = _Joined(actor.reader, critic.reader), nn.Sequential(critic.trunk, critic.value_head)
        super().__init__(actor.config, critic.spec_of_game, reader, actor.trunk, (actor.policy_head, value))
        self.sizes = [int(part.reader.size) for part in (actor, critic)]  # type: ignore[arg-type]

    def outputs(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        own, seen = features.split(self.sizes, -1)
        return self.policy_head(self.trunk(own)), self.value_head(seen).squeeze(-1)

    def values(self, observation: torch.Tensor) -> torch.Tensor:
        value: torch.Tensor = self(observation)[1]
        return value


def test_without_hands_and_normalisation_it_is_ppo_on_critics_with_trunks_of_their_own(train: Train) -> None:
    run = train(*COMPARED, "--no-centralized-critic", "--no-value-norm", "--seed", "5")
    config = cast(MAPPOConfig, MAPPOConfig.from_dict(json.loads((run.folder / "config.json").read_text())))
    history = config.spec().with_observation("history")
    torch.manual_seed(derive_seed(5, "networks"))
    _, built = build_actor_critics(config.network_config(), config.spec(), config)
    networks = []
    for start in built:
        actor = build_network(config.network_config(), config.spec())
        critic = build_network({"network": "mlp", "hidden_dims": list(config.critic_hidden_dims)}, history)
        network = _TwoTrunks(actor, critic)
        with torch.no_grad():
            for mine, theirs in zip(network.parameters(), start.parameters(), strict=True):
                mine.copy_(theirs)
        networks.append(network)
    learners = [Learner(network, (seat,), config) for seat, network in enumerate(networks)]
    rollouts = Rollouts(
        history, (networks[0], networks[1]), num_envs=config.num_envs, length=config.rollout_steps, seed=5
    )
    generator = torch.Generator().manual_seed(derive_seed(5, "shuffle"))
    lines = list(ppo_phase(learners, rollouts, history, config.total_timesteps, Budget(), generator))
    assert [{name: line[name] for name in found} for line, found in zip(run.metrics, lines, strict=True)] == lines
    for network, learned in zip(networks, _learned(run), strict=True):
        for parameter, tensor in zip(network.parameters(), learned.values(), strict=True):
            assert torch.equal(parameter, tensor)


VARIANTS: dict[str, tuple[str, ...]] = {
    "two actors": (),
    "shared": ("--share-actor",),
    "history": ("--observation", "history"),
    "magnet": ("--kl-rollout-coef", "0.2", "--kl-magnet-coef", "0.3", "--magnet-interval", "3"),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_a_stopped_run_resumes_to_the_same_weights_statistics_and_metrics(
    train: Train, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    whole = train("--total-timesteps", "2048", *VARIANTS[name])
    advance = Run.advance

    def stop_halfway(run: Run, steps: int) -> None:
        advance(run, steps)
        if run.step == 1024:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "advance", stop_halfway)
        half = train("--total-timesteps", "2048", *VARIANTS[name])
    assert half.code == 130
    assert main(["mappo", "--resume", half.run_id]) == 0
    assert half.metrics == whole.metrics
    assert half.metadata["final_metrics"] == whole.metadata["final_metrics"]
    half.assert_same_weights(whole)
    for ours, theirs in zip(_learned(half), _learned(whole), strict=True):
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_the_same_seed_repeats_a_run_and_another_does_not(train: Train) -> None:
    first, again, other = train(), train(), train("--seed", "1")
    assert again.metrics == first.metrics
    again.assert_same_weights(first)
    assert other.metrics != first.metrics


def test_the_defaults_are_those_of_the_paper_and_of_ppo() -> None:
    config = MAPPOConfig()
    assert (config.centralized_critic, config.value_norm, config.share_actor) == (True, True, False)
    assert (config.observation, config.num_envs, config.rollout_steps) == ("standing", 512, 64)
    assert config.critic_hidden_dims == config.hidden_dims == (256, 256)
    assert config.minibatch_size == PpoOptions().minibatch_size // 2  # each actor learns from half of the decisions


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--critic-hidden-dims",), "--critic-hidden-dims needs at least one positive size"),
        (("--critic-hidden-dims", "0"), "--critic-hidden-dims"),
        (("--hidden-dims",), "--hidden-dims needs at least one positive size"),
        (
            ("--kl-rollout-coef", "0.1", "--ppo-epochs", "1", "--minibatch-size", "100000"),
            "--kl-rollout-coef needs more",
        ),
        (("--magnet-interval", "3"), "--magnet-interval says when"),
        (("--opponent", "greedy"), "--opponent"),
    ],
)
def test_settings_that_do_not_fit_are_refused(
    train: Train, capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], message: str
) -> None:
    assert main(["mappo", *train.flags, *flags]) == 2
    assert message in capsys.readouterr().err
    assert not list(train.root.glob("results/*/run_*"))


def test_a_diverging_run_ends_with_one_sentence(train: Train, capsys: pytest.CaptureFixture[str]) -> None:
    assert train("--lr", "1e30", "--max-grad-norm", "1e30").code == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("bargain-train mappo: ")
    assert last.endswith(" not finite; try a smaller --lr.")


def test_a_few_games_and_the_shortest_rollout_train(train: Train) -> None:
    for flags in ((), ("--share-actor",)):
        assert train("--num-envs", "1", "--rollout-steps", "2", "--total-timesteps", "20", *flags).code == 0


@pytest.mark.slow
@pytest.mark.parametrize("flags", [(), ("--share-actor",)])
def test_it_reaches_the_gate_of_ppo_on_a_small_game(train: Train, flags: tuple[str, ...]) -> None:
    """Uniform play has NashConv 0.470 in mini-b; three seeds ended between .004 and .011."""
    sizes = ("--hidden-dims", "32", "--critic-hidden-dims", "32", "--num-envs", "256", "--rollout-steps", "32")
    pace = ("--total-timesteps", "600000", "--lr", "0.003", "--lr-final", "0.02", "--gae-lambda", "1")
    entropy = ("--entropy-coef", "0.2", "--entropy-coef-final", "0.005")
    run = train(*sizes, *pace, *entropy, "--seed", "1", "--eval-interval", "10000000", *flags)
    assert run.metadata["final_metrics"]["nash_conv"] <= 0.02
    names = ("explained_variance",) if flags else ("explained_variance_0", "explained_variance_1")
    assert all(run.metrics[-1][name] > 0.5 > run.metrics[0][name] for name in names)
