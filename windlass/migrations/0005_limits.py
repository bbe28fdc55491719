"""Who runs under a concurrency limit, and who waits for it."""

from django.db import migrations, models

from windlass.db import schema


def name_exactly(apps, schema_editor):
    schema.name_limits_exactly(schema_editor)


class Migration(migrations.Migration):
    dependencies = [
        ("windlass", "0004_rates"),
    ]

    operations = [
        migrations.CreateModel(
            name="Slot",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "key",
                        "number",
                        blank=True,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("key", models.CharField(max_length=400, verbose_name="key")),
                ("number", models.IntegerField(verbose_name="number")),
                ("job", models.UUIDField(verbose_name="job")),
                ("claim", models.IntegerField(verbose_name="claim")),
            ],
            options={
                "verbose_name": "slot",
                "verbose_name_plural": "slots",
                "db_table": "windlass_slot",
            },
        ),
        migrations.CreateModel(
            name="Waiter",
            fields=[
                (
                    "job",
                    models.UUIDField(
                        primary_key=True, serialize=False, verbose_name="job"
                    ),
                ),
                ("key", models.CharField(max_length=400, verbose_name="key")),
                ("nice", models.SmallIntegerField(verbose_name="negated priority")),
                ("enqueued_at", models.DateTimeField(verbose_name="enqueued at")),
            ],
            options={
                "verbose_name": "waiter for a limit",
                "verbose_name_plural": "concurrency limits",
                "db_table": "windlass_waiter",
                "indexes": [
                    models.Index(
                        fields=["key", "nice", "enqueued_at", "job"],
                        name="windlass_waiter_next",
                    )
                ],
            },
        ),
        migrations.RunPython(name_exactly, migrations.RunPython.noop, atomic=False),
    ]
