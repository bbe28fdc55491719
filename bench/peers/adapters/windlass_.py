"""Windlass: ``manage.py windlass``, PostgreSQL and SQLite."""
import harness
from adapters.base import py
from adapters.django_tasks_backends import DjangoTasksAdapter


class Windlass(DjangoTasksAdapter):
    name = "windlass"
    dist = ("windlass", "django", "psycopg")
    bulk = True
    count_sql = "select count(*) from windlass_ended where state = 'succeeded'"
    scenarios = {"enqueue-one", "enqueue-bulk", "drain", "latency", "backlog", "hot", "io"}
    cfg = {"threads": 3, "async_concurrency": 100, "processes": 1}  # as shipped
    cfg_drain = {"threads": 1}  # the no-op never waits
    cfg_drain2 = {"processes": 2}
    cfg_hot = {"threads": 3}
    cfg_io = {"threads": 1, "async_concurrency": 2000}
    drain_n = 100000  # at 20,000/s and more, less would be over too soon to measure
    bulk_n = 50000
    tune = [{"threads": t} for t in (1, 2, 3, 8)]
    notes = ("manage.py windlass -v 0 (supervisor, dispatcher, workers); results and finished jobs kept; "
             "the defaults but for threads and async_concurrency as shown")

    def django_settings(self, cfg):
        worker = {k: cfg[k] for k in ("threads", "processes", "async_concurrency")}
        return {
            "INSTALLED_APPS": ["windlass"],
            "TASKS": {"default": {"BACKEND": "windlass.backend.WindlassBackend", "QUEUES": [],
                                  "OPTIONS": {"workers": [{"queues": "*", **worker}]}}},
        }

    def worker_argv(self, ctx, processes):
        return [py(harness.MANAGE, "windlass", "-v", "0")]

    def producer(self, ctx):
        p = super().producer(ctx)
        if ctx.cfg.get("_hot"):
            import tasks_windlass_hot as h

            p.hot = lambda i: h.hot.enqueue(i)
        return p

    def clone_scheduled(self, ctx, n):
        harness.pg_clone(ctx.db, "windlass_live", n, "available_at > now()", id="gen_random_uuid()")

    def clone_finished(self, ctx, n):
        harness.pg_clone(ctx.db, "windlass_ended", n, id="gen_random_uuid()")


class WindlassSqlite(Windlass):
    name = "windlass-sqlite"
    store = "sqlite"
    dist = ("windlass", "django")
    scenarios = {"enqueue-one", "enqueue-bulk", "drain", "latency", "io"}
    notes = Windlass.notes + "; the runtime sets synchronous=FULL on its own connections, whatever the settings say"


ADAPTERS = [Windlass, WindlassSqlite]
