from __future__ import annotations

import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from gestore_sync import api
from gestore_sync.comparison import POLICIES
from gestore_sync.exceptions import GestoreSyncError
from gestore_sync.management.options import add_output_options, add_scope_options, get_scope_options
from gestore_sync.plan import Report
from gestore_sync.terminal import make_progress, print_report, to_json


class Command(BaseCommand):
    help = "Push objects, with everything that belongs to them, from the LOCAL database to the REMOTE one."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--root",
            nargs="+",
            action="extend",
            default=[],
            metavar="OBJECT",
            help="app.Model.pk; repeatable",
        )
        parser.add_argument("--source", metavar="ALIAS", help='the database to read (default: "default")')
        parser.add_argument("--remote", metavar="ALIAS", help="the database to write (default: SYNCHRO_REMOTE)")
        parser.add_argument("--on-conflict", choices=POLICIES, default="newer", help="which side wins")
        parser.add_argument(
            "--prune",
            action="store_true",
            help="delete owned objects that this source put there and no longer has",
        )
        parser.add_argument("--dry-run", action="store_true", help="show what would be done; write nothing")
        add_scope_options(parser)
        add_output_options(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        as_json = options["format"] == "json"
        progress = make_progress(self.stderr._out, wanted=options["progress"])
        try:
            report = api.synchronize(
                options["root"],
                source=options["source"],
                remote=options["remote"],
                on_conflict=options["on_conflict"],
                prune=options["prune"],
                dry_run=options["dry_run"],
                progress=progress,
                **get_scope_options(options),
            )
        except GestoreSyncError as error:
            report = error.report or Report()
            if as_json:
                self.stdout.write(to_json({**report.as_dict(), "error": str(error)}))
            elif error.report is not None:
                print_report(report, self.stdout)
            raise CommandError(str(error)) from error
        if as_json:
            self.stdout.write(to_json(report.as_dict()))
        else:
            print_report(report, self.stdout)
            self.stdout.write(report.message)
        if options["dry_run"] and report.get_unresolved():
            sys.exit(1)
