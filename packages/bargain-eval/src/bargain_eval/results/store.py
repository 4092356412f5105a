"""The results folder: makes, finds, ranks, exports and cleans up runs."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from bargain_eval.checkpoint import read_checkpoint
from bargain_eval.files import dump_json, replace_file
from bargain_eval.results import views
from bargain_eval.results.cleanup import abandon_if_dead, remove_if_failed
from bargain_eval.results.index import refresh_index
from bargain_eval.results.layout import (
    Metadata,
    algorithm_name,
    make_run_folder,
    policy_file,
    run_folder,
    run_id,
)
from bargain_eval.results.metadata import Status, new_metadata, read_metadata
from bargain_eval.results.record import RunRecord, reopen_record, start_record

ExportFormat = Literal["csv", "json"]


class ResultsManager:
    """The runs stored in one folder, which any number of processes may use at once.

    The run folders are the truth and index.json is a cache of them, so the folder can be moved, copied and merged.
    Runs are handed out as dicts of the fields of metadata.json plus `path`, the run's folder, absolute. Reading makes
    no folder. An unknown run id raises ValueError.

    Args:
        root: the results folder; made with the first run. A relative path is taken from the folder current now.
    """

    def __init__(self, root: str | Path = "results") -> None:
        self.root = Path(root).resolve()

    def create_run(
        self,
        algorithm: str,
        seed: int,
        hyperparameters: Mapping[str, Any],
        *,
        environment: str = "bargain",
        env_config: Mapping[str, Any] | None = None,
        total_timesteps: int | None = None,
        tags: Iterable[str] = (),
        device: str = "cpu",
    ) -> RunRecord:
        """Starts a run; its folder, config.json and metadata.json (status running) are there when this returns.

        Args:
            algorithm: the training algorithm; `sampled-cfr` and `sampled_cfr` are one.
            seed: the user's seed, at least 0.
            hyperparameters: everything the run was told; what is named like a key or password is stored as `"***"`.
            environment: the name of the game.
            env_config: the fields of its `GameSpec`.
            total_timesteps: the budget in environment steps, if it has one.
            tags: words to find the run by.
            device: where it computes.

        Raises:
            ValueError: a bad algorithm name or seed.
            TypeError: a hyperparameter that JSON cannot hold.
        """
        if seed < 0:
            raise ValueError(f"the seed must be at least 0, not {seed}")
        time = datetime.now(UTC)
        name = algorithm_name(algorithm)
        metadata = new_metadata(
            algorithm=name,
            seed=int(seed),
            hyperparameters=hyperparameters,
            environment=environment,
            env_config=env_config,
            total_timesteps=total_timesteps,
            tags=tags,
            device=device,
            time=time,
        )
        folder = make_run_folder(self.root, name, int(seed), time)
        return start_record(self.root, folder, {"run_id": run_id(folder), **metadata})

    def open_run(self, run_id: str, *, truncate_after_step: int | None = None) -> RunRecord:
        """Takes up a stored run again, in the same folder and with status running.

        Args:
            run_id: the run.
            truncate_after_step: the step of the checkpoint to resume from; metric lines and step checkpoints after it
                are removed, so that the resumed run has every step once.

        Raises:
            ValueError: there is no such run, or a living process is writing it.
        """
        return reopen_record(self.root, run_id, truncate_after_step)

    def get_run(self, run_id: str) -> Metadata:
        """The metadata of one run."""
        return read_metadata(run_folder(self.root, run_id))

    def list_runs(
        self, algorithm: str | None = None, status: Status | None = None, tags: Iterable[str] | None = None
    ) -> list[Metadata]:
        """The runs of that algorithm, with that status and with all those tags, newest first.

        Costs one small file read per run.
        """
        name = None if algorithm is None else algorithm_name(algorithm)
        wanted = set(tags or ())
        return [
            run
            for run in self._runs()
            if name in {None, run["algorithm"]} and status in {None, run["status"]} and wanted <= set(run["tags"])
        ]

    def get_best_run(
        self,
        algorithm: str | None = None,
        metric: str = views.DEFAULT_METRIC,
        minimize: bool = False,
        include_one_seat: bool = False,
        game: str | None = "default",
    ) -> Metadata | None:
        """The completed run of `game` with the largest `metric`, a dotted name; with `minimize`, the smallest.

        Payoffs of different games do not compare; `game` is a name as `views.game_name` gives it, None is any game.

        Runs without the metric do not count, nor do runs against one fixed opponent unless `include_one_seat`.

        Returns:
            The run's metadata, or None if no run counts.
        """
        runs = self.list_runs(algorithm, status="completed")
        candidates = [
            run
            for run in runs
            if (include_one_seat or not views.is_one_seat(run)) and game in {None, views.game_name(run)}
        ]
        return next(iter(views.best_first(candidates, metric, minimize)), None)

    def leaderboard(
        self, metric: str = views.DEFAULT_METRIC, game: str = "default", minimize: bool = False
    ) -> views.Leaderboard:
        """The best completed run of each algorithm on `game` by `metric`, and apart from them the one-seat runs."""
        return views.leaderboard(self.list_runs(status="completed"), metric, game, minimize)

    def compare_runs(self, run_ids: Iterable[str]) -> dict[str, Any]:
        """The runs side by side, as `bargain_eval.results.views.compare` says."""
        return views.compare([self.get_run(run_id) for run_id in run_ids])

    def policy_path(self, run_id: str, checkpoint: str | None = None) -> Path:
        """The file of a run's policy: policy.pt, else best.pt, else latest.pt; or the checkpoint named.

        Args:
            run_id: the run.
            checkpoint: `policy`, `best`, `latest` or `step_<k>`.

        Raises:
            ValueError: the run or the file is missing.
        """
        return policy_file(run_folder(self.root, run_id), checkpoint)

    def load_policy(self, run_id: str, checkpoint: str | None = None) -> dict[str, Any]:
        """Reads the file at `policy_path` onto the CPU; `["policy_state_dict"]` are the weights of its first network.

        Raises:
            ValueError: the run or the file is missing, or no checkpoint that may be read (`CheckpointError`).
            ModuleNotFoundError: torch is not installed.
        """
        return read_checkpoint(self.policy_path(run_id, checkpoint))

    def export_results(self, path: str | Path, format: ExportFormat | None = None) -> int:
        """Writes all completed runs to one file, newest first: a JSON list, or a CSV table with dotted column names.

        Args:
            path: the file.
            format: None takes it from the ending of `path`.

        Returns:
            The number of runs written.

        Raises:
            ValueError: neither `format` nor the ending says which, or `path` is no file.
        """
        path = Path(path)
        chosen = format or path.suffix.lower().removeprefix(".")
        if chosen not in {"csv", "json"}:
            raise ValueError(f"say whether {path} is to be csv or json, by its ending or by the format")
        if path.exists() and not path.is_file():
            raise ValueError(f"{path} is no regular file")
        runs = self.list_runs(status="completed")
        text = views.csv_text(runs) if chosen == "csv" else dump_json(runs, indent=2) + "\n"
        with replace_file(path) as file:
            file.write(text.encode())
        return len(runs)

    def cleanup_failed_runs(self, delete: bool = False) -> list[str]:
        """Marks as abandoned the runs whose process ended without closing them.

        Only runs of this host are judged. A run is dead when the lock that its process held is free, which no process
        id that was given out again can feign.

        Args:
            delete: also remove every failed and abandoned run, those of earlier times and other hosts included.

        Returns:
            The ids of the runs marked, or with `delete` of those removed.
        """
        changed = [run_id(folder) for folder in self._folders() if abandon_if_dead(folder)]
        if delete:
            changed = [run_id(folder) for folder in self._folders() if remove_if_failed(folder)]
        refresh_index(self.root)
        return sorted(changed)

    def rebuild_index(self) -> int:
        """Writes index.json anew from the run folders, which no reader needs, and returns the number of runs."""
        return len(refresh_index(self.root, rebuild=True))

    def _folders(self) -> list[Path]:
        return [self.root / entry["path"] for entry in refresh_index(self.root).values()]

    def _runs(self) -> Iterator[Metadata]:
        for folder in self._folders():
            try:
                yield read_metadata(folder)
            except FileNotFoundError:
                continue  # removed since the index was read
