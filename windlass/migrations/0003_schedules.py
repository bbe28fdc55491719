"""Schedules, and the marks of the due times that have been seen to."""

from django.db import migrations, models

from windlass.db import schema


def name_exactly(apps, schema_editor):
    schema.name_schedules_exactly(schema_editor)


class Migration(migrations.Migration):
    dependencies = [
        ("windlass", "0002_queues"),
    ]

    operations = [
        migrations.CreateModel(
            name="Schedule",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                (
                    "backend_alias",
                    models.CharField(max_length=64, verbose_name="backend"),
                ),
                ("key", models.CharField(max_length=255, verbose_name="key")),
                ("task_path", models.CharField(max_length=500, verbose_name="task")),
                ("args", models.JSONField(default=list, verbose_name="arguments")),
                (
                    "kwargs",
                    models.JSONField(default=dict, verbose_name="keyword arguments"),
                ),
                ("schedule", models.CharField(max_length=255, verbose_name="schedule")),
                (
                    "timezone",
                    models.CharField(
                        blank=True, max_length=64, verbose_name="time zone"
                    ),
                ),
                (
                    "queue_name",
                    models.CharField(blank=True, max_length=255, verbose_name="queue"),
                ),
                (
                    "priority",
                    models.SmallIntegerField(null=True, verbose_name="priority"),
                ),
                (
                    "description",
                    models.TextField(blank=True, verbose_name="description"),
                ),
                (
                    "overlap",
                    models.CharField(
                        choices=[
                            ("allow", "enqueue another one"),
                            ("skip", "enqueue none"),
                            ("cancel_previous", "cancel the job before"),
                        ],
                        max_length=16,
                        verbose_name="overlap",
                    ),
                ),
                (
                    "missed",
                    models.CharField(
                        choices=[
                            ("latest", "the latest fires"),
                            ("all", "each fires"),
                            ("skip", "none fires"),
                        ],
                        max_length=16,
                        verbose_name="missed",
                    ),
                ),
                ("is_static", models.BooleanField(verbose_name="from the settings")),
                ("enabled", models.BooleanField(default=True, verbose_name="enabled")),
                (
                    "next_due_at",
                    models.DateTimeField(null=True, verbose_name="next run"),
                ),
                (
                    "last_due_at",
                    models.DateTimeField(null=True, verbose_name="last due"),
                ),
                (
                    "last_fired_at",
                    models.DateTimeField(null=True, verbose_name="last fired"),
                ),
                ("last_error", models.TextField(blank=True, verbose_name="last error")),
            ],
            options={
                "verbose_name": "schedule",
                "verbose_name_plural": "schedules",
                "db_table": "windlass_schedule",
                "indexes": [
                    models.Index(
                        fields=["backend_alias", "next_due_at"],
                        name="windlass_schedule_due",
                    )
                ],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("backend_alias", "key"), name="windlass_schedule_key"
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="ScheduleMark",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                (
                    "backend_alias",
                    models.CharField(max_length=64, verbose_name="backend"),
                ),
                ("key", models.CharField(max_length=255, verbose_name="key")),
                ("due_at", models.DateTimeField(verbose_name="due at")),
                ("fired_at", models.DateTimeField(verbose_name="fired at")),
                ("job", models.UUIDField(null=True, verbose_name="job")),
            ],
            options={
                "verbose_name": "mark of a schedule",
                "verbose_name_plural": "marks of schedules",
                "db_table": "windlass_schedule_mark",
                "indexes": [
                    models.Index(
                        fields=["backend_alias", "due_at"], name="windlass_mark_due"
                    )
                ],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("backend_alias", "key", "due_at"),
                        name="windlass_mark_once",
                    )
                ],
            },
        ),
        migrations.RunPython(name_exactly, migrations.RunPython.noop, atomic=False),
    ]
