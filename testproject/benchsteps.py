"""The steps of the benchmark at scale, each run in a process of its own by `testproject.benchscale`."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from testproject.benchbundles import step_delete_root
from testproject.measuring import LOCAL, REMOTE, count_rows, run, step_dumpdata, step_loaddata

CHANGES = 100
REPEATS = 5
Action = Callable[[], Any]

done: list[int] = []
"""How many objects the step was about, where it says so itself."""
checks: list[Callable[[], int | None]] = []
"""What is asked when the time was taken: how many objects the step was about, or whether it did what it should."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one step; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m testproject.benchsteps", description=__doc__)
    parser.add_argument("--step", choices=STEPS, required=True)
    parser.add_argument("--argument", default="")
    options = parser.parse_args(arguments)
    return run(lambda: STEPS[options.step](options.argument), finish)


def finish() -> int:
    """How many objects the step was about."""
    found = [number for number in [*done, *(check() for check in checks)] if number is not None]
    return found[-1] if found else 0


def get_root(using: str) -> Any:
    """The organization that moves: the first one of LOCAL."""
    from testproject.campus.models import Organization

    code = Organization.objects.using(LOCAL).earliest("pk").code
    return Organization.objects.using(using).get(code=code)


def analyze(*aliases: str) -> None:
    """Let the databases count their rows."""
    from django.db import connections

    for alias in aliases:
        with connections[alias].cursor() as cursor:
            cursor.execute("VACUUM ANALYZE" if connections[alias].vendor == "postgresql" else "ANALYZE")


def step_prepare(argument: str) -> Action:
    """Migrate both databases, seed LOCAL, and REMOTE with another organization."""
    from django.core.management import call_command

    from gestore_sync import DisableSynchroLog

    plan = json.loads(argument)

    def prepare() -> None:
        for alias in (LOCAL, REMOTE):
            call_command("migrate", database=alias, verbosity=0)
        learners = plan["learners"]
        others = {"organizations": 1 + plan["others"], "other_learners": learners}
        with DisableSynchroLog():
            call_command("seedcampus", learners=learners, verbosity=0, **others)
            if plan["remote"]:
                call_command(
                    "seedcampus",
                    learners=plan["remote"],
                    organizations=1,
                    first_organization=11,
                    first_person=learners - plan["remote"] // 10,
                    database=REMOTE,
                    verbosity=0,
                )
        analyze(LOCAL, REMOTE)

    return prepare


def step_empty(_: str) -> Action:
    """Empty REMOTE, but for what migrations put there."""
    from django.apps import apps
    from django.db import connections

    def empty() -> None:
        names = [model._meta.db_table for model in apps.get_app_config("campus").get_models(include_auto_created=True)]
        with connections[REMOTE].cursor() as cursor:
            cursor.execute(f"TRUNCATE {', '.join(names)} CASCADE")

    return empty


def count_walked(report: Any) -> int:
    """How many objects a push was about."""
    return sum(number for of_model in report.why.values() for number in of_model.values())


def step_push(_: str) -> Action:
    """Push the root."""
    from gestore_sync import api

    root = get_root(LOCAL)

    def push() -> None:
        report = api.synchronize([root], source=LOCAL, remote=REMOTE)
        done.append(count_walked(report))

    return push


def step_push_again(_: str) -> Action:
    """Push it once more, and see that nothing is written."""
    from django.db import connections

    from gestore_sync import api

    root = get_root(LOCAL)
    written: list[str] = []
    before = find_last_keys()

    def watch(execute: Any, sql: Any, *arguments: Any) -> Any:
        if str(sql).lstrip().upper().startswith(("INSERT", "UPDATE", "DELETE", "COPY")):
            written.append(str(sql)[:100])
        return execute(sql, *arguments)

    def push() -> None:
        with connections[REMOTE].execute_wrapper(watch):
            report = api.synchronize([root], source=LOCAL, remote=REMOTE)
        done.append(count_walked(report))
        if written or report.created or report.updated:
            sys.exit(f"The second push wrote: {written[:3]} {report.as_dict()}")

    def check() -> None:
        if find_last_keys() != before:
            sys.exit("The second push left id mappings, log entries or a run behind.")

    checks.append(check)
    return push


