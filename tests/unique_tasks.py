"""Tasks whose jobs are unique, one for each way to settle a conflict."""

from windlass import task, unique


@task
@unique(key="digest:{user_id}")
def digest(user_id):
    return user_id


@unique(key="odd:{number}")
@task
def odd(number):
    raise ValueError(number)


@task
@unique(key="quiet:{number}", on_conflict="discard")
def quiet(number):
    return number


@task
@unique(key="newest:{name}", on_conflict="replace")
def newest(name, text=""):
    return text


@task
@unique(key="loud:{number}", on_conflict="raise")
def loud(number):
    return number


@task
@unique(key=lambda payload: f"report-{payload['id']}" if payload else None)
def report(payload):
    return payload
