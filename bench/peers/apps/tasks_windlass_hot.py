from windlass import concurrency, task

from bench_mark import mark


@task
@concurrency(key="hot", limit=1)
def hot(i):
    mark(i)
