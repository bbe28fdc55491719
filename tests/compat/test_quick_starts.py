"""
The quick starts of the earlier packages run, and print what their documents promise.

Each example is as its document has it, before the changes of the page "coming from".
"""

import re

import pytest

from tests.compat.documents import SETTINGS, Project
from tests.integration.states import states
from windlass import api
from windlass.models import Job

MULTIPLY = """
def multiply_numbers(a, b):
    return a * b
"""
TASK_WORKER_WAITS = """
from django_task_worker.client import create_task, wait_for_completion
task = create_task("shop.tasks.multiply_numbers", args=[2, 3])
result = wait_for_completion(task.id, timeout=60)
print(result)
print(result.result)
"""
TASK_WORKER_CREATES = """
from django_task_worker.client import create_task
from django_task_worker.client import wait_for_completion

task = create_task(
    name="shop.tasks.multiply_numbers",
    args=[10, 20],
    kwargs={},
    timeout=300
)

print(f"Task {task.id} created with status: {task.status}")

result = wait_for_completion(task_id=task.id, timeout=60)

if result:
    print(f"Task {result.id} completed with status: {result.status}")
    print(f"Result: {result.result}")
else:
    print("Task did not complete within the timeout.")
"""
TASK_WORKER_READS = """
from django_task_worker.models import DatabaseTask

for task in DatabaseTask.objects.filter(status="COMPLETED").order_by("created_at"):
    print(task.name, task.args, task.status, task.result, task.retry_count)
"""

DJ_QUEUE_TASKS = """
from django.tasks import task
from dj_queue.api import concurrency


@task
def add(a, b):
    return a + b


@task
@concurrency(
  key="account:{account_id}",
  limit=1,
  duration=60,
  on_conflict="block",
)
def sync_account(account_id, action):
  return f"{account_id}:{action}"
"""
DJ_QUEUE_ENQUEUES = """
from shop.tasks import add

task_result = add.enqueue(3, 7)
print(task_result.id)
"""
DJ_QUEUE_READS = """
from shop.tasks import add

fresh_result = add.get_backend().get_result("{id}")
print(fresh_result.status)
print(fresh_result.return_value)
"""
DJ_QUEUE_DOES_MORE = """
from datetime import timedelta
from django.db import transaction
from django.utils import timezone
from dj_queue.api import QueueInfo, claim_ready_jobs, enqueue_on_commit
from dj_queue.api import execute_claimed_job
from dj_queue.api import schedule_recurring_task, unschedule_recurring_task
from shop.tasks import add, sync_account

future = timezone.now() + timedelta(hours=1)
add.using(run_after=future).enqueue(1, 1)
add.using(queue_name="email", priority=10).enqueue(1, 2)
results = add.get_backend().enqueue_all(
  [(add, [item_id, 0], {}) for item_id in range(5)]
)
print(len(results))

orders = QueueInfo("orders")
with transaction.atomic():
  enqueue_on_commit(add.using(queue_name="orders"), 2, 2)
  print(orders.size)
print(orders.size, orders.paused)
orders.pause()
print(orders.paused, claim_ready_jobs(limit=1, queues=["orders"]))
orders.resume()
claimed_jobs = claim_ready_jobs(limit=1, queues=["orders"])
if claimed_jobs:
  print(execute_claimed_job(claimed_jobs[0]).return_value)

schedule_recurring_task(
  key="tenant_42_report",
  task_path="shop.tasks.add",
  schedule="0 * * * *",
  args=[1, 2],
  queue_name="reports",
  priority=5,
)
print(unschedule_recurring_task("tenant_42_report"))
for action in ("pull", "push"):
  sync_account.enqueue(42, action)
"""

DB_QUEUE_TASKS = """
import logging
import time

logger = logging.getLogger("shop")


def my_task(job):
    logger.warning("Working hard...")
    time.sleep(0.1)
    logger.warning("Job's done!")


def my_first_task(job):
    job.workspace['message'] = 'Hello, task 2!'

def my_second_task(job):
    logger.warning("Task 1 says: %s" % job.workspace['message'])
"""
DB_QUEUE_SETTINGS = """
JOBS = {
    'my_job': ['shop.jobs.my_task'],
    'import_cats': ['shop.jobs.my_first_task', 'shop.jobs.my_second_task'],
    'hooked': {'tasks': ['shop.jobs.my_task'], 'creation_hook': 'shop.hooks.created'},
}
"""
DB_QUEUE_HOOKS = """
def created(job):
    job.workspace['created'] = job.name
"""
DB_QUEUE_CREATES = """
from django_dbq.models import Job

Job.objects.create(name='my_job')
Job.objects.create(name='import_cats', workspace={'key': 1}, priority=-10)
Job.objects.create(name='hooked', queue_name='other')
print([job.state for job in Job.objects.all()])
print(Job.get_queue_depths())
"""
DB_QUEUE_READS = """
from django_dbq.models import Job

for job in Job.objects.order_by('-priority', 'created'):
    print(job.name, job.state, job.workspace)
print(Job.objects.filter(state=Job.STATES.COMPLETE).count())
"""

