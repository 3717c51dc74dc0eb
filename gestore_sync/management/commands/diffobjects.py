from __future__ import annotations

import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser, SystemCheckError

from gestore_sync import api
from gestore_sync.exceptions import GestoreSyncError
from gestore_sync.management.options import add_output_options, add_scope_options, get_scope_options
from gestore_sync.terminal import make_progress, write_differences, write_report

IN_STEP, DIFFERS, TROUBLE = 0, 1, 2


class Command(BaseCommand):
    help = "Compare objects with everything that belongs to them in two databases. Exit codes as diff(1)."
    requires_system_checks = ("gestore_sync_settings",)

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("objects", nargs="+", metavar="OBJECT", help="app.Model.pk")
        parser.add_argument("--source", metavar="ALIAS", help='one database (default: "default")')
        parser.add_argument("--remote", metavar="ALIAS", help="the other database (default: SYNCHRO_REMOTE)")
        parser.add_argument(
            "--repair", metavar="FILE", help="write a plan that brings the target in step, for synchronize --apply"
        )
        add_scope_options(parser, several=False)
        add_output_options(parser)

    def check(self, *args: Any, **options: Any) -> None:
        """Wrong settings are trouble, too: 1 would say that the databases differ."""
        try:
            super().check(*args, **options)
        except SystemCheckError as error:
            error.returncode = TROUBLE
            raise

    def handle(self, *args: Any, **options: Any) -> None:
        given = {name: options[name] for name in ("source", "remote", "repair")} | get_scope_options(options)
        progress = make_progress(self.stderr._out, wanted=options["progress"])
        try:
            found = api.diff_objects(options["objects"], progress=progress, **given)
        except GestoreSyncError as error:
            write_report(error.report, self.stdout, options["format"], error=str(error))
            raise CommandError(str(error), returncode=TROUBLE) from error
        write_differences(found, self.stdout, options["format"])
        if found.get_all() or found.conflicts:
            sys.exit(DIFFERS)
