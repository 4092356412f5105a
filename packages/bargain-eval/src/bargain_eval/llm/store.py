"""The store of calls: every answer that was paid for, what it cost, and what may still be spent.

One SQLite file for any number of runs, processes and threads of one machine. A call is found by the hash of its request
and of the sample's index, see `Request.key`, so that no call is paid for twice, and holds the text of both sides, so
that results can be audited. No secret is part of a request, hence none is stored.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple, Self
from uuid import uuid4

from filelock import FileLock, Timeout

from bargain_eval.llm.request import Answer, Request
from bargain_eval.policy import PolicyFailed

_FORMAT = 1
_BUSY_SECONDS = 60.0
_TABLES = """
CREATE TABLE calls (
    key TEXT PRIMARY KEY, run TEXT, model TEXT, request TEXT, answer TEXT,
    input_tokens INTEGER, output_tokens INTEGER, cost REAL, created TEXT
);
CREATE INDEX calls_of_model ON calls (model, output_tokens);
CREATE TABLE spending (
    run TEXT, model TEXT, calls INTEGER, cost REAL, without_cost INTEGER, largest REAL, PRIMARY KEY (run, model)
);
CREATE TABLE reserved (key TEXT PRIMARY KEY, run TEXT, model TEXT, cost REAL, owner TEXT);
"""


class BudgetReached(PolicyFailed):
    """The limit of a run is reached; what was answered is stored."""


class Spent(NamedTuple):
    """What a run has paid for.

    Attributes:
        calls: Answered calls.
        cost: Their cost in dollars, None if that of one is unknown.
    """

    calls: int
    cost: float | None


class StoredCall(NamedTuple):
    """An answered call.

    Attributes:
        key: Its name, see `Request.key`.
        run: The run that paid for it.
        request: The request as `Request.canonical`.
        answer: The answer.
        cost: Dollars, None if unknown.
    """

    key: str
    run: str
    request: str
    answer: Answer
    cost: float | None


class CallStore:
    """The store in one file; threads may share it. To be used in a `with` statement, or closed.

    Each method costs about 0.1 ms, and `put` a flush to the disk beside it.

    Args:
        path: The file; made with its folder if it does not exist.

    Raises:
        ValueError: If the file is something else, or cannot be opened; every method raises it too, if the file is
            damaged or can no longer be written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).absolute()
        self._lock = threading.Lock()
        self._owner = uuid4().hex
        self._alive = self._lock_of(self._owner)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(self.path, _BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        except (OSError, sqlite3.Error) as error:
            raise ValueError(f"the store of calls {path} cannot be opened: {error}.") from error
        try:
            self._prepare()
        except ValueError:
            self._db.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Gives back what is reserved and closes the file."""
        try:
            if self._alive.is_locked:
                with self._using() as cursor:
                    cursor.execute("DELETE FROM reserved WHERE owner = ?", (self._owner,))
        finally:
            if self._alive.is_locked:
                self._alive.release()
                Path(self._alive.lock_file).unlink(missing_ok=True)
            with self._lock:
                self._db.close()

    def get(self, key: str) -> Answer | None:
        """Returns the answer to a call, None if there is none yet."""
        call = self.call(key)
        return None if call is None else call.answer

    def call(self, key: str) -> StoredCall | None:
        """Returns an answered call with all that is known of it, None if there is none yet."""
        with self._using() as cursor:
            query = "SELECT run, request, answer, cost FROM calls WHERE key = ?"
            row = cursor.execute(query, (key,)).fetchone()
        if row is None:
            return None
        run, request, answer, cost = row
        return StoredCall(key, run, request, Answer.from_dict(json.loads(answer)), cost)

    def reserve(
        self,
        key: str,
        run: str,
        model: str,
        expected_cost: float | None,
        max_calls: int | None = None,
        max_cost: float | None = None,
    ) -> bool:
        """Takes on a call, and returns whether it may be sent now.

        It may not while another thread or process is at the same call, or as long as calls under way may use up the
        run's limits; then ask for the answer again, and for this, a little later. What processes that died have
        reserved counts no longer.

        Args:
            key: The call.
            run: Who pays.
            model: Counted at the largest cost of a call of this run and model, or `expected_cost` if that is larger.
            expected_cost: Dollars, None if unknown.
            max_calls: Limit of the run's calls over all processes and resumes, None = no limit.
            max_cost: Limit in dollars, in the same way.

        Raises:
            BudgetReached: If the answered calls leave no room for this one.
        """
        with self._writing() as db:
            if db.execute("SELECT 1 FROM calls WHERE key = ?", (key,)).fetchone():
                return False
            taken = db.execute("SELECT owner FROM reserved WHERE key = ?", (key,)).fetchone()
            if taken and self._is_alive(db, taken[0]):
                return False
            query = "SELECT max(largest) FROM spending WHERE run = ? AND model = ?"
            largest = db.execute(query, (run, model)).fetchone()[0]
            cost = max(expected_cost or 0.0, largest or 0.0)
            if not self._has_room(db, run, cost, max_calls, max_cost):
                return False
            if not self._alive.is_locked:
                self._alive.acquire()
            db.execute("INSERT INTO reserved VALUES (?, ?, ?, ?, ?)", (key, run, model, cost, self._owner))
            return True

    def put(self, key: str, run: str, request: Request, answer: Answer, cost: float | None) -> None:
        """Stores the answer to a call, once and for all, and gives back what was reserved for it."""
        with self._writing(durably=True) as db:
            row = (key, run, request.model, request.canonical(), json.dumps(answer.to_dict()))
            numbers = (answer.input_tokens, answer.output_tokens, cost, answer.created)
            db.execute("INSERT OR IGNORE INTO calls VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", (*row, *numbers))
            reserved = db.execute("DELETE FROM reserved WHERE key = ? RETURNING cost", (key,)).fetchone()
            counted = cost if cost is not None else reserved[0] if reserved else 0.0
            db.execute(
                "INSERT INTO spending VALUES (?, ?, 1, ?, ?, ?) ON CONFLICT DO UPDATE SET calls = calls + 1, "
                "cost = cost + excluded.cost, without_cost = without_cost + excluded.without_cost, "
                "largest = max(largest, excluded.largest)",
                (run, request.model, counted, cost is None, counted),
            )

    def release(self, key: str) -> None:
        """Gives back what this process has reserved for a call that failed."""
        with self._writing() as db:
            db.execute("DELETE FROM reserved WHERE key = ? AND owner = ?", (key, self._owner))

    def spent(self, run: str) -> Spent:
        """Returns what a run has paid for, over all processes and resumes."""
        with self._using() as cursor:
            calls, cost, without_cost = _totals(cursor, run)
        return Spent(calls, None if without_cost else cost)

    def has_calls(self, model: str) -> bool:
        """Tells whether any call of a model is answered."""
        with self._using() as cursor:
            return cursor.execute("SELECT 1 FROM calls WHERE model = ? LIMIT 1", (model,)).fetchone() is not None

    def mean_output_tokens(self, model: str) -> float | None:
        """Returns the mean length of all stored replies of a model in tokens, None if there are none."""
        with self._using() as cursor:
            query = "SELECT avg(output_tokens) FROM calls WHERE model = ?"
            mean: float | None = cursor.execute(query, (model,)).fetchone()[0]
        return mean

    def _prepare(self) -> None:
        with self._using() as db:
            db.execute("PRAGMA journal_mode = WAL")
        with self._writing() as db:
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version == 0 and not db.execute("SELECT 1 FROM sqlite_master").fetchone():
                for statement in filter(str.strip, _TABLES.split(";")):
                    db.execute(statement)
                db.execute(f"PRAGMA user_version = {_FORMAT}")
            elif version != _FORMAT:
                raise sqlite3.DatabaseError(f"its format is {version}, not {_FORMAT}")

    @contextmanager
    def _using(self) -> Iterator[sqlite3.Cursor]:
        """Yields a cursor that no other thread uses beside.

        Raises:
            ValueError: If the file cannot be read or written.
        """
        try:
            with self._lock, closing(self._db.cursor()) as cursor:
                yield cursor
        except sqlite3.Error as error:
            raise ValueError(f"{self.path} cannot be used as a store of calls ({error}); name another file.") from error

    @contextmanager
    def _writing(self, durably: bool = False) -> Iterator[sqlite3.Cursor]:
        """Yields a cursor within one transaction, which no other process writes beside.

        It survives the end of the process, and a loss of power too if it is written durably.
        """
        with self._using() as cursor:
            cursor.execute(f"PRAGMA synchronous = {'FULL' if durably else 'NORMAL'}")
            cursor.execute("BEGIN IMMEDIATE")
            try:
                yield cursor
            except BaseException:
                if self._db.in_transaction:  # a full disk has ended it already
                    cursor.execute("ROLLBACK")
                raise
            cursor.execute("COMMIT")

    def _has_room(
        self, db: sqlite3.Cursor, run: str, cost: float, max_calls: int | None, max_cost: float | None
    ) -> bool:
        """Tells whether a call fits into the limits beside the calls under way.

        Raises:
            BudgetReached: If it does not even fit without those.
        """
        calls, spent, _ = _totals(db, run)
        if max_calls is not None and calls + 1 > max_calls:
            raise BudgetReached(f"the limit of {max_calls} calls is reached; raise it to go on.")
        if max_cost is not None and spent + cost > max_cost:
            raise BudgetReached(
                f"the limit of ${max_cost:g} is reached: ${spent:.4f} are spent, and the next call may cost "
                f"${cost:.4f}; raise it to go on."
            )
        under_way, reserved = self._under_way(db, run)
        fits = max_calls is None or calls + under_way + 1 <= max_calls
        return fits and (max_cost is None or spent + reserved + cost <= max_cost)

    def _under_way(self, db: sqlite3.Cursor, run: str) -> tuple[int, float]:
        """Returns the number and the cost of the calls that living processes have reserved for a run."""
        owners = db.execute("SELECT DISTINCT owner FROM reserved WHERE run = ?", (run,)).fetchall()
        for (owner,) in owners:
            self._is_alive(db, owner)
        row = db.execute("SELECT count(*), total(cost) FROM reserved WHERE run = ?", (run,)).fetchone()
        return int(row[0]), float(row[1])

    def _is_alive(self, db: sqlite3.Cursor, owner: str) -> bool:
        """Tells whether who reserved something still holds its lock, and else gives it all back."""
        if owner == self._owner:
            return True
        lock = self._lock_of(owner)
        try:
            lock.acquire()
        except Timeout:
            return True
        db.execute("DELETE FROM reserved WHERE owner = ?", (owner,))
        lock.release()
        Path(lock.lock_file).unlink(missing_ok=True)
        return False

    def _lock_of(self, owner: str) -> FileLock:
        return FileLock(f"{self.path}.{owner}.lock", timeout=0, thread_local=False)


def _totals(cursor: sqlite3.Cursor, run: str) -> tuple[int, float, int]:
    """Returns the calls of a run, their cost with the expected one where it is unknown, and how often it is."""
    query = "SELECT total(calls), total(cost), total(without_cost) FROM spending WHERE run = ?"
    calls, cost, without_cost = cursor.execute(query, (run,)).fetchone()
    return int(calls), float(cost), int(without_cost)
