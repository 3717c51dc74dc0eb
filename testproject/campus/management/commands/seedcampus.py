"""`manage.py seedcampus`: made-up data for the learning platform."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.apps import apps
from django.core.files.base import ContentFile
from django.core.management.base import BaseCommand, CommandError
from django.db import DEFAULT_DB_ALIAS, OperationalError, ProgrammingError, connections
from django.db.models import FileField

from testproject.campus.seed import Seed, apply_seed


class Command(BaseCommand):
    """Seed one database; refuse one that has data of the platform already."""

    help = (
        "Fills an empty database with made-up data of the learning platform, the same for the same options: "
        "about ten objects for each learner of the first organization, a tenth of that in each other one."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("--learners", type=int, required=True, metavar="N", help="people of the first organization")
        parser.add_argument("--database", default=DEFAULT_DB_ALIAS, metavar="ALIAS", help="the database to fill")
        parser.add_argument(
            "--organizations", type=int, default=2, metavar="K", help="how many organizations (default: 2)"
        )
        parser.add_argument(
            "--first-organization",
            type=int,
            default=0,
            metavar="I",
            help="start with another organization of the list (default: 0)",
        )
        parser.add_argument(
            "--first-person",
            type=int,
            default=0,
            metavar="J",
            help="start with another person of the list: sites share the people that both have (default: 0)",
        )
        parser.add_argument(
            "--other-learners", type=int, metavar="N", help="people of each other organization (default: a tenth)"
        )
        parser.add_argument("--files", action="store_true", help="store the small files that the rows name, too")

    def handle(self, **options: Any) -> None:
        """Check, seed, tell what there is now."""
        using = options["database"]
        if using not in connections:
            raise CommandError(
                f'There is no database "{using}" in DATABASES; there are {", ".join(sorted(connections))}.'
            )
        try:
            seed = Seed(
                options["learners"],
                options["organizations"],
                options["first_organization"],
                options["first_person"],
                options["other_learners"],
            )
        except ValueError as error:
            raise CommandError(f"Nothing was written: {error}.") from error
        self._refuse_seeded(using)
        apply_seed(seed, using)
        if options["files"]:
            _store_files(using)
        for label, count in _count_rows(using).items():
            self.stdout.write(f"{count:>10,}  {label}")

    def _refuse_seeded(self, using: str) -> None:
        try:
            counts = _count_rows(using)
        except (OperationalError, ProgrammingError) as error:
            raise CommandError(
                f'The database "{using}" cannot be read: {str(error).strip()}. '
                f"Has it been migrated? manage.py migrate --database {using}"
            ) from error
        if counts:
            found = ", ".join(f"{count:,} {label}" for label, count in counts.items())
            raise CommandError(
                f'The database "{using}" has data of the platform already ({found}), and was left as it is. '
                f"To start again: manage.py flush --database {using}"
            )


def _store_files(using: str) -> None:
    """Store a small file under each name that a row has."""
    for model in apps.get_app_config("campus").get_models():
        for field in model._meta.local_fields:
            if isinstance(field, FileField):
                names = model._base_manager.using(using).exclude(**{field.name: ""}).values_list(field.name, flat=True)
                for name in names:
                    if not field.storage.exists(name):
                        field.storage.save(name, ContentFile(f"This stands for {name}.\n".encode()))


def _count_rows(using: str) -> dict[str, int]:
    """Return the number of rows per model of the platform, without the empty ones."""
    models = apps.get_app_config("campus").get_models(include_auto_created=True)
    counts = {model._meta.label: model._base_manager.using(using).count() for model in models}
    return {label: count for label, count in counts.items() if count}
