from __future__ import annotations

import django.db.models.deletion
from django.db import migrations, models

import gestore_sync.fields


class Migration(migrations.Migration):
    dependencies = [
        ("gestore_sync", "0003_export_permission"),
    ]

    operations = [
        migrations.CreateModel(
            name="Conflict",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("remote", models.CharField(blank=True, max_length=64, verbose_name="remote")),
                ("model", models.CharField(max_length=200, verbose_name="model")),
                ("source_pk", models.CharField(max_length=500, verbose_name="primary key at the origin")),
                ("target_pk", models.CharField(max_length=500, verbose_name="primary key here")),
                ("fields", models.TextField(verbose_name="values")),
                (
                    "resolved",
                    models.CharField(
                        choices=[("local", "local"), ("remote", "remote"), ("merged", "merged")],
                        max_length=6,
                        verbose_name="resolved",
                    ),
                ),
                ("run", models.UUIDField(verbose_name="run")),
                ("date", gestore_sync.fields.AwareDateTimeField(auto_now_add=True, verbose_name="date")),
                (
                    "taken",
                    models.CharField(
                        blank=True,
                        choices=[("local", "local"), ("remote", "remote"), ("merged", "merged")],
                        default="",
                        max_length=6,
                        verbose_name="taken",
                    ),
                ),
                ("taken_date", gestore_sync.fields.AwareDateTimeField(blank=True, null=True, verbose_name="taken on")),
                (
                    "origin",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        to="gestore_sync.origin",
                        verbose_name="origin",
                    ),
                ),
            ],
            options={
                "verbose_name": "conflict",
                "verbose_name_plural": "conflicts",
                "ordering": ["-pk"],
                "indexes": [
                    models.Index(fields=["origin", "remote", "model", "source_pk"], name="gestore_sync_disputed")
                ],
            },
        ),
    ]
