"""Exports and imports that are watched: the report is compared with what has happened in the target."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.db import connections, models
from django.test.utils import CaptureQueriesContext

from gestore_sync import api
from gestore_sync.exceptions import GestoreSyncError
from tests.conftest import Pair
from tests.kinds.pushing import forget_caches
from tests.policies.watching import Watch, count_changes, counts_of, describe_changes, read_only, unread

SCOPE = ("own", "refer", "ignore", "stop", "reach")
FORMATS = (".json", ".json.gz", ".tar.gz", ".tar.zst")


class Courier(Watch):
    """Carries objects from one database to another as files in a folder.

    ``push`` and what else a Watch does goes by a file here; :meth:`live` is a push from database to database.
    """

    def __init__(self, pair: Pair, folder: Path, *labels: str, ending: str = ".tar.gz") -> None:
        super().__init__(pair, *labels)
        self.folder = folder
        self.ending = ending
        self._numbers = itertools.count(1)

    def export(self, *roots: models.Model | str, **options: Any) -> str:
        """Export from the source; return where the file is."""
        path = str(self.folder / f"{next(self._numbers)}{self.ending}")
        api.export_objects(list(roots), path, database=self.source, **options)
        return path

    def take(self, path: str, **options: Any) -> api.Report:
        """Import into the target; the report's counts are those of the rows that came, changed and went."""
        before = self.picture()
        report = api.import_objects(path, database=self.target, **options)
        connections[self.target].check_constraints()
        told, done = counts_of(report), count_changes(before, self.picture())
        assert told == done, f"the report says {told}, the rows say {done}"
        return report

    def take_nothing(self, path: str, **options: Any) -> api.Report:
        """Import into a target that refuses every write; nothing is to do."""
        with CaptureQueriesContext(connections[self.target]) as queries, read_only(self.target):
            report = api.import_objects(path, database=self.target, **options)
        assert not unread(queries), f"more than reads: {unread(queries)}"
        done = {"created": report.created, "updated": report.updated, "deleted": report.deleted}
        assert not any(+counts for counts in done.values()), f"the report says {done}"
        return report

    def preview(self, path: str, **options: Any) -> api.Report:
        """Say what an import would do, with a target that refuses every write."""
        with read_only(self.target):
            return api.import_objects(path, database=self.target, debug=True, **options)

    def turn_away(self, path: str, **options: Any) -> GestoreSyncError:
        """Import, which must fail and leave the target as it was; return the error."""
        before = self.picture()
        with pytest.raises(GestoreSyncError) as caught:
            api.import_objects(path, database=self.target, **options)
        changes = describe_changes(before, self.picture())
        assert not changes, f"the import has failed and yet the target has changed: {changes}"
        return caught.value

    def synchronize(self, *roots: models.Model | str, **options: Any) -> api.Report:
        """Export and import; what is no scope is for the import."""
        scope = {name: options.pop(name) for name in SCOPE if name in options}
        return api.import_objects(self.export(*roots, **scope), database=self.target, **options)

    def live(self, *roots: models.Model | str, **options: Any) -> api.Report:
        """Push from database to database."""
        return api.synchronize(list(roots), source=self.source, remote=self.target, **options)

    def live_nothing(self, *roots: models.Model | str, **options: Any) -> api.Report:
        """Push from database to database, which finds nothing to do."""
        with read_only(self.target):
            report = self.live(*roots, **options)
        assert report.message == "No changes since last synchronization.", report.as_dict()
        return report


def edit(path: str, change: Callable[[dict[str, Any]], None]) -> str:
    """Change a document as a person would; return where it is."""
    file = Path(path)
    document = json.loads(file.read_text())
    change(document)
    file.write_text(json.dumps(document))
    return path


def find_record(document: dict[str, Any], label: str, pk: Any) -> dict[str, Any]:
    """Return the record of an object in a document."""
    return next(record for record in document["objects"] if record["model"] == label.lower() and record["pk"] == pk)


@contextmanager
def carried(pair: Pair, folder: Path, *labels: str, ending: str = ".tar.gz") -> Iterator[Courier]:
    """Yield a Courier; no content type that is read meanwhile outlives the block in Django's cache."""
    try:
        yield Courier(pair, folder, *labels, ending=ending)
    finally:
        forget_caches()
