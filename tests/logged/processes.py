"""Other processes that work on the PostgreSQL databases of a test."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from django.db import connections

ROOT = Path(__file__).resolve().parent.parent.parent
KILLED = 9

BEGINNING = """
import os, sys, json, io
from django.conf import settings

given = json.loads(os.environ["LOGGED_SETTINGS"])
for alias in ("pg_local", "pg_remote"):
    settings.DATABASES[alias]["NAME"] = given.pop(alias)
settings.DATABASES["default"] = dict(settings.DATABASES["pg_local"])
settings.SYNCHRO_REMOTE = "pg_remote"
settings.SYNCHRO_MODELS = ("logged",)
for name, value in given.items():
    setattr(settings, name, value)

import django

django.setup()
from datetime import datetime, timedelta, timezone
from django.core.management import execute_from_command_line
from django.db import connections, transaction
from django.db.models.signals import post_save
from gestore_sync import DisableSynchroLog, api, call_synchronize, reset_synchro
from gestore_sync.models import ChangeLog, options
from tests.logged.models import *

def synchronize(*words):
    execute_from_command_line(["manage.py", "synchronize", "--source", "pg_local", "--remote", "pg_remote", *words])
"""


def run(code: str, **settings: Any) -> subprocess.CompletedProcess[str]:
    """Run a program with the settings of the tests, in which "default" and "pg_local" are both the local site."""
    names = {alias: str(connections[alias].settings_dict["NAME"]) for alias in ("pg_local", "pg_remote")}
    return subprocess.run(
        [sys.executable, "-c", BEGINNING + code],
        cwd=ROOT,
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tests.settings",
            "LOGGED_SETTINGS": json.dumps({**names, **settings}),
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def succeed(code: str, **settings: Any) -> str:
    """Run a program that must succeed; return what it prints."""
    done = run(code, **settings)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
