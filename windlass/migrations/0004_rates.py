"""What has started lately under a rate limit."""

from django.db import migrations, models

from windlass.db import schema


def name_exactly(apps, schema_editor):
    schema.name_rates_exactly(schema_editor)


class Migration(migrations.Migration):
    dependencies = [
        ("windlass", "0003_schedules"),
    ]

    operations = [
        migrations.CreateModel(
            name="RateWindow",
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
                ("key", models.CharField(max_length=255, verbose_name="key")),
                ("starts", models.JSONField(default=list, verbose_name="starts")),
                ("updated_at", models.DateTimeField(verbose_name="updated at")),
            ],
            options={
                "verbose_name": "rate window",
                "verbose_name_plural": "rate windows",
                "db_table": "windlass_rate",
                "indexes": [
                    models.Index(fields=["updated_at"], name="windlass_rate_updated")
                ],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("backend_alias", "key"), name="windlass_rate_once"
                    )
                ],
            },
        ),
        migrations.RunPython(name_exactly, migrations.RunPython.noop, atomic=False),
    ]
