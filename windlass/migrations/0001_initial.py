"""The tables, the view over them, and how PostgreSQL stores them."""

from django.db import migrations, models

from windlass.db import schema


def create(apps, schema_editor):
    schema.create(schema_editor)


def drop(apps, schema_editor):
    schema.drop(schema_editor)


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="Job",
            fields=[
                (
                    "id",
                    models.UUIDField(editable=False, primary_key=True, serialize=False),
                ),
                ("name", models.CharField(max_length=500, verbose_name="name")),
                ("task_path", models.CharField(max_length=500, verbose_name="task")),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("scheduled", "scheduled"),
                            ("blocked", "blocked"),
                            ("ready", "ready"),
                            ("running", "running"),
                            ("succeeded", "succeeded"),
                            ("failed", "failed"),
                            ("cancelled", "cancelled"),
                            ("discarded", "discarded"),
                        ],
                        max_length=16,
                        verbose_name="state",
                    ),
                ),
                (
                    "reason",
                    models.CharField(
                        choices=[
                            ("", "none"),
                            ("error", "its task raised an error"),
                            ("timeout", "an attempt ran longer than its timeout"),
                            ("crashed", "the process that ran it died"),
                            ("lost", "the node that ran it stopped its heartbeat"),
                            ("refused", "there is no such task to run"),
                            ("cancelled", "someone cancelled it"),
                            ("duplicate", "another job holds its unique key"),
                            ("limit", "a limit refused it"),
                            ("expired", "it came too late to start"),
                            ("interrupted", "its worker had to stop before it ended"),
                        ],
                        max_length=16,
                        verbose_name="reason",
                    ),
                ),
                (
                    "backend_alias",
                    models.CharField(max_length=64, verbose_name="backend"),
                ),
                ("queue_name", models.CharField(max_length=255, verbose_name="queue")),
                ("priority", models.SmallIntegerField(verbose_name="priority")),
                ("args", models.JSONField(verbose_name="arguments")),
                ("kwargs", models.JSONField(verbose_name="keyword arguments")),
                ("run_after", models.DateTimeField(verbose_name="run after")),
                ("enqueued_at", models.DateTimeField(verbose_name="enqueued at")),
                (
                    "started_at",
                    models.DateTimeField(null=True, verbose_name="started at"),
                ),
                (
                    "finished_at",
                    models.DateTimeField(null=True, verbose_name="finished at"),
                ),
                ("attempts", models.SmallIntegerField(verbose_name="attempts")),
                ("max_attempts", models.SmallIntegerField(verbose_name="max attempts")),
                ("crashes", models.SmallIntegerField(verbose_name="crashes")),
                ("node", models.BigIntegerField(null=True, verbose_name="node")),
                (
                    "return_value",
                    models.JSONField(null=True, verbose_name="return value"),
                ),
                ("metadata", models.JSONField(null=True, verbose_name="metadata")),
                ("progress", models.JSONField(null=True, verbose_name="progress")),
                ("policy", models.JSONField(null=True, verbose_name="policy")),
                ("history", models.JSONField(null=True, verbose_name="past attempts")),
                (
                    "unique_key",
                    models.CharField(
                        max_length=255, null=True, verbose_name="unique key"
                    ),
                ),
                ("plan", models.JSONField(null=True, verbose_name="plan")),
                ("workspace", models.JSONField(null=True, verbose_name="workspace")),
            ],
            options={
                "verbose_name": "job",
                "verbose_name_plural": "jobs",
                "db_table": "windlass_job",
                "managed": False,
            },
        ),
        migrations.CreateModel(
            name="Node",
            fields=[
                (
                    "id",
                    models.BigIntegerField(
                        editable=False, primary_key=True, serialize=False
                    ),
                ),
                (
                    "kind",
                    models.CharField(
                        choices=[("worker", "worker"), ("dispatcher", "dispatcher")],
                        max_length=16,
                        verbose_name="kind",
                    ),
                ),
                (
                    "backend_alias",
                    models.CharField(max_length=64, verbose_name="backend"),
                ),
                ("name", models.CharField(max_length=64, verbose_name="name")),
                ("host", models.CharField(max_length=255, verbose_name="host")),
                ("pid", models.BigIntegerField(verbose_name="process id")),
                (
                    "process_started",
                    models.BigIntegerField(db_default=0, verbose_name="process start"),
                ),
                (
                    "supervisor_pid",
                    models.BigIntegerField(
                        null=True, verbose_name="supervisor process id"
                    ),
                ),
                ("started_at", models.DateTimeField(verbose_name="started at")),
                ("heartbeat_at", models.DateTimeField(verbose_name="heartbeat at")),
                ("version", models.CharField(max_length=32, verbose_name="version")),
                ("details", models.JSONField(default=dict, verbose_name="details")),
            ],
            options={
                "verbose_name": "node",
                "verbose_name_plural": "nodes",
                "db_table": "windlass_node",
            },
        ),
        migrations.CreateModel(
            name="EndedJob",
            fields=[
                (
                    "id",
                    models.UUIDField(editable=False, primary_key=True, serialize=False),
                ),
                ("enqueued_at", models.DateTimeField(verbose_name="enqueued at")),
                (
                    "started_at",
                    models.DateTimeField(null=True, verbose_name="started at"),
                ),
                ("node", models.BigIntegerField(null=True, verbose_name="node")),
                ("claim", models.IntegerField(db_default=0, verbose_name="claim")),
                (
                    "attempts",
                    models.SmallIntegerField(db_default=0, verbose_name="attempts"),
                ),
                (
                    "max_attempts",
                    models.SmallIntegerField(db_default=1, verbose_name="max attempts"),
                ),
                (
                    "crashes",
                    models.SmallIntegerField(db_default=0, verbose_name="crashes"),
                ),
                (
                    "backend_alias",
                    models.CharField(max_length=64, verbose_name="backend"),
                ),
                ("queue_name", models.CharField(max_length=255, verbose_name="queue")),
                ("task_path", models.CharField(max_length=500, verbose_name="task")),
                ("args", models.JSONField(verbose_name="arguments")),
                ("kwargs", models.JSONField(verbose_name="keyword arguments")),
                ("metadata", models.JSONField(null=True, verbose_name="metadata")),
                ("progress", models.JSONField(null=True, verbose_name="progress")),
                ("policy", models.JSONField(null=True, verbose_name="policy")),
                ("history", models.JSONField(null=True, verbose_name="past attempts")),
                (
                    "unique_key",
                    models.CharField(
                        max_length=255, null=True, verbose_name="unique key"
                    ),
                ),
                (
                    "name",
                    models.CharField(max_length=255, null=True, verbose_name="name"),
                ),
                ("plan", models.JSONField(null=True, verbose_name="plan")),
                ("workspace", models.JSONField(null=True, verbose_name="workspace")),
                ("available_at", models.DateTimeField(verbose_name="run after")),
                ("nice", models.SmallIntegerField(verbose_name="negated priority")),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("scheduled", "scheduled"),
                            ("blocked", "blocked"),
                            ("ready", "ready"),
                            ("running", "running"),
                            ("succeeded", "succeeded"),
                            ("failed", "failed"),
                            ("cancelled", "cancelled"),
                            ("discarded", "discarded"),
                        ],
                        max_length=16,
                        verbose_name="state",
                    ),
                ),
                (
                    "reason",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("", "none"),
                            ("error", "its task raised an error"),
                            ("timeout", "an attempt ran longer than its timeout"),
                            ("crashed", "the process that ran it died"),
                            ("lost", "the node that ran it stopped its heartbeat"),
                            ("refused", "there is no such task to run"),
                            ("cancelled", "someone cancelled it"),
                            ("duplicate", "another job holds its unique key"),
                            ("limit", "a limit refused it"),
                            ("expired", "it came too late to start"),
                            ("interrupted", "its worker had to stop before it ended"),
                        ],
                        db_default="",
                        max_length=16,
                        verbose_name="reason",
                    ),
                ),
                ("finished_at", models.DateTimeField(verbose_name="finished at")),
                (
                    "return_value",
                    models.JSONField(null=True, verbose_name="return value"),
                ),
            ],
            options={
                "verbose_name": "ended job",
                "verbose_name_plural": "ended jobs",
                "db_table": "windlass_ended",
                "indexes": [
                    models.Index(fields=["finished_at"], name="windlass_ended_finished")
                ],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(
                            (
                                "state__in",
                                ["succeeded", "failed", "cancelled", "discarded"],
                            )
                        ),
                        name="windlass_ended_is_an_end",
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="LiveJob",
            fields=[
                (
                    "id",
                    models.UUIDField(editable=False, primary_key=True, serialize=False),
                ),
                ("enqueued_at", models.DateTimeField(verbose_name="enqueued at")),
                (
                    "started_at",
                    models.DateTimeField(null=True, verbose_name="started at"),
                ),
                ("node", models.BigIntegerField(null=True, verbose_name="node")),
                ("claim", models.IntegerField(db_default=0, verbose_name="claim")),
                (
                    "attempts",
                    models.SmallIntegerField(db_default=0, verbose_name="attempts"),
                ),
                (
                    "max_attempts",
                    models.SmallIntegerField(db_default=1, verbose_name="max attempts"),
                ),
                (
                    "crashes",
                    models.SmallIntegerField(db_default=0, verbose_name="crashes"),
                ),
                (
                    "backend_alias",
                    models.CharField(max_length=64, verbose_name="backend"),
                ),
                ("queue_name", models.CharField(max_length=255, verbose_name="queue")),
                ("task_path", models.CharField(max_length=500, verbose_name="task")),
                ("args", models.JSONField(verbose_name="arguments")),
                ("kwargs", models.JSONField(verbose_name="keyword arguments")),
                ("metadata", models.JSONField(null=True, verbose_name="metadata")),
                ("progress", models.JSONField(null=True, verbose_name="progress")),
                ("policy", models.JSONField(null=True, verbose_name="policy")),
                ("history", models.JSONField(null=True, verbose_name="past attempts")),
                (
                    "unique_key",
                    models.CharField(
                        max_length=255, null=True, verbose_name="unique key"
                    ),
                ),
                (
                    "name",
                    models.CharField(max_length=255, null=True, verbose_name="name"),
                ),
                ("plan", models.JSONField(null=True, verbose_name="plan")),
                ("workspace", models.JSONField(null=True, verbose_name="workspace")),
                ("available_at", models.DateTimeField(verbose_name="may run from")),
                (
                    "nice",
                    models.SmallIntegerField(
                        db_default=0, verbose_name="negated priority"
                    ),
                ),
                (
                    "share",
                    models.CharField(
                        blank=True,
                        db_default="",
                        max_length=255,
                        verbose_name="share",
                    ),
                ),
                (
                    "hold",
                    models.CharField(
                        blank=True,
                        db_default="",
                        max_length=32,
                        verbose_name="waits for",
                    ),
                ),
            ],
            options={
                "verbose_name": "live job",
                "verbose_name_plural": "live jobs",
                "db_table": "windlass_live",
                "indexes": [
                    models.Index(
                        fields=[
                            "backend_alias",
                            "queue_name",
                            "nice",
                            "share",
                            "available_at",
                        ],
                        name="windlass_live_claim",
                    )
                ],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(
                                ("node__isnull", True), ("started_at__isnull", True)
                            ),
                            models.Q(
                                ("hold", ""),
                                ("node__isnull", False),
                                ("started_at__isnull", False),
                            ),
                            _connector="OR",
                        ),
                        name="windlass_live_one_state",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("attempts__gte", 0),
                            ("claim__gte", 0),
                            ("max_attempts__gte", 1),
                            ("nice__range", (-100, 100)),
                        ),
                        name="windlass_live_ranges",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="CancelRequest",
            fields=[
                (
                    "job",
                    models.UUIDField(editable=False, primary_key=True, serialize=False),
                ),
                (
                    "backend_alias",
                    models.CharField(max_length=64, verbose_name="backend"),
                ),
                ("reason", models.TextField(blank=True, verbose_name="reason")),
                ("requested_at", models.DateTimeField(verbose_name="requested at")),
            ],
            options={
                "verbose_name": "cancel request",
                "verbose_name_plural": "cancel requests",
                "db_table": "windlass_cancel",
            },
        ),
        migrations.RunPython(create, drop, atomic=False),
    ]
