from __future__ import annotations

import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils.translation import gettext as _

from gestore_sync import api
from gestore_sync.exceptions import GestoreSyncError
from gestore_sync.management.options import add_output_options, confirm
from gestore_sync.terminal import make_progress, write_report


class Command(BaseCommand):
    help = "Take in the objects of a bundle: all or nothing."
    requires_system_checks = ("gestore_sync_settings",)

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("path", metavar="FILE_OR_URL")
        parser.add_argument("-d", "--debug", action="store_true", help="show what would be done; write nothing")
        parser.add_argument("-o", "--override", action="store_true", help="the same as --on-conflict override")
        parser.add_argument(
            "--on-conflict", choices=api.IMPORT_POLICIES, default="fail", help="what becomes of rows that differ"
        )
        parser.add_argument("--database", metavar="ALIAS", help='the database to write (default: "default")')
        parser.add_argument(
            "-i", "--ignorenonexistent", action="store_true", help="leave out models and fields that do not exist here"
        )
        parser.add_argument("-b", "--bucket", action="store_true", help="read from the bucket of the settings")
        parser.add_argument("--verify", action="store_true", help="refuse bundles without a valid signature")
        parser.add_argument("--allow-privileged", action="store_true", help="take in rights and protected fields too")
        add_output_options(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        names = ("database", "ignorenonexistent", "bucket", "verify", "allow_privileged", "debug")
        given = {name: options[name] for name in names}
        policy = "override" if options["override"] else options["on_conflict"]
        try:
            if policy == "override" and options["interactive"] and not options["debug"]:
                confirm(self, _("Rows that differ will be overwritten with those of the file."), "yes")
            progress = make_progress(self.stderr._out, wanted=options["progress"])
            report = api.import_objects(options["path"], on_conflict=policy, progress=progress, **given)
        except GestoreSyncError as error:
            write_report(error.report, self.stdout, options["format"], error=str(error))
            raise CommandError(str(error)) from error
        write_report(report, self.stdout, options["format"])
        if report.get_unresolved():
            sys.exit(1)
