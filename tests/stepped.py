"""Steps and hooks of multi-step jobs, as a project writes them: plain functions."""

from windlass import Cancel, Snooze, concurrency, task

calls = []


def fetch(job):
    job.workspace["cats"] = ["Tom"]
    calls.append("fetch")


def feed(job):
    job.workspace["cats"].append("Felix")
    job.workspace["times"] = job.workspace.get("times", 0) + 1
    calls.append("feed")


def store(job):
    job.workspace["stored"] = len(job.workspace["cats"])
    calls.append("store")
    return object()


def explode(job):
    job.workspace["exploded"] = True
    calls.append("explode")
    raise ValueError("boom")


def spoil(job):
    job.workspace["spoilt"] = object()


def replace(job):
    job.workspace = ["no dict"]


def rest(job):
    job.workspace["rests"] = job.workspace.get("rests", 0) + 1
    if job.workspace["rests"] < 3:
        raise Snooze(0)


def stop(job):
    job.workspace["asked"] = True
    raise Cancel("enough")


def forget_key(job):
    del job.workspace["account"]


@task(max_attempts=3, backoff=0, timeout=20, takes_context=True)
def stubborn(context, job):
    job.workspace.setdefault("attempts", []).append([context.attempt, job.attempts])
    if context.attempt < 3:
        raise ValueError("not yet")


@task(atomic=True)
def together(job):
    job.workspace["together"] = True


@task
async def later(job):
    job.workspace["later"] = True


@concurrency(key="account:{job.workspace[account]}")
def charge(job):
    job.workspace["charged"] = True


# Hooks


def on_creation(job):
    calls.append("creation")
    job.workspace["made_for"] = job.name


def refuse_creation(job):
    raise ValueError("not today")


def before(job):
    calls.append("pre")
    job.workspace["last"] = job.task_path


def after(job):
    calls.append("post")
    job.workspace["after"] = job.workspace.get("after", 0) + 1


def on_failure(job, error):
    calls.append("failure")
    job.workspace["error"] = str(error)


def broken_hook(job, *error):
    calls.append("broken")
    raise RuntimeError("a broken hook")
