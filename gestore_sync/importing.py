"""An import: the bundle is staged, then walked, planned and applied like a push from another database."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from django.db import connections, transaction
from django.db.models import Model
from django.utils.translation import gettext as _

from gestore_sync.bundles import BundleReader, open_bundle
from gestore_sync.bundles.signing import ContentDigest, check_signature
from gestore_sync.exceptions import UnresolvedConflicts, WriteFailed
from gestore_sync.executor import Executor
from gestore_sync.importplans import ImportPlanner
from gestore_sync.incoming import ImportLookup, RestoreStore
from gestore_sync.links import LinkGraph, find_models
from gestore_sync.loading import Loader
from gestore_sync.locators import Doubt
from gestore_sync.manifests import Manifest
from gestore_sync.mappings import MappingStore, has_tables
from gestore_sync.media import Media
from gestore_sync.models import Origin, SyncRun
from gestore_sync.plan import Report
from gestore_sync.privileges import Protection
from gestore_sync.progress import Progress
from gestore_sync.pushing import describe_conflicts
from gestore_sync.reading import get_queryset
from gestore_sync.records import Record
from gestore_sync.refs import Ref, show_key
from gestore_sync.retracing import Retracing
from gestore_sync.schema import check_schema
from gestore_sync.staging import add_indexes, make_graph, stage
from gestore_sync.transactions import read_snapshot, repeat, write_all_or_nothing
from gestore_sync.tuning import reading_moments_fast

NAMESPACE = uuid.UUID("8a6f3f0e-4d5b-5c0c-9f0e-2f3a1b7c9d10")
"""Makes an identity of what documents of gestore say of where they come from."""


@dataclass
class Staged:
    """A bundle that is ready to be compared."""

    graph: LinkGraph
    manifest: Manifest
    media: Media
    protection: Protection
    loader: Loader
    retracing: Retracing


class Import:
    """An import of one bundle into the database ``target``: all or nothing.

    ``policy``: one of :data:`~gestore_sync.incoming.IMPORT_POLICIES`. ``leaves_out``: what this project does not have
    is left out. ``must_be_signed``: unsigned bundles are refused. ``allow_privileged``: rights are taken too.
    """

    def __init__(
        self,
        location: str,
        target: str,
        *,
        policy: str,
        leaves_out: bool = False,
        must_be_signed: bool = False,
        allow_privileged: bool = False,
        progress: Progress,
    ) -> None:
        self.location = location
        self.target = target
        self.policy = policy
        self.leaves_out = leaves_out
        self.must_be_signed = must_be_signed
        self.allow_privileged = allow_privileged
        self.progress = progress

    def plan(self) -> Report:
        """What would be done. Writes nothing in the target, nor in storages."""
        report = self._import(lambda: read_snapshot(self.target), lambda planner, media: None)
        report.message = str(_("Nothing was written: this is what would be done."))
        return report

    def run(self) -> Report:
        """Do it; once more where the database broke it off because of others at work.

        Raises :class:`UnresolvedConflicts` before anything is written.
        """
        report = repeat(lambda: self._import(self._write, self._apply), self.target)
        number = sum(report.created.values()) + sum(report.updated.values())
        report.message = str(_('Successfully imported "%(number)d" objects.') % {"number": number})
        return report

    def _write(self) -> AbstractContextManager[None]:
        return write_all_or_nothing(self.target, SyncRun._meta.db_table if has_tables(self.target) else None)

    def _apply(self, planner: ImportPlanner, media: Media) -> None:
        report = planner.plan.report
        unresolved = report.get_unresolved()
        if unresolved:
            raise UnresolvedConflicts(describe_conflicts(unresolved), report=report)
        if planner.plan.is_empty() and not media.planned:
            return
        transaction.on_commit(media.keep, using=self.target)
        try:
            media.store()
            Executor(planner, self.progress).apply()
        except WriteFailed as error:
            error.report = report
            report.failures += [error.failure] if error.failure else []
            raise

    def _import(
        self, begin: Callable[[], AbstractContextManager[None]], apply: Callable[[ImportPlanner, Media], None]
    ) -> Report:
        models = find_models(self.target)
        with open_bundle(self.location) as bundle, Media() as media:
            manifest = bundle.manifest
            with (
                stage(self.target, models, find_bundle_origin(manifest)) as alias,
                reading_moments_fast(connections[alias]),
            ):
                graph = make_graph(alias, models, skipping=not is_restore(manifest, self.target))
                protection = Protection(graph, allowed=self.allow_privileged)
                loader = Loader(alias, graph, manifest, protection, leaves_out=self.leaves_out)
                loaded = self._load(bundle, loader)
                media.load(bundle.iter_files())
                retracing = Retracing(graph, manifest, loaded, protection.get_dropped(), self.progress.advance)
                staged = Staged(graph, manifest, media, protection, loader, retracing)
                with begin():
                    planner = self._make_planner(staged)
                    try:
                        apply(planner, media)
                    finally:
                        planner.plan.close()
        return planner.plan.report

    def _load(self, bundle: BundleReader, loader: Loader) -> dict[type[Model], int]:
        """Stage all records; the signature is checked before anything else is done with them."""
        self.progress.start("reading", sum(bundle.manifest.counts.values()) or None)
        is_signed_document = bool(bundle.manifest.signature) and not bundle.manifest.members
        digest = ContentDigest()

        def iter_records() -> Iterator[Record]:
            for number, record in enumerate(bundle.iter_records(), start=1):
                if is_signed_document:
                    digest.add(record)
                yield record
                if not number % 1000:
                    self.progress.advance(1000)

        if not is_signed_document:
            check_signature(bundle.manifest, "", required=self.must_be_signed)
        loaded = loader.load(iter_records())
        if is_signed_document:
            check_signature(bundle.manifest, digest.hexdigest(), required=self.must_be_signed)
        add_indexes(loader.graph.using, list(loaded), loader.graph)
        return loaded

    def _make_planner(self, staged: Staged) -> ImportPlanner:
        """Plan, again and again without the objects that the policy ``skip`` leaves out, and without trust in rows that
        only looked like the same object, until there is nothing new to leave out."""
        barred: dict[Ref, str] = {}
        distrusted: set[Ref] = set()
        conflicts: list[dict[str, Any]] = []
        while True:
            planner = self._plan_once(staged, barred, distrusted)
            lookup = planner.lookup
            assert isinstance(lookup, ImportLookup)
            if wrong := lookup.find_wrong():
                distrusted |= wrong
                planner.plan.close()
                continue
            waiting = planner.plan.waiting if barred else {}
            skipped = {ref: doubt.reason for ref, doubt in lookup.skipped.items()}
            fresh = {ref: reason for ref, reason in (skipped | waiting).items() if ref not in barred}
            if not fresh:
                break
            conflicts += [make_skipped(doubt) for ref, doubt in lookup.skipped.items() if ref in fresh]
            barred |= fresh
            planner.plan.close()
        report = planner.plan.report
        report.conflicts += conflicts
        report.skipped += staged.retracing.count_left_out(planner.subgraph, barred)
        report.warnings += [*staged.protection.iter_notices(), *staged.loader.iter_notices()]
        return planner

    def _plan_once(self, staged: Staged, barred: dict[Ref, str], distrusted: set[Ref]) -> ImportPlanner:
        self.progress.start("walking")
        subgraph = staged.retracing.walk(barred)
        check_schema(self.target, subgraph.get_models())
        store = make_store(staged.graph.using, self.target, staged.manifest)
        planner = ImportPlanner(
            subgraph,
            self.target,
            store,
            policy=self.policy,
            manifest=staged.manifest,
            media=staged.media,
            protection=staged.protection,
            absent=staged.loader.absent,
            distrusted=distrusted,
            progress=self.progress,
            find_date=lambda model, key: staged.manifest.made,
        )
        try:
            planner.make()
        except BaseException:
            planner.plan.close()
            raise
        return planner


def find_bundle_origin(manifest: Manifest) -> uuid.UUID:
    """The identity of the database that a bundle comes from.

    A document of gestore gets one of its host's names, another bundle that does not say it one of what it says of
    itself: read again, it is the same.
    """
    if manifest.origin is not None:
        return manifest.origin
    said = manifest.host or (manifest.date and f"{manifest.date} {manifest.roots}")
    return uuid.uuid5(NAMESPACE, said) if said else uuid.uuid4()


def is_restore(manifest: Manifest, target: str) -> bool:
    """Whether a bundle comes from the target itself."""
    if manifest.origin is None or not has_tables(target):
        return False
    return bool(get_queryset(Origin, target).filter(is_own=True, uuid=manifest.origin).exists())


def make_store(alias: str, target: str, manifest: Manifest) -> MappingStore:
    """The id mappings of the bundle's origin; none where the bundle comes from the target itself."""
    return (RestoreStore if is_restore(manifest, target) else MappingStore)(alias, target)


def make_skipped(doubt: Doubt) -> dict[str, Any]:
    """What the report says of an object that the policy leaves out."""
    label = doubt.ref.model._meta.label
    return {
        "model": label,
        "pk": show_key(doubt.ref.pk),
        "natural_key": None,
        "reason": doubt.reason,
        "fields": doubt.fields,
        "resolved": "remote",
    }
