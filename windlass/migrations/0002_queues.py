"""Queues that can be paused."""

from django.db import migrations, models

from windlass.db import schema


def name_exactly(apps, schema_editor):
    schema.name_queues_exactly(schema_editor)


class Migration(migrations.Migration):
    dependencies = [
        ("windlass", "0001_initial"),
    ]

    operations = [
        migrations.CreateModel(
            name="Queue",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True,
                        primary_key=True,
                        serialize=False,
                        verbose_name="ID",
                    ),
                ),
                (
                    "backend_alias",
                    models.CharField(max_length=64, verbose_name="backend"),
                ),
                ("name", models.CharField(max_length=255, verbose_name="name")),
                (
                    "paused_at",
                    models.DateTimeField(null=True, verbose_name="paused at"),
                ),
                (
                    "pause_reason",
                    models.TextField(
                        blank=True, db_default="", verbose_name="reason of the pause"
                    ),
                ),
                (
                    "past_pauses",
                    models.JSONField(default=list, verbose_name="past pauses"),
                ),
            ],
            options={
                "verbose_name": "queue",
                "verbose_name_plural": "queues",
                "db_table": "windlass_queue",
                "constraints": [
                    models.UniqueConstraint(
                        fields=("backend_alias", "name"), name="windlass_queue_once"
                    )
                ],
            },
        ),
        migrations.RunPython(name_exactly, migrations.RunPython.noop, atomic=False),
    ]
