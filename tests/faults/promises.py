"""
What is promised of one job, held against what is known of it.

A promise that the faults excuse is not broken: an attempt that was killed is lost, a
process that stood still too long has a ghost. What nobody struck must be whole.
"""

import re
from datetime import datetime

from tests.faults import work
from tests.faults.excuses import DEADLY
from tests.faults.executions import executions
from tests.faults.kinds import KINDS
from windlass.jobs.lifecycle import CRASH_LIMIT

# A task begins for the engine a moment before its first line can write to the journal.
FIRST_LINE, FIRST_LINE_IN_PROCESS = 0.25, 2.0
# Between a task's last line and the time its worker notes for its end.
LAST_LINE = 0.05
# Seconds in which a worker that has to stop writes its last records.
LAST_WRITES = 10.0
# Beyond its timeout, for the code to be told, and killed if it does not listen.
KILLED_WITHIN = 10.0
DATABASE_ERRORS = ("django.db.utils.", "django.db.transaction.", "psycopg", "pymysql")


class About:
    """One job: what its kind promises, held against what is known of it."""

    def __init__(self, job, lines, evidence):
        self.job, self.evidence, self.faults = job, evidence, evidence.faults
        self.id, self.kind = str(job["id"]), KINDS[job["task_path"]]
        self.state, self.reason = job["state"], job["reason"]
        self.history = job["history"] or []
        self.runs = executions(lines)

    def __str__(self):
        name = self.job["task_path"].rpartition(".")[2]
        return f"{self.id} {name} ({self.state} {self.reason})".replace(" )", ")")

    def broken(self):
        """What was promised of this job and did not happen."""
        if self.state not in ("succeeded", "failed", "cancelled", "discarded"):
            yield "it has not ended"
            return
        yield from self._the_end()
        yield from self._the_budget()
        yield from self._past_attempts()
        yield from self._the_runs()
        yield from self._after_the_end()
        yield from self._effects()

    def _the_end(self):
        kind = self.kind
        if self.state == "succeeded":
            # A process that stood still may find, when it goes on, that it is done.
            stood_still = any(self.faults.stood_still(run) for run in self.runs)
            if kind.ends != "succeeded" and not stood_still:
                yield "it cannot succeed"
            if not any(run.event == "end" for run in self.runs):
                yield "it succeeded without an end"
        elif self.state == "cancelled":
            if self.id not in self.evidence.cancelled:
                yield "nobody cancelled it"
        elif self.state == "discarded":
            if kind.task.expires is None:
                yield "nobody discarded it"
            elif self.runs:
                yield "it ran and was discarded"
        elif not self.history or not self._agrees(self.history[-1]["cause"]):
            yield f"its history says otherwise: {self._causes()}"
        elif self._could_go_on():
            yield f"it could run again: {self._causes()}"
        elif not self._began():
            yield f"it failed and had never started: {self.history[-1]}"

    def _agrees(self, cause):
        # A node that is lost counts as a crash, and too many of those are the reason.
        return cause == self.reason or (cause == "lost" and self._crashed_too_often())

    def _crashed_too_often(self):
        return self.reason == "crashed" and self.job["crashes"] >= CRASH_LIMIT

    def _could_go_on(self):
        job = self.job
        if self.reason in ("error", "timeout"):
            return job["attempts"] < job["max_attempts"]
        if self._crashed_too_often():
            return False
        if self.kind.task.on_lost == "retry":
            return True
        return self.kind.may_repeat and job["attempts"] < job["max_attempts"]

    def _began(self):
        if self.runs or self.reason not in ("crashed", "interrupted"):
            return True
        # Killed between the ledger's note and the first line of the task: the engine
        # cannot know that nothing happened yet.
        return self._was_struck_at_its_first_line(self.history[-1])

    def _was_struck_at_its_first_line(self, entry):
        """Whether something died between the ledger's note of it and its code."""
        in_process = self.kind.task.executor == "process"
        within = FIRST_LINE_IN_PROCESS if in_process else FIRST_LINE
        said = datetime.fromisoformat(entry["started_at"]).timestamp()
        offsets = [0.0, *(step.offset for step in self.faults.steps)]
        # A strike is noted just before it hits.
        return any(
            -FIRST_LINE <= strike.time - (said - offset) <= within
            for strike in self.faults.strikes
            for offset in offsets
            if strike.what in DEADLY
        )

    def _the_budget(self):
        job, most = self.job, self.job["max_attempts"]
        if self.kind.task.on_lost == "retry":
            most = max(most, CRASH_LIMIT)
        if job["attempts"] > most:
            yield f"{job['attempts']} attempts of {most}"
        # What was put off, and what was handed back by a worker that had to stop, is
        # not counted. Nor is what a ghost does.
        spent = [run for run in self.runs if not self._was_given_back(run)]
        if len(spent) > most:
            yield f"{len(spent)} runs of {most}: {spent}"

    def _was_given_back(self, run):
        put_off = run.event == "snooze" or self.faults.was_stopped(run)
        return put_off or self.faults.is_ghost(run)

    def _past_attempts(self):
        for entry in self.history:
            if excuse := self._what_is_wrong_with(entry):
                yield f"attempt {entry['attempt']} was {entry['cause']}: {excuse}"

    def _what_is_wrong_with(self, entry):
        cause, error = entry["cause"], entry.get("error", "")
        if not cause:
            return None if self.state == "succeeded" else "it went well"
        runs = [run for run in self.runs if run.attempt == entry["attempt"]]
        said = re.findall(r"[Pp]rocess (\d+)", entry.get("traceback", ""))
        if cause == "error":
            database = error.startswith(DATABASE_ERRORS) and self.kind.queries
            known = error in self.kind.errors or database
            return None if known else entry["traceback"][-500:]
        if cause == "timeout":
            limit = self.kind.task.timeout
            return None if limit is not None else "it has no timeout"
        if cause == "cancelled":
            return None if self.id in self.evidence.cancelled else "nobody said so"
        if (
            cause == "interrupted"
            and "code of a job does not end" in entry["traceback"]
        ):
            return None if self.faults.had_deaf_code else "no code was deaf"
        if any(map(self.faults.befell, runs)):
            return None
        if any(self.faults.befell_process(int(pid)) for pid in said):
            return None
        if not (runs or said) and self._was_struck_at_its_first_line(entry):
            return None
        return f"nothing befell its process: {entry['traceback'][-300:]}"

    def _the_runs(self):
        for place, later in enumerate(self.runs):
            for earlier in self.runs[:place]:
                yield from self._two_runs(earlier, later)
        limit = self.kind.task.timeout
        for run in self.runs:
            if run.attempt > self.job["attempts"] and not self._was_given_back(run):
                yield f"it ran attempt {run.attempt}, of {self.job['attempts']}"
            if self.faults.is_ghost(run):
                continue
            lived = run.last - run.began
            if limit is not None and lived > limit + KILLED_WITHIN:
                yield f"it ran for {lived:.1f} s: {run}"
            asked = self.evidence.cancelled.get(self.id)
            if asked and run.last > asked + KILLED_WITHIN:
                yield f"it ran {run.last - asked:.1f} s after it was cancelled: {run}"

    def _two_runs(self, earlier, later):
        ghostly = self.faults.is_ghost(earlier) or self.faults.is_ghost(later)
        ended = earlier.has_ended and earlier.last <= later.began
        if not (self.kind.may_repeat or ended):
            yield f"it may not repeat: {earlier}, then {later}"
        overlap = earlier.last - later.began
        if overlap > 0 and not self._may_go_on(earlier, overlap):
            yield f"two attempts overlapped by {overlap:.3f} s: {earlier}, {later}"
        given_back = self._was_given_back(earlier)
        if later.attempt < earlier.attempt + (not given_back) and not ghostly:
            yield f"attempt {later.attempt} followed {earlier.attempt}"

    def _may_go_on(self, run, seconds):
        """Whether this run may have been given up while its code still lived."""
        # A thread cannot be killed: it goes on until the process that was told to stop
        # has written its last records.
        stopped = seconds < LAST_WRITES and self.faults.was_stopped(run)
        ghost = self.faults.is_ghost(run)
        if ghost or stopped:
            self.evidence.excused["had stood still" if ghost else "was to stop"] += 1
        return ghost or stopped

    def _after_the_end(self):
        if not self.job["finished_at"] or not self.runs:
            return
        finished = self.job["finished_at"].timestamp()
        if self.faults.clock_was_set(self.runs[0].began - 10, self.runs[-1].last + 30):
            return
        for run in self.runs:
            if run.began_time > finished + LAST_LINE:
                if not self.faults.is_ghost(run):
                    yield f"it started after its end was recorded: {run}"
                continue
            late = run.last_time - finished
            if late > LAST_LINE and not self._may_go_on(run, late):
                yield f"its code lived for {late:.3f} s after its end: {run}"

    def _effects(self):
        if self.kind.atomic:
            wanted = int(self.state == "succeeded")
            if self.evidence.effects[self.id] != wanted:
                yield f"{self.evidence.effects[self.id]} effects"
        if self.kind.task is work.spread and self.state == "succeeded":
            label = f"{self.id}/{self.job['attempts']}"
            if self.evidence.children[label] < self.job["args"][0]:
                yield f"it enqueued {self.evidence.children[label]} jobs"

    def _causes(self):
        return [(entry["attempt"], entry["cause"]) for entry in self.history]
