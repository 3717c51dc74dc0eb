"""How things stand between a database and a remote, for the admin view."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from django.db import DEFAULT_DB_ALIAS
from django.utils.translation import gettext as _

from gestore_sync.changelog import count_pending, has_log
from gestore_sync.checkpoint import read_checkpoint
from gestore_sync.conf import find_remote
from gestore_sync.exceptions import WrongSetting
from gestore_sync.models import SyncRun
from gestore_sync.reading import get_queryset
from gestore_sync.watching import get_watched

RUNS_SHOWN = 10


@dataclass(frozen=True)
class Overview:
    """How things stand: the checkpoint, what is pending by model, the last runs, and what stands in the way."""

    source: str
    remote: str | None
    checkpoint: datetime
    pending: dict[str, int] = field(default_factory=dict)
    runs: list[SyncRun] = field(default_factory=list)
    problem: str = ""


def get_overview(source: str | None = None, remote: str | None = None) -> Overview:
    """How things stand between a database and a remote. Only reads, and only in ``source``."""
    source = source or DEFAULT_DB_ALIAS
    problem = ""
    try:
        remote = remote or find_remote()
        get_watched()
    except WrongSetting as error:
        problem = str(error)
    if not has_log(source):
        problem = _("The database %(alias)r has no change log.") % {"alias": source}
        return Overview(source, remote, read_checkpoint(), problem=problem)
    runs = get_queryset(SyncRun, source).exclude(remote="").order_by("-started", "-pk").select_related("origin")
    return Overview(
        source=source,
        remote=remote,
        checkpoint=read_checkpoint(None if source == DEFAULT_DB_ALIAS else source),
        pending=count_pending(source, remote or ""),
        runs=list(runs[:RUNS_SHOWN]),
        problem=problem,
    )