def find_last_keys() -> list[int | None]:
    """The last rows of our tables of REMOTE: what COPY adds is seen by them alone."""
    from gestore_sync.models import ChangeLog, IdMapping, SyncRun

    last = [model.objects.using(REMOTE).order_by("-pk").first() for model in (ChangeLog, IdMapping, SyncRun)]
    return [None if row is None else row.pk for row in last]


def step_pipe(_: str) -> Action:
    """COPY the tables from LOCAL, table by table, into REMOTE, which is empty."""
    from django.apps import apps
    from django.db import connections, transaction

    from gestore_sync import api  # noqa: F401 (as much is imported as for the other steps)

    models = [
        model
        for model in apps.get_app_config("campus").get_models(include_auto_created=True)
        if model._meta.label != "campus.AuditEntry"
    ]

    def pipe() -> None:
        number = 0
        with (
            transaction.atomic(using=REMOTE),
            connections[LOCAL].cursor() as source,
            connections[REMOTE].cursor() as target,
        ):
            for model in models:
                table = model._meta.db_table
                columns = ", ".join(f'"{field.column}"' for field in model._meta.local_concrete_fields)
                with (
                    source.copy(f"COPY {table} ({columns}) TO STDOUT") as reading,
                    target.copy(f"COPY {table} ({columns}) FROM STDIN") as writing,
                ):
                    for block in reading:
                        writing.write(block)
                number += target.rowcount
        done.append(number)

    return pipe


def step_synchronize(_: str) -> Action:
    """Change objects, which is logged, and send what was logged."""
    from gestore_sync import api
    from testproject.campus.models import Enrolment, Person

    api.synchronize(source=LOCAL, remote=REMOTE)
    mark = str(time.time())
    enrolled = Enrolment.objects.using(LOCAL).filter(course__organization=get_root(LOCAL)).values("person")
    people = list(Person.objects.using(LOCAL).filter(pk__in=enrolled).order_by("pk")[:CHANGES])
    for person in people:
        person.first_name = f"changed {mark}"
        person.save(using=LOCAL)

    def synchronize() -> None:
        report = api.synchronize(source=LOCAL, remote=REMOTE)
        done.append(sum(report.updated.values()))
        if done[-1] != len(people):
            sys.exit(f"{done[-1]} of {len(people)} changes were sent: {report.as_dict()}")

    return synchronize


def step_export(path: str) -> Action:
    """Export the root of LOCAL."""
    from gestore_sync import api

    root = get_root(LOCAL)

    def export() -> None:
        Path(path).unlink(missing_ok=True)
        report = api.export_objects([root], path, database=LOCAL, files=False)
        done.append(sum(report.exported.values()))

    return export


def step_import(path: str) -> Action:
    """Import a bundle into REMOTE."""
    from gestore_sync import api

    def load() -> None:
        report = api.import_objects(path, database=REMOTE)
        done.append(sum((report.created + report.matched).values()))

    return load


def step_delete(_: str) -> Action:
    """Delete the root of REMOTE."""
    from gestore_sync import api

    root = get_root(REMOTE)

    def delete() -> None:
        done.append(sum(api.delete_objects([root], database=REMOTE).deleted.values()))

    return delete


