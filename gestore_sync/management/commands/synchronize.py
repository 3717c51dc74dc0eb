from __future__ import annotations

import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from gestore_sync import api
from gestore_sync.comparison import POLICIES
from gestore_sync.exceptions import GestoreSyncError
from gestore_sync.management.options import (
    add_output_options,
    add_scope_options,
    get_scope_options,
    make_confirmation,
)
from gestore_sync.terminal import make_progress, write_report


class Command(BaseCommand):
    help = "Push what the change log of the LOCAL database holds to the REMOTE one, or objects with all that is theirs."
    # Other checks may connect to databases, and end in a traceback where one is away.
    requires_system_checks = ("gestore_sync_settings",)

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--root",
            nargs="+",
            action="extend",
            default=[],
            metavar="OBJECT",
            help="app.Model.pk; repeatable; without it: what the change log holds",
        )
        parser.add_argument("--source", metavar="ALIAS", help='the database to read (default: "default")')
        parser.add_argument("--remote", metavar="ALIAS", help="the database to write (default: SYNCHRO_REMOTE)")
        parser.add_argument("--on-conflict", choices=POLICIES, help="which side wins (default: newer)")
        parser.add_argument(
            "--prune",
            action="store_true",
            help="delete owned objects that this source put there and no longer has",
        )
        parser.add_argument("--changes", action="store_true", help="of the roots only what the change log holds")
        parser.add_argument("--strict", action="store_true", help="send all that the change log holds, or nothing")
        parser.add_argument(
            "--reconcile",
            action="store_true",
            help="compare everything first, and log what no entry tells of",
        )
        parser.add_argument(
            "--verify", action="store_true", help="compare afterwards what was sent; --move always does"
        )
        parser.add_argument(
            "--move", action="store_true", help="when the roots have arrived, delete them here, after a backup"
        )
        parser.add_argument(
            "--backup", metavar="FILE_DIR_OR_URL", help="where --move writes the bundle (default: exports)"
        )
        parser.add_argument(
            "--commit-every", type=int, metavar="N", help="commit the new objects of the roots in parts of N"
        )
        ways = parser.add_mutually_exclusive_group()
        ways.add_argument("--dry-run", action="store_true", help="show what would be done; write nothing")
        ways.add_argument("--plan", metavar="FILE", help="with --root: only write what would be done into a file")
        ways.add_argument("--apply", metavar="FILE", help="do what such a file says, and nothing else; stands alone")
        add_scope_options(parser)
        add_output_options(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        names = ("source", "remote", "on_conflict", "prune", "changes", "strict", "reconcile", "dry_run")
        given = {name: options[name] for name in (*names, "verify", "move", "backup", "commit_every", "plan", "apply")}
        given["confirm"] = make_confirmation(self, options, options["root"]) if options["move"] else None
        progress = make_progress(self.stderr._out, wanted=options["progress"])
        try:
            report = api.synchronize(options["root"], progress=progress, **given, **get_scope_options(options))
        except GestoreSyncError as error:
            write_report(error.report, self.stdout, options["format"], error=str(error))
            raise CommandError(str(error)) from error
        write_report(report, self.stdout, options["format"])
        if report.failures or report.get_unresolved():
            sys.exit(1)
