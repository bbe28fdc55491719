"""What a survey found, as a table for the terminal. Every figure is read from jobs."""

from django.db.models import Max, Min

from .survey import LATER, PRIORITY
from .tasks import measure, summarise


def write(survey, out, style):
    """Write the whole report to a stream."""
    for part in (states, order, summary, failures):
        out.write("\n".join(part(survey, style)) + "\n\n")
    out.write(
        "Keep it running, with Django admin in the browser:  "
        + style.MIGRATE_HEADING("make demo-serve")
    )


def states(survey, style):
    """Say how fast it went, and how many jobs are in which state."""
    times = survey.jobs.aggregate(first=Min("started_at"), last=Max("finished_at"))
    counts = survey.counts()
    seconds = (times["last"] - times["first"]).total_seconds()
    total = sum(counts.values())
    yield style.MIGRATE_HEADING(
        f"{total} jobs in {seconds:.1f} s: {total / seconds:,.0f} jobs a second"
    )
    yield from (f"  {state:<12}{counts[state]:>6}" for state in sorted(counts))


def order(survey, style):
    """Say when the jobs with priority and the delayed ones were started."""
    # Jobs claimed together share a time; the claim hands them out by priority.
    jobs = survey.jobs.order_by("started_at", "-priority")
    started = list(jobs.values_list("priority", flat=True))
    first = [place for place, each in enumerate(started, 1) if each == PRIORITY]
    yield (
        f"  The {len(first)} largest modules have priority {PRIORITY}: "
        f"started as number {first[0]} to {first[-1]}."
    )

    delayed = survey.jobs.filter(
        task_path=measure.module_path, run_after__gte=survey.since + LATER
    )
    waits = [(job.started_at - job.run_after).total_seconds() for job in delayed]
    early = sum(wait < 0 for wait in waits)
    yield (
        f"  {len(waits)} jobs were due {LATER.total_seconds():.0f} s after the "
        f"enqueue: {early} started early, the last {max(waits):.2f} s after its time."
    )


def summary(survey, style):
    """Show what the aggregate job returned."""
    job = survey.jobs.get(task_path=summarise.module_path)
    found = job.return_value
    yield style.MIGRATE_HEADING("The ten largest modules")
    yield "   lines  functions  classes  module: longest function"
    for each in found["largest"]:
        function = each["longest"]
        name = f": {function['name']}, {function['lines']} lines"
        yield (
            f"  {each['lines']:>6}{each['functions']:>11}{each['classes']:>9}  "
            f"{each['module']}{name if function['lines'] else ''}"
        )
    yield (
        f"  {found['lines']:,} lines, {found['functions']:,} functions and "
        f"{found['classes']:,} classes in {found['modules']} modules, "
        f"{found['copies']} of them copies of another."
    )
    if found["longest"]:
        yield "  The longest function of all is {module}.{name}: {lines} lines.".format(
            **found["longest"]
        )


def failures(survey, style):
    """Show each failed job with the traceback its attempt left."""
    for job in survey.jobs.filter(state="failed"):
        yield style.ERROR(f"Failed: job {job.id}, {job.kwargs['module']}")
        for error in job.errors:
            yield "\n".join(f"  {line}" for line in error.traceback.splitlines())
