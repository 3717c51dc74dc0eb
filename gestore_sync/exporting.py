"""Writes subgraphs into bundles. Of the database it only reads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from io import BytesIO
from typing import Any

from django.core.exceptions import SuspiciousFileOperation
from django.core.files.storage import Storage
from django.core.files.utils import validate_file_name
from django.db.models import Model
from django.utils import timezone
from django.utils.translation import gettext as _

from gestore_sync.bundles import Parts, is_document, write_bundle
from gestore_sync.bundles.documents import SEPARATOR, write_document
from gestore_sync.bundles.signing import sign_bundle
from gestore_sync.bundles.streams import JSON
from gestore_sync.exceptions import BundleError
from gestore_sync.links import LinkGraph
from gestore_sync.locations import get_format
from gestore_sync.manifests import Manifest, describe_schema, dump_scope
from gestore_sync.mappings import has_tables
from gestore_sync.media import get_file_fields
from gestore_sync.models import Origin
from gestore_sync.narration import iter_more_roots
from gestore_sync.ordering import get_links, sort_models
from gestore_sync.plan import Report
from gestore_sync.progress import Progress
from gestore_sync.reading import get_queryset, iter_rows
from gestore_sync.records import RecordWriter
from gestore_sync.refs import Key, Ref
from gestore_sync.scope import Scope
from gestore_sync.subgraph import TRAVELLING, Subgraph
from gestore_sync.transactions import read_snapshot
from gestore_sync.walker import Walker

FILE_CHUNK = 1024 * 1024


def export_roots(
    graph: LinkGraph,
    scope: Scope,
    roots: Sequence[Ref],
    location: str | None,
    *,
    files: bool = True,
    sign: bool = False,
    progress: Progress | None = None,
) -> Report:
    """Walk from ``roots`` and write what belongs to them to ``location``; without one the document is only in the
    report. What is read is one state of the database."""
    progress = progress or Progress()
    with read_snapshot(graph.using):
        progress.start("walking")
        subgraph = Walker(graph, scope, progress.advance).walk(roots)
        report = write_subgraph(subgraph, location, files=files, sign=sign, progress=progress)
    report.message = str(_("Objects successfully exported!"))
    if location is None:
        report.message = str(_("Nothing was written: this is what would be exported."))
    return report


def write_subgraph(
    subgraph: Subgraph,
    location: str | None,
    *,
    files: bool = True,
    sign: bool = False,
    detached: Iterable[Mapping[str, Any]] = (),
    progress: Progress | None = None,
) -> Report:
    """Write a subgraph as a bundle, in the open transaction of its database. The report says what is in it.

    ``detached``: optional links from outside that a deletion nulls, ``{"model", "field", "pk", "value"}``, as JSON.
    Raises :class:`BundleError` for a stored file that is missing, LocationUnavailable.
    """
    progress = progress or Progress()
    form = JSON if location is None else get_format(location)
    report = Report(mentions=dict(subgraph.mentions), why=subgraph.count_why(), location=location or "")
    report.warnings += iter_more_roots(subgraph)
    manifest = Manifest(
        date=timezone.now().isoformat(),
        origin=find_origin(subgraph.source),
        roots=[str(ref) for ref in subgraph.roots],
        scope=dump_scope(subgraph.scope),
        detached=[dict(link) for link in detached],
    )
    with Parts() as parts:
        models = add_records(parts, subgraph, form, progress)
        manifest.counts = {member.model: member.count for member in parts.members if member.count}
        manifest.schema = describe_schema(models, subgraph.source)
        report.exported.update(manifest.counts)
        if not is_document(form):
            stored = find_stored_files(subgraph, models) if files else {}
            add_files(parts, stored, progress)
            manifest.members = parts.members
            report.files = len(stored)
        elif files and (stored := find_stored_files(subgraph, models)):
            report.warnings.append(
                _("%(number)d stored files are not in the document; .tar.gz and .tar.zst hold them.")
                % {"number": len(stored)}
            )
        if sign:
            sign_bundle(manifest, parts, form)
        if location is None:
            out = BytesIO()
            write_document(out, manifest, parts, form)
            report.document = out.getvalue().decode()
        else:
            write_bundle(location, manifest, parts)
    return report


def find_origin(using: str) -> Any:
    """The identity of a database; None where it has no tables of ours."""
    if not has_tables(using):
        return None
    return get_queryset(Origin, using).filter(is_own=True).values_list("uuid", flat=True).first()


def add_records(parts: Parts, subgraph: Subgraph, form: str, progress: Progress) -> list[type[Model]]:
    """Add the records of all objects that travel, what is pointed to first; the models that they are of."""
    graph = subgraph.graph
    models = subgraph.get_models()
    order = sort_models(models, get_links(graph, models), lambda link: int(link.required))
    listed = {membership.link.model for model in models for membership in graph.memberships[model]}
    progress.start("exporting", subgraph.count())
    written = []
    for model in order:
        keys = sorted(subgraph.iter_keys(model, *TRAVELLING))
        if not keys or (is_document(form) and model in listed and model._meta.auto_created):
            continue
        writer = RecordWriter(subgraph, model, indented=is_document(form), with_members=is_document(form))
        with closing(writer.iter_texts(keys)) as texts:
            separator = SEPARATOR if is_document(form) else "\n"
            parts.add_records(model, advance_each(texts, progress), separator=separator)
        written.append(model)
    return written


def advance_each(texts: Iterator[str], progress: Progress) -> Iterator[str]:
    """The same texts; every thousand are told."""
    for number, text in enumerate(texts, start=1):
        yield text
        if not number % 1000:
            progress.advance(1000)


def find_stored_files(subgraph: Subgraph, models: Sequence[type[Model]]) -> dict[tuple[Storage, str], tuple[Any, Key]]:
    """The files that rows name, once each: by storage and name, a field and an object that name it."""
    found: dict[tuple[Storage, str], tuple[Any, Key]] = {}
    for model in models:
        fields = get_file_fields(model)
        keys = sorted(subgraph.iter_keys(model, *TRAVELLING)) if fields else []
        for key, *names in iter_rows(model, subgraph.source, keys, [field.attname for field in fields]):
            for field, name in zip(fields, names, strict=True):
                if name:
                    found.setdefault((field.storage, str(name)), (field, key))
    return found


def add_files(parts: Parts, stored: Mapping[tuple[Storage, str], tuple[Any, Key]], progress: Progress) -> None:
    """Add the contents of stored files. Raises :class:`BundleError` for one that its storage does not have, or
    that is named outside of it."""
    progress.start("reading files", len(stored))
    for (storage, name), (field, key) in stored.items():
        try:
            validate_file_name(name, allow_relative_path=True)
            with storage.open(name, "rb") as content:
                parts.add_file(f"{field.model._meta.label}.{field.name}", name, content.chunks(FILE_CHUNK))
        except (OSError, ValueError, SuspiciousFileOperation) as error:
            raise BundleError(
                f"The file {name!r} that {Ref(field.model, key)} names in {field.name!r} cannot be read from its "
                f"storage: {error}. Put it back, clear the field, or leave the files out with --no-files."
            ) from error
        progress.advance()