def step_delete_bare(_: str) -> Action:
    """Delete the same rows by statements alone, table by table; what points to others goes before them."""
    from django.db import transaction

    from gestore_sync.ordering import get_links, sort_models
    from gestore_sync.reading import get_queryset, match_keys
    from gestore_sync.refs import iter_chunks
    from gestore_sync.scope import Role
    from gestore_sync.starting import prepare_walk
    from gestore_sync.walker import Walker
    from testproject.campus.models import Person

    root = get_root(REMOTE)
    names: dict[str, Any] = {"own": (), "refer": (), "ignore": (), "stop": (), "reach": None}
    graph, roots, scope = prepare_walk(REMOTE, [root], **names, skipping=False)
    subgraph = Walker(graph, scope).walk(roots)
    models = subgraph.get_models()
    order = sort_models(models, get_links(graph, models), lambda link: int(link.required))
    keys = {model: sorted(subgraph.iter_keys(model, Role.OWN)) for model in reversed(order)}

    def delete() -> None:
        number = 0
        with transaction.atomic(using=REMOTE):
            Person.objects.using(REMOTE).filter(home_organization=root).update(home_organization=None)
            for model, own in keys.items():
                for chunk in iter_chunks(own, 10_000):
                    number += get_queryset(model, REMOTE).filter(match_keys(model, chunk))._raw_delete(REMOTE)
        done.append(number)

    return delete


def step_saves(path: str) -> Action:
    """Find what logging costs: one save with signals, one bulk_create with triggers, beside the same without."""
    from django.conf import settings
    from django.db import connections, transaction
    from django.test import override_settings

    from gestore_sync import DisableSynchroLog
    from gestore_sync.models import ChangeLog
    from gestore_sync.triggers import update_triggers
    from testproject.campus.models import Comment, Enrolment

    objects = list(Enrolment.objects.using(LOCAL)[:2_000])
    comments = list(Comment.objects.using(LOCAL)[:10_000])

    def save() -> None:
        with transaction.atomic(using=LOCAL):
            for enrolment in objects:
                enrolment.save(using=LOCAL)

    def create() -> None:
        for comment in comments:
            comment.pk = None
            comment._state.adding = True
        with transaction.atomic(using=LOCAL):
            Comment.objects.using(LOCAL).bulk_create(comments, batch_size=2_000)

    def muted(action: Action) -> Action:
        def act() -> None:
            with DisableSynchroLog():
                action()

        return act

    def compare(action: Action, other: Action) -> float:
        times = [(timed(action), timed(other)) for _ in range(REPEATS)]
        return median(first for first, _ in times) / median(second for _, second in times)

    def measure() -> None:
        found = {"save(): logged / not": compare(save, muted(save))}
        plain = [timed(muted(create)) for _ in range(REPEATS)]
        with override_settings(GESTORE_SYNC={**settings.GESTORE_SYNC, "CAPTURE": "triggers"}):
            update_triggers(using=LOCAL)
            connections[LOCAL].close()
            known = ChangeLog.objects.using(LOCAL).count()
            caught = [timed(create) for _ in range(REPEATS)]
            if ChangeLog.objects.using(LOCAL).count() - known != REPEATS * len(comments):
                sys.exit("The triggers did not log all rows.")
        found["bulk_create: with triggers / without"] = median(caught) / median(plain)
        Path(path).write_text(json.dumps(found))

    return measure


def timed(action: Action) -> float:
    """How many seconds an action takes."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def counting(step: Callable[[str], Action], using: str, *, goes: bool = False) -> Callable[[str], Action]:
    """A step of Django's, about all objects of a database; ``goes``: about those that are there before it, and not
    after. Nothing of ours listens."""

    def prepare(argument: str) -> Action:
        from django.test import override_settings

        override_settings(SYNCHRO_MODELS=()).enable()
        action = step(argument)
        before = count_rows(using) if goes else 0
        checks.append(lambda: before - count_rows(using) if goes else count_rows(using))
        return action

    return prepare


STEPS: dict[str, Callable[[str], Action]] = {
    "prepare": step_prepare,
    "empty": step_empty,
    "push": step_push,
    "push_again": step_push_again,
    "pipe": step_pipe,
    "synchronize": step_synchronize,
    "export": step_export,
    "import": step_import,
    "delete": step_delete,
    "delete_bare": step_delete_bare,
    "dumpdata": counting(step_dumpdata, LOCAL),
    "loaddata": counting(step_loaddata, REMOTE),
    "delete_root": counting(step_delete_root, REMOTE, goes=True),
    "saves": step_saves,
}


if __name__ == "__main__":
    sys.exit(main())
