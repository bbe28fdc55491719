"""The words of a run: how it, its members and its edges may stand."""

from django.db import models
from django.utils.translation import gettext_lazy as _


class RunState(models.TextChoices):
    """Where a run stands. The last three are ends."""

    RUNNING = "running", _("running")
    SUCCEEDED = "succeeded", _("succeeded")
    FAILED = "failed", _("failed")
    CANCELLED = "cancelled", _("cancelled")


class Outcome(models.TextChoices):
    """What became of a member; the first while that is open."""

    OPEN = "", _("open")
    SUCCEEDED = "succeeded", _("succeeded")
    FAILED = "failed", _("failed")
    CANCELLED = "cancelled", _("cancelled")
    DISCARDED = "discarded", _("discarded")
    PRUNED = "pruned", _("deleted before anybody saw how it ended")
    SKIPPED = "skipped", _("never started, because of another member")


FAILURES = (
    *(Outcome.FAILED, Outcome.CANCELLED, Outcome.DISCARDED),
    Outcome.PRUNED,
)


class Kind(models.TextChoices):
    """A job; or a gate, whose value is that of one predecessor, or a list of all."""

    JOB = "job", _("job")
    ONE = "one", _("gate with one value")
    LIST = "list", _("gate with a list")


class Policy(models.TextChoices):
    """What follows when a member fails."""

    STOP = "stop", _("nothing else of its flow starts")
    CONTINUE = "continue", _("what depends on it is skipped")
    IGNORE = "ignore", _("as if it had succeeded, with the result None")


class When(models.IntegerChoices):
    """Which end of a predecessor lets a member go on."""

    SUCCESS = 0, _("success")
    ALWAYS = 1, _("any")
    FAILURE = 2, _("failure")


class EdgeState(models.IntegerChoices):
    """Whether a predecessor has ended, and as the edge asks for."""

    OPEN = 0, _("open")
    PASSED = 1, _("passed")
    FAILED = 2, _("failed")
