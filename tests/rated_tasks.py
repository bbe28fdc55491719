"""Tasks with rate limits."""

from windlass import rate_limit, task


@task
@rate_limit(key="stripe", rate="2/10s")
def charge(number):
    return number


@rate_limit(key="user:{user_id}", rate="1/h")
@task
def remind(user_id):
    return user_id


@task
@rate_limit(key="all", rate="3/h")
@rate_limit(key="kind:{kind}", rate="1/h")
def both(kind):
    return kind


@task
@rate_limit(key=lambda urgent: None if urgent else "slow", rate="1/h")
def maybe(urgent):
    return urgent
