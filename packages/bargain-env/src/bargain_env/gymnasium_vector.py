"""Gymnasium's vector view: a learner in one seat of many games, an opponent in the other.

Legend: `B` games, `I` item types, `A` actions, `O` features, `n` the games in which the opponent is to move.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from bargain_env.checks import check_array, check_seed, check_spec
from bargain_env.engine import make_engine
from bargain_env.layout import mover_views_layout, observation_bounds
from bargain_env.spec import GameSpec

Opponent = Callable[[NDArray[np.float32], NDArray[np.bool_]], Any]
"""Takes the opponent's observations `[n, O]` and legal actions `[n, A]`, returns integers `[n]`."""

Seat = Literal[0, 1, "alternate"]
Observation = Any
"""A float32 array, or a dictionary of arrays where `flat` is False."""

Infos = dict[str, Any]


class BargainVectorEnv(VectorEnv[Any, NDArray[Any], NDArray[Any]]):
    """`B` games in lock-step as a Gymnasium `VectorEnv`: every step is one move of the learner and the reply to it.

    An observation is the learner's own view, float32 `[B, O]`, whose slice `spec_of_game.slices["mask"]` holds the
    legal actions; they also stand in `infos["action_mask"]` (int8 `[B, A]`, 1 = legal) and `action_masks()`. The
    reward is the learner's payoff / own total in the step that ends the game, else 0; nothing is ever truncated. An
    illegal action is executed as walk.

    Where a game is over the observation is zeros and only walk is legal. That is how a game is shown that the opponent
    ended before the learner moved: as one step in which only walk is legal and which pays the outcome.

    `infos` holds arrays: always `action_mask` and `seat` `[B]`; for games that ended also `illegal` and
    `opponent_illegal` (who made an illegal move), `outcome` (1 deal, 2 walk), `offer` (the accepted one, else -1),
    `decisions` (moves of both seats) and `opponent_payoff`. With `SAME_STEP` these lie in `infos["final_info"]`,
    beside the `seat` of the game that ended.

    A pickled or copied environment is built anew from its arguments, before its first reset.

    Args:
        spec: The game; the standard one if None.
        num_envs: Games `B`.
        seat: The learner's seat; "alternate" starts game i in seat i % 2 and changes seat with every episode.
        opponent: The other seat's policy; None plays uniform legal actions drawn from the deals' seed.
        seed: Key of the deals, 0 to 2**64 - 1; None draws one, as Gymnasium's environments do until `reset(seed=...)`.
        flat: If False, an observation is `{"observation": [B, O] float32, "action_mask": [B, A] int8}`.
        autoreset_mode: When a finished game is dealt anew: in the step that ends it (`SAME_STEP`), in the next one
            (`NEXT_STEP`), or by `reset(options={"reset_mask": bool [B]})` (`DISABLED`).
        copy: If False, observations and masks are the environment's own, which the next step or reset overwrites.
        threads: CPU threads; results do not depend on it.
        first_game: Index of the first row's game.

    Attributes:
        spec_of_game: The game (`spec` is Gymnasium's `EnvSpec`).
        engine: The engine behind the view; its records of finished games are valid where terminated.
        opponent: The other seat's policy; may be replaced between steps.
        autoreset_mode: The mode, also in `metadata`.

    Raises:
        ValueError: If an argument is out of range.
    """

    closed = True  # as long as there is no engine to close

    def __init__(
        self,
        spec: GameSpec | None = None,
        num_envs: int = 1,
        *,
        seat: Seat = 0,
        opponent: Opponent | None = None,
        seed: int | None = None,
        flat: bool = True,
        autoreset_mode: AutoresetMode | str = AutoresetMode.SAME_STEP,
        copy: bool = True,
        threads: int = 1,
        first_game: int = 0,
    ) -> None:
        if not _is_seat(seat):
            raise ValueError(f'seat must be 0, 1 or "alternate", got {seat!r}.')
        if opponent is not None and not callable(opponent):
            raise ValueError(f"opponent must be a function of observations and legal actions, got {opponent!r}.")
        modes = [mode.value for mode in AutoresetMode]
        if not isinstance(autoreset_mode, AutoresetMode) and autoreset_mode not in modes:
            raise ValueError(
                f"autoreset_mode must be an AutoresetMode or one of {', '.join(modes)}, got {autoreset_mode!r}."
            )
        self._build = functools.partial(
            type(self),
            spec,
            num_envs,
            seat=seat,
            opponent=opponent,
            seed=seed,
            flat=flat,
            autoreset_mode=autoreset_mode,
            copy=copy,
            threads=threads,
            first_game=first_game,
        )
        self.spec_of_game = spec = check_spec(spec)
        self.num_envs = num_envs
        self.seat = seat
        self.opponent = opponent
        self.flat = bool(flat)
        self.copy = bool(copy)
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.metadata = {"render_modes": [], "autoreset_mode": self.autoreset_mode}
        key = int(self.np_random.integers(2**63)) if seed is None else seed
        self._same_step = self.autoreset_mode is AutoresetMode.SAME_STEP
        self.engine = make_engine(
            spec, num_envs, seed=key, first_game=first_game, threads=threads, autoreset=self._same_step, views=False
        )
        self.closed = False
        self.single_observation_space = observation_space(spec, self.flat)
        self.single_action_space = spaces.Discrete(spec.num_actions)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._started = False
        self._broken = False  # the opponent may have left games between two moves
        self._all = np.ones(num_envs, dtype=bool)
        self._actions = np.empty(num_envs, dtype=np.int64)
        self._replies = np.full(num_envs, spec.walk_action, dtype=np.int64)
        self._seats = np.full(num_envs, 1 if seat == 1 else 0, dtype=np.int64)
        self._first_seats = (first_game + np.arange(num_envs)) % 2
        self._layout = mover_views_layout(spec, num_envs)
        self._scratch = self._allocate()
        self._shown = None if copy else self._allocate()
        self._over = np.zeros(num_envs, dtype=bool)  # shown as over: only walk is legal
        self._reported = np.zeros(num_envs, dtype=bool)  # the end was reported, and the game not dealt anew
        # What happened and was not reported yet; only an opening of the opponent that ends the game lasts until a step.
        self._payoffs = np.zeros((num_envs, 2), dtype=np.float32)
        self._illegal = np.zeros((2, num_envs), dtype=bool)  # the learner's, the opponent's

    def __reduce__(self) -> tuple[Callable[[], BargainVectorEnv], tuple[()]]:
        """Pickles the arguments; with EzPickle, Gymnasium 1.2 would close the engine that a copy takes over."""
        return self._build, ()

    def reset(self, *, seed: int | None = None, options: Mapping[str, Any] | None = None) -> tuple[Observation, Infos]:
        """Deals games: episode 0 at first and with a `seed`, then one more each time. The opponent moves if it opens.

        Args:
            seed: If given, the new key of the deals and of the random opponent.
            options: May hold `values` int `[B, 2, I]` with `outside` int `[B, 2]` (explicit deals) and `reset_mask`
                bool `[B]` (the rows to deal; the others are left alone).

        Returns:
            Observations and infos of all rows.

        Raises:
            ValueError: If an option is unknown or a value is out of range.
            RuntimeError: If there is a `reset_mask` in the first reset, or in the one after a step or reset that the
                opponent or an interrupt cut short.
        """
        seed = None if seed is None else check_seed(seed)
        super().reset(seed=seed)
        options = dict(options or {})
        chosen = options.pop("reset_mask", None)
        if chosen is not None and not self._started:
            raise RuntimeError("the first reset deals all games; it takes no reset_mask.")
        if chosen is not None and self._broken:
            raise RuntimeError("the reset after a step or reset that was cut short takes no reset_mask.")
        rows = self._all if chosen is None else check_array("reset_mask", chosen, (self.num_envs,), np.bool_)
        was_broken, self._broken = self._broken, True
        try:
            self.engine.reset(seed, {**options, "reset_mask": rows})
        except ValueError:  # refused before anything was dealt
            self._broken = was_broken
            raise
        self.engine.autoreset = self._same_step
        self._started = True
        self._payoffs[rows] = 0
        self._illegal[:, rows] = False
        if self.seat == "alternate":
            episodes = self.engine.get_state()["episode"]
            np.copyto(self._seats, (self._first_seats + episodes) % 2, where=rows)
        self._begin(rows)
        self._broken = False
        return self._observe()

    def step(
        self, actions: Any
    ) -> tuple[Observation, NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_], Infos]:
        """Plays the learner's actions, then the opponent's replies; two steps of the engine, and no Python per game.

        Args:
            actions: Integers `[B]`; those of finished games are ignored.

        Returns:
            Observations, rewards `[B]` float32, terminations and truncations `[B]` bool, and infos.

        Raises:
            RuntimeError: If `reset` has not been called, a finished game was not reset (`DISABLED`), or the last step
                or reset was cut short by the opponent or an interrupt.
            ValueError: If `actions` are no integers `[B]`, or the opponent's are not.
        """
        if not self._started:
            raise RuntimeError("call reset before step.")
        if self._broken and not self.closed:
            raise RuntimeError("the opponent or an interrupt cut the last step or reset short; call reset before step.")
        if self.autoreset_mode is AutoresetMode.DISABLED and self._reported.any():
            raise RuntimeError("a game has ended; reset it before the next step.")
        _read_actions("actions", actions, self._actions)
        over = self._over
        self._broken = True
        self.engine.step(self._actions)
        self._settle(0)
        self._reply(~self.engine.terminated)
        ended = self.engine.terminated & ~self._reported
        rewards, records = self._report(ended)
        if not self._same_step:
            self._deal_again(self._reported)
            self._change_seats(self._reported)
            self._begin(self._reported)
            self._reported = ended.copy()
        elif records:
            records = self._final(ended, records)
            self._deal_again(over)
            self._change_seats(ended)
            self._begin(ended)
        self._broken = False
        observation, infos = self._observe()
        return observation, rewards, ended, np.zeros(self.num_envs, dtype=bool), infos | records

    def action_masks(self) -> NDArray[np.bool_]:
        """Returns the legal actions `[B, A]` bool of the learner; only walk where a game is over."""
        self.engine.mover_views(*self._scratch)
        legal = self._scratch[1].copy()
        legal[:, self.spec_of_game.walk_action] = True
        return legal

    def close_extras(self, **kwargs: Any) -> None:
        """Releases the engine; a later step or reset raises."""
        self.engine.close()

    def _deal_again(self, rows: NDArray[np.bool_]) -> None:
        if rows.any():
            self.engine.reset(options={"reset_mask": rows})

    def _change_seats(self, rows: NDArray[np.bool_]) -> None:
        if self.seat == "alternate":
            np.copyto(self._seats, 1 - self._seats, where=rows)

    def _begin(self, rows: NDArray[np.bool_]) -> None:
        """Starts the games `rows`, which have just been dealt, with the opponent's opening."""
        self._reported = self._reported & ~rows
        if self.seat != 0:
            self._reply(rows & (self._seats == 1), opening=True)

    def _reply(self, rows: NDArray[np.bool_], opening: bool = False) -> None:
        """Lets the opponent move in `rows`; the other games stand still, and so does one that ends by its opening."""
        if not rows.any():
            return
        if self.opponent is None:
            self.engine.random_actions(out=self._replies)
        else:
            where = np.flatnonzero(rows)
            view, mask = self._scratch
            self.engine.mover_views(view, mask)
            chosen = self.opponent(view.take(where, 0), mask.take(where, 0))
            replies = np.empty(len(where), dtype=np.int64)
            _read_actions("the opponent's actions", chosen, replies)
            self._replies[where] = replies
        self.engine.autoreset = self._same_step and not opening
        self.engine.step(self._replies, rows)
        self.engine.autoreset = self._same_step
        self._settle(1)

    def _settle(self, who: int) -> None:
        self._payoffs += self.engine.reward
        self._illegal[who] |= self.engine.illegal

    def _report(self, ended: NDArray[np.bool_]) -> tuple[NDArray[np.float32], Infos]:
        """Returns the rewards and, if any game ended, how these went; `_name` tells where it holds, as in Gymnasium."""
        rewards, payoffs = self._split_payoffs()
        records: Infos = {}
        if ended.any():
            engine, where = self.engine, ended.copy()
            records["illegal"], records["opponent_illegal"] = self._illegal.copy()
            for name, record in (("outcome", engine.outcome), ("offer", engine.offer), ("decisions", engine.decisions)):
                records[name] = (record * ended).astype(np.int64)
            records["opponent_payoff"] = payoffs.astype(np.float64)
            records |= {f"_{name}": where for name in records}
        self._payoffs.fill(0)
        self._illegal.fill(False)
        return rewards, records

    def _split_payoffs(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Returns the learner's payoffs `[B]` and the opponent's."""
        first, second = self._payoffs[:, 0].copy(), self._payoffs[:, 1].copy()
        if self.seat == "alternate":
            learns_second = self._seats == 1
            return np.where(learns_second, second, first), np.where(learns_second, first, second)
        return (first, second) if self.seat == 0 else (second, first)

    def _observe(self) -> tuple[Observation, Infos]:
        """Returns what the learner sees, and the infos that always stand; only walk is legal where a game is over."""
        view, legal = self._shown or self._allocate()
        self.engine.mover_views(view, legal)
        walk = self.spec_of_game.walk_action
        if self.seat != 0 or not self._same_step:  # else no game is ever shown as over
            self._over = ~legal[:, walk]
        if self._over.any():
            legal[self._over, walk] = True
            view[self._over, self.spec_of_game.slices["mask"].start + walk] = 1
        mask = legal.view(np.int8)
        infos = {"action_mask": mask, "_action_mask": self._all.copy()}
        infos |= {"seat": self._seats.copy(), "_seat": self._all.copy()}
        return view if self.flat else {"observation": view, "action_mask": mask}, infos

    def _allocate(self) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Returns views `[B, O]` and masks `[B, A]`, not yet written."""
        view, mask = self._layout.values()
        return np.empty(*view), np.empty(*mask)

    def _final(self, ended: NDArray[np.bool_], records: Infos) -> Infos:
        """Returns the infos of a step with automatic reset: what the rows `ended` showed before they were reset."""
        where = records["_outcome"]
        final_info = {"seat": self._seats * ended, "_seat": where} | records
        final_obs = np.full(self.num_envs, None, dtype=object)
        final_obs[ended] = self._finished_observation()
        return {"final_obs": final_obs, "_final_obs": where, "final_info": final_info, "_final_info": where}

    def _finished_observation(self) -> NDArray[Any]:
        """Returns the observation of a game that is over, zeros with only walk legal, as an array of one object."""
        spec, walk = self.spec_of_game, self.spec_of_game.walk_action
        view, mask = np.zeros(spec.observation_dim, dtype=np.float32), np.zeros(spec.num_actions, dtype=np.int8)
        view[spec.slices["mask"].start + walk] = mask[walk] = 1
        shown = np.empty((), dtype=object)
        shown[()] = view if self.flat else {"observation": view, "action_mask": mask}
        return shown


def observation_space(spec: GameSpec, flat: bool) -> spaces.Space[Any]:
    """Returns the space of one game's observation, alone or with its mask."""
    box = spaces.Box(*observation_bounds(spec))
    if flat:
        return box
    return spaces.Dict({"observation": box, "action_mask": spaces.Box(0, 1, (spec.num_actions,), np.int8)})


def _is_seat(seat: Any) -> bool:
    if isinstance(seat, str):
        return seat == "alternate"
    return isinstance(seat, (int, np.integer)) and not isinstance(seat, bool) and seat in (0, 1)


def _read_actions(name: str, actions: Any, out: NDArray[np.int64]) -> None:
    chosen = np.asarray(actions)
    if chosen.shape != out.shape or chosen.dtype.kind not in "iu":
        raise ValueError(f"{name} must be integers of shape {out.shape}, got shape {chosen.shape} of {chosen.dtype}.")
    np.copyto(out, chosen, casting="unsafe")