PROCESS_MODELS = """
from datetime import timedelta

from django.db import models
from djprocess.models import BaseProcess, BaseProcessLog


class ExportProcess(BaseProcess):
    path = models.CharField(max_length=255)

    def run(self):
        self.log(f"Exporting {self.path}")
        # ... do work ...
        self.log("Export complete")


class ExportProcessLog(BaseProcessLog):
    process = models.ForeignKey(
        ExportProcess,
        on_delete=models.CASCADE,
        related_name="logs",
    )
"""
PROCESS_RUNS = """
from datetime import timedelta
from shop.models import ExportProcess

process = ExportProcess.objects.create(path="/tmp/data.csv")
process.timeout = timedelta(minutes=45)  # optional, default is 20 minutes
print(process.status)
process.start()  # dispatches process + per-job watchdog
"""
PROCESS_READS = """
from shop.models import ExportProcess

process = ExportProcess.objects.get()
print(process.wait(timeout=60))
page = process.paginate_logs(page=1, per_page=50)
for entry in page:
    print(entry.sequence, entry.level, entry.message)
print(process.timeout_seconds())
"""


@pytest.fixture
def project(committed, tmp_path):
    def project(page, files):
        return Project(tmp_path / "project", page, files)

    return project


def test_django_task_worker(project, start):
    shop = project(
        "django-task-worker", {"shop/__init__.py": "", "shop/tasks.py": MULTIPLY}
    )
    arguments = ("--retry", "1", "--concurrency", "2")
    worker = start(*arguments, command="run_worker", **shop.env)

    said = shop.shell(TASK_WORKER_WAITS).splitlines()
    assert re.fullmatch(
        r"Task [-0-9a-f]{36}: shop\.tasks\.multiply_numbers \(COMPLETED\)", said[-2]
    )
    assert said[-1] == "6"

    said = shop.shell(TASK_WORKER_CREATES).splitlines()
    assert re.fullmatch(r"Task \S+ created with status: PENDING", said[-3])
    assert re.fullmatch(r"Task \S+ completed with status: COMPLETED", said[-2])
    assert said[-1] == "Result: 200"

    name = "shop.tasks.multiply_numbers"
    said = shop.shell(TASK_WORKER_READS).splitlines()
    assert said[-2:] == [
        f"{name} [2, 3] COMPLETED 6 0",
        f"{name} [10, 20] COMPLETED 200 0",
    ]
    assert worker.stop() == 0


def test_dj_queue(project, start):
    shop = project(
        "dj-queue", {"shop/__init__.py": "", "shop/tasks.py": DJ_QUEUE_TASKS}
    )
    said = shop.shell(DJ_QUEUE_DOES_MORE).splitlines()
    assert said[-6:] == ["5", "0", "1 False", "True []", "4", "1"]
    runtime = start(**shop.env)

    id = shop.shell(DJ_QUEUE_ENQUEUES).splitlines()[-1]
    job = api.wait_for_completion(id, timeout=60)
    said = shop.shell(DJ_QUEUE_READS.replace("{id}", id)).splitlines()

    assert (job.name, job.state) == ("shop.tasks.add", "succeeded")
    assert said[-2:] == ["SUCCESSFUL", "10"]
    pulled, pushed = Job.objects.filter(task_path="shop.tasks.sync_account")
    for job, value in ((pulled, "42:pull"), (pushed, "42:push")):
        assert api.wait_for_completion(job.pk, timeout=60).return_value == value
    assert runtime.stop() == 0
    assert states() == {"succeeded": 10, "scheduled": 1}


def test_django_db_queue(project, start):
    files = {"jobs.py": DB_QUEUE_TASKS, "hooks.py": DB_QUEUE_HOOKS, "__init__.py": ""}
    shop = project("django-db-queue", {f"shop/{n}": text for n, text in files.items()})
    shop.write("mysite/settings.py", SETTINGS + shop.settings() + DB_QUEUE_SETTINGS)

    said = shop.shell(DB_QUEUE_CREATES).splitlines()
    assert said[-2:] == ["['NEW', 'NEW', 'NEW']", "{'default': 2, 'other': 1}"]
    shop.call("create_job", "import_cats", "--workspace", '{"key": 2}')
    depths = shop.call("queue_depth", "default", "other", "empty")
    assert depths == "event=queue_depths default=3 other=1 empty=0\n"

    worker = start("--drain", command="worker", **shop.env)
    assert worker.wait() == 0
    for line in ("Working hard...", "Job's done!", "Task 1 says: Hello, task 2!"):
        assert line in worker.said()
    said = shop.shell(DB_QUEUE_READS).splitlines()
    greeted = "'message': 'Hello, task 2!'"
    assert said[-5:] == [
        "my_job COMPLETE {}",
        "hooked NEW {'created': 'hooked'}",
        "import_cats COMPLETE {'key': 2, " + greeted + "}",
        "import_cats COMPLETE {'key': 1, " + greeted + "}",
        "3",
    ]
    assert shop.call("delete_old_jobs").endswith("Deleted old jobs\n")
    assert states() == {"succeeded": 3, "ready": 1}
    shop.call("delete_old_jobs", "--hours", "0")
    assert states() == {"ready": 1}


def test_djprocess(project, start):
    files = {"shop/__init__.py": "", "shop/models.py": PROCESS_MODELS}
    shop = project("djprocess", files)
    shop.call("makemigrations", "shop")
    shop.call("migrate", "shop")
    try:
        worker = start(**shop.env)
        assert shop.shell(PROCESS_RUNS).splitlines()[-1] == "pending"

        said = shop.shell(PROCESS_READS).splitlines()

        first = said.index("succeeded")
        lines = [line.split(" ", 2) for line in said[first + 1 : -1]]
        assert [int(number) for number, _level, _text in lines] == [
            *range(1, len(lines) + 1)
        ]
        shown = [(level, text) for _number, level, text in lines]
        begun = shown.index(("info", "Exporting /tmp/data.csv"))
        assert shown[begun + 1] == ("info", "Export complete")
        assert float(said[-1]) == 45 * 60
        assert worker.stop() == 0
    finally:
        shop.call("migrate", "shop", "zero")
