from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from gestore_sync import api
from gestore_sync.exceptions import GestoreSyncError
from gestore_sync.management.options import add_output_options
from gestore_sync.terminal import make_progress, write_report, write_settlement


class Command(BaseCommand):
    help = "List the values that lost a conflict, or let a row have the value of the other side."
    # Other checks may connect to databases, and end in a traceback where one is away.
    requires_system_checks = ("gestore_sync_settings",)

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("ids", nargs="*", type=int, metavar="ID", help="conflicts; without them: all open ones")
        parser.add_argument(
            "--take",
            choices=("local", "remote", "merged"),
            help="whose value the rows shall have; merged: leave what the run decided for both sides",
        )
        parser.add_argument("--all", action="store_true", help="list those that are resolved, too")
        parser.add_argument("--database", metavar="ALIAS", help='the database (default: "default")')
        add_output_options(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        ids, given = options["ids"], {"database": options["database"]}
        progress = make_progress(self.stderr._out, wanted=options["progress"])
        try:
            if options["take"]:
                found = api.resolve_conflicts(ids, options["take"], progress=progress, **given)
            else:
                found = api.list_conflicts(ids, closed=options["all"], progress=progress, **given)
        except GestoreSyncError as error:
            write_report(error.report, self.stdout, options["format"], error=str(error))
            raise CommandError(str(error)) from error
        write_settlement(found, self.stdout, options["format"])
