from __future__ import annotations

import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from gestore_sync import api
from gestore_sync.exceptions import GestoreSyncError
from gestore_sync.management.options import (
    add_output_options,
    add_scope_options,
    get_scope_options,
    make_confirmation,
)
from gestore_sync.terminal import make_progress, write_report


class Command(BaseCommand):
    help = "Delete objects with everything that belongs to them, in one transaction, and nothing else."
    # Other checks may connect to databases, and end in a traceback where one is away.
    requires_system_checks = ("gestore_sync_settings",)

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("objects", nargs="+", metavar="OBJECT", help="app.Model.pk")
        parser.add_argument("-d", "--debug", action="store_true", help="show what would be done; delete nothing")
        parser.add_argument("--backup", metavar="FILE_OR_URL", help="first write a bundle that importobjects restores")
        parser.add_argument("--orphans", action="store_true", help="take referred objects that nothing else uses")
        parser.add_argument(
            "--files", action="store_true", help="delete stored files, too, that no other row names; after the commit"
        )
        parser.add_argument("--database", metavar="ALIAS", help='the database (default: "default")')
        add_scope_options(parser, several=False)
        add_output_options(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        names = ("database", "backup", "orphans", "files", "debug")
        given = {name: options[name] for name in names} | get_scope_options(options)
        given["confirm"] = None if options["debug"] else make_confirmation(self, options, options["objects"])
        progress = make_progress(self.stderr._out, wanted=options["progress"])
        try:
            report = api.delete_objects(options["objects"], progress=progress, **given)
        except GestoreSyncError as error:
            write_report(error.report, self.stdout, options["format"], error=str(error))
            raise CommandError(str(error)) from error
        write_report(report, self.stdout, options["format"])
        if report.get_unresolved():
            sys.exit(1)
