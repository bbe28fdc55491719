"""Tasks with concurrency limits."""

from windlass import concurrency, rate_limit, task


@task(max_attempts=3)
@concurrency(key="one")
def one(number):
    return number


@concurrency(key="account:{account}", limit=2)
@task
def per_account(account, number=0):
    return number


@task
@concurrency(key="one of {account}")
def one_of_account(account):
    return account


@task
@concurrency(key="all", limit=3)
@concurrency(key="kind:{kind}")
def both(kind):
    return kind


@task
@concurrency(key="single", on_conflict="discard")
def single(number):
    return number


@task
@concurrency(key=lambda urgent: None if urgent else "slow")
def maybe(urgent):
    return urgent


@task
@rate_limit(key="rated and limited", rate="1/h")
@concurrency(key="rated and limited")
def rated(number):
    return number


@task
def spelled(account):
    return account


spelled.func.concurrency_key = "spelled:{account}"
spelled.func.concurrency_limit = 2
spelled.func.concurrency_duration = 60
spelled.func.on_conflict = "block"


@task
def misspelled():
    pass


misspelled.func.concurrency_key = "x"
misspelled.func.concurrency_limit = 0


@task
def plain(number):
    return number
