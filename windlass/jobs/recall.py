"""
What a job remembers of its durable steps, as one attempt comes to them.

All of it is read with one query, at the first step. What the code must not change under
a job is checked here, and ends it with StepMismatch: the task's version, the function
behind a name, and the order in which remembered steps are reached.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from heapq import heappop, heappush
from inspect import iscoroutinefunction
from typing import Any, NoReturn

from django.db import connections

from windlass import db
from windlass.db import Claimed, memos, rare
from windlass.db.memos import Kind, Remembered
from windlass.exceptions import StaleJob, StepError, StepMismatch
from windlass.jobs.policies import read

NAME_LENGTH, PATH_LENGTH = 255, 500
ADVICE = (
    "Bring the former code back and retry the job with retry_failed_job(), or start "
    "afresh with enqueue_copy()."
)

Key = tuple[str, str, int]


@dataclass(frozen=True, slots=True)
class Reached:
    """A step that an attempt has come to, and what the job remembers of it."""

    key: Key
    place: int | None
    function_path: str
    memo: Remembered | None


class Recall:
    """The memos of one job, in the hands of one attempt."""

    def __init__(self, job: Claimed, node: int, database: str, task: Any) -> None:
        self.job, self.node, self.database = job, node, database
        self.task, self.thread = task, threading.get_ident()
        self.lock = threading.RLock()
        self.known: dict[Key, Remembered] | None = None
        # By kind and name: how often it was reached, and the calls of it that failed.
        self.calls: dict[tuple[str, str], int] = {}
        self.failed: dict[tuple[str, str], list[int]] = {}
        # The events that the job has had, by name; those of its other steps as well.
        self.taken: dict[str, list[int]] = {}
        # The place of the last step reached, and the last one remembered.
        self.seen = self.last = -1
        # What has ended this attempt, whatever its code makes of it.
        self.ending: BaseException | None = None

    @property
    def step(self) -> int:
        """The step of a multi-step job that is run: each remembers for itself."""
        step: int = read(self.job.policy).get("step", 0) if self.job.policy else 0
        return step

    @property
    def version(self) -> str:
        """The version of the code that runs, as its task says it."""
        return str(getattr(self.task, "version", ""))

    def reach(self, kind: Kind, name: str, path: str = "") -> Reached:
        """Come to a step: say which one it is and what is remembered of it."""
        if self.ending is not None:
            raise self.ending
        if not is_name(name):
            raise StepError(
                f"Job {self.job.id}: a durable step's name must be a text of 1 to "
                f"{NAME_LENGTH} characters, not {name!r}."
            )
        with self.lock:
            self._check_transaction(name)
            known = self.memories()
            key = (kind.value, name, self._ordinal((kind.value, name)))
            memo = known.get(key)
            if memo is not None and memo.function_path != path:
                self._refuse(
                    f"was recorded by {memo.function_path}, and {self.job.task_path} "
                    f"calls {path} under that name now. Another function is another "
                    "step: give it a name of its own. If the same one has moved, "
                    "leave a function at the former path.",
                    name,
                )
            return Reached(key, self._place(memo), path, memo)

    @contextmanager
    def trying(self, reached: Reached) -> Iterator[None]:
        """Call a step's function: one that raised is the same step when tried again."""
        try:
            yield
        except BaseException:
            kind, name, ordinal = reached.key
            with self.lock:
                # Its transaction may have failed to commit after the record.
                self.memories().pop(reached.key, None)
                heappush(self.failed.setdefault((kind, name), []), ordinal)
            raise

    def memories(self) -> dict[Key, Remembered]:
        """All that the job remembers, by kind, name and ordinal."""
        with self.lock:
            if self.known is None:
                self.known = self._load() if self.database else {}
            return self.known

    def record(self, reached: Reached, text: str | None) -> Any:
        """Remember a result, given as JSON text; give it back as it will be read."""
        kind, name, ordinal = reached.key
        said = (reached.place, reached.function_path, self.version)
        memo = Remembered(self.step, kind, name, ordinal, *said, text)
        self._write(lambda own: memos.record(own, self.node, self.job, memo))
        value = None if text is None else json.loads(text)
        self.memories()[reached.key] = memo._replace(result=value)
        return value

    def forget_expiry(self) -> None:
        """Let the job not be too late when it comes back: it has started."""
        if self.job.policy and "expires_at" in (policy := json.loads(self.job.policy)):
            del policy["expires_at"]
            said = {"policy": policy or None}
            self._write(lambda own: rare.annotate(own, self.node, self.job, **said))

    def end(self, error: BaseException) -> NoReturn:
        """End the attempt, now and whenever it comes to another step."""
        self.ending = error
        raise error

    def _write(self, write: Callable[[db.Dialect], bool]) -> None:
        if self.database and not write(db.dialect(self.database)):
            raise StaleJob(
                f"Job {self.job.id}: this attempt no longer holds the job, so nothing "
                "of its durable steps was stored."
            )

    def _load(self) -> dict[Key, Remembered]:
        found = memos.remembered(db.dialect(self.database), self.job.id)
        for memo in found:
            if memo.kind == Kind.EVENT and memo.result is not None:
                self.taken.setdefault(memo.name, []).append(memo.result["id"])
        found = [memo for memo in found if memo.step == self.step]
        for memo in found:
            if memo.version != self.version:
                self._refuse(
                    f"was recorded under version {memo.version!r} of "
                    f"{self.job.task_path}, and this code is version {self.version!r}.",
                    memo.name,
                )
        places = [memo.place for memo in found if memo.place is not None]
        self.last = max(places, default=-1)
        return {(memo.kind, memo.name, memo.ordinal): memo for memo in found}

    def _ordinal(self, name: tuple[str, str]) -> int:
        if self.failed.get(name):
            return heappop(self.failed[name])
        ordinal = self.calls.get(name, 0)
        self.calls[name] = ordinal + 1
        return ordinal

    def _place(self, memo: Remembered | None) -> int | None:
        # Where steps may run side by side, their order says nothing.
        is_alone = self.thread == threading.get_ident()
        if not is_alone or iscoroutinefunction(self.task.func):
            return None
        if memo is None:
            # One that is new in between has the place of the one before it.
            self.seen += self.seen >= self.last
        elif memo.place is not None:
            if memo.place < self.seen:
                self._refuse(
                    f"comes later in the code of {self.job.task_path} than when it "
                    "was recorded.",
                    memo.name,
                )
            self.seen = memo.place
        return self.seen

    def _check_transaction(self, name: str) -> None:
        blocks = connections[self.database].atomic_blocks if self.database else ()
        # A test case has everything in a transaction, as Django's ``durable`` knows.
        if blocks and not getattr(blocks[-1], "_from_testcase", False):
            self.end(
                StepError(
                    f"Job {self.job.id}: the durable step {name!r} is inside a "
                    "transaction, whose rollback would take back what is recorded. "
                    "Leave the atomic block, or the task's atomic=True; to commit "
                    "what a step writes with its record, use context.atomic_step()."
                )
            )

    def _refuse(self, why: str, name: str) -> NoReturn:
        text = f"Job {self.job.id}: its durable step {name!r} {why} {ADVICE}"
        self.end(StepMismatch(text))


def is_name(name: object) -> bool:
    """Whether something names a durable step or an event, on every database."""
    if not isinstance(name, str) or not 0 < len(name) <= NAME_LENGTH:
        return False
    # Neither NUL nor half of a surrogate pair can be stored.
    return "\0" not in name and not any("\ud800" <= c <= "\udfff" for c in name)


def path_of(function: Callable[..., Any]) -> str:
    """The dotted path of a function, the same in each process and each release."""
    while isinstance(function, partial):
        function = function.func
    # A task stands for its function, an object that is called for its class.
    named = getattr(function, "func", function)
    if not hasattr(named, "__qualname__"):
        named = type(named)
    return f"{named.__module__}.{named.__qualname__}"[:PATH_LENGTH]
