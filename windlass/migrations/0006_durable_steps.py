"""What jobs remember of their durable steps, and the events that are sent to them."""

from django.db import migrations, models

from windlass.db import schema


def name_exactly(apps, schema_editor):
    schema.name_memos_exactly(schema_editor)


class Migration(migrations.Migration):
    dependencies = [
        ("windlass", "0005_limits"),
    ]

    operations = [
        migrations.CreateModel(
            name="Memo",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "job",
                        "step",
                        "kind",
                        "name",
                        "ordinal",
                        blank=True,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("job", models.UUIDField(verbose_name="job")),
                ("step", models.SmallIntegerField(default=0, verbose_name="step")),
                (
                    "kind",
                    models.CharField(
                        choices=[
                            ("step", "the result of a step"),
                            ("sleep", "when a sleep ends"),
                            ("wait", "that it waits for an event, and until when"),
                            ("event", "the event it waited for, or that none came"),
                        ],
                        max_length=8,
                        verbose_name="kind",
                    ),
                ),
                ("name", models.CharField(max_length=255, verbose_name="name")),
                ("ordinal", models.IntegerField(verbose_name="ordinal")),
                ("place", models.IntegerField(null=True, verbose_name="place")),
                (
                    "function_path",
                    models.CharField(
                        blank=True, max_length=500, verbose_name="function"
                    ),
                ),
                (
                    "version",
                    models.CharField(blank=True, max_length=64, verbose_name="version"),
                ),
                ("result", models.JSONField(null=True, verbose_name="result")),
                ("recorded_at", models.DateTimeField(verbose_name="recorded at")),
            ],
            options={
                "verbose_name": "memo",
                "verbose_name_plural": "memos",
                "db_table": "windlass_memo",
            },
        ),
        migrations.CreateModel(
            name="Event",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("job", models.UUIDField(verbose_name="job")),
                ("name", models.CharField(max_length=255, verbose_name="name")),
                ("payload", models.JSONField(null=True, verbose_name="payload")),
                (
                    "event_id",
                    models.CharField(
                        max_length=255, null=True, verbose_name="event id"
                    ),
                ),
                ("sent_at", models.DateTimeField(verbose_name="sent at")),
            ],
            options={
                "verbose_name": "event",
                "verbose_name_plural": "events",
                "db_table": "windlass_event",
                "constraints": [
                    models.UniqueConstraint(
                        fields=("job", "event_id"), name="windlass_event_once"
                    )
                ],
            },
        ),
        migrations.RunPython(name_exactly, migrations.RunPython.noop, atomic=False),
    ]
