from __future__ import annotations

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [
        ("gestore_sync", "0002_change_log"),
    ]

    operations = [
        migrations.AlterModelOptions(
            name="syncrun",
            options={
                "ordering": ["-started", "-pk"],
                "permissions": [("synchronize", "Can synchronize databases"), ("export", "Can export bundles")],
                "verbose_name": "run",
                "verbose_name_plural": "runs",
            },
        ),
    ]
