"""The views of ``Job`` by earlier names. Nothing is made in the database."""

from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        ("windlass", "0001_initial"),
    ]

    operations = [
        migrations.CreateModel(
            name="QueueJob",
            fields=[
                (
                    "id",
                    models.UUIDField(editable=False, primary_key=True, serialize=False),
                ),
                ("name", models.CharField(max_length=500)),
                ("windlass_state", models.CharField(db_column="state", max_length=16)),
                ("next_task", models.CharField(db_column="task_path", max_length=500)),
                ("workspace", models.JSONField(null=True)),
                ("queue_name", models.CharField(max_length=255)),
                ("priority", models.SmallIntegerField()),
                ("run_after", models.DateTimeField()),
                ("created", models.DateTimeField(db_column="enqueued_at")),
                ("started_at", models.DateTimeField(null=True)),
                ("finished_at", models.DateTimeField(null=True)),
                ("policy", models.JSONField(null=True)),
                ("history", models.JSONField(null=True)),
                ("node", models.BigIntegerField(null=True)),
            ],
            options={
                "verbose_name": "job",
                "db_table": "windlass_job",
                "managed": False,
            },
        ),
        migrations.CreateModel(
            name="DatabaseTask",
            fields=[],
            options={
                "verbose_name": "task",
                "proxy": True,
                "indexes": [],
                "constraints": [],
            },
            bases=("windlass.job",),
        ),
    ]
