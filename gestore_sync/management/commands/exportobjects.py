from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from gestore_sync import api
from gestore_sync.exceptions import GestoreSyncError
from gestore_sync.management.options import add_output_options, add_scope_options, get_scope_options
from gestore_sync.terminal import make_progress, write_report


class Command(BaseCommand):
    help = "Write objects with everything that belongs to them into a bundle."
    requires_system_checks = ("gestore_sync_settings",)

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("objects", nargs="*", metavar="OBJECT", help="app.Model.pk, or app.Model.field=value")
        parser.add_argument("-d", "--debug", action="store_true", help="print the document instead of writing it")
        parser.add_argument(
            "-o",
            "--output",
            metavar="FILE_DIR_OR_URL",
            help="a name ending in .json, .json.gz, .tar.gz or .tar.zst, or a folder (default: exports)",
        )
        parser.add_argument(
            "-r",
            "--root",
            nargs="+",
            action="extend",
            default=[],
            metavar="MODEL",
            help="models to stop at: a class name or app.Model",
        )
        parser.add_argument("-b", "--bucket", action="store_true", help="write into the bucket of the settings")
        parser.add_argument("--database", metavar="ALIAS", help='the database to read (default: "default")')
        parser.add_argument("--sign", action="store_true", help="sign the bundle")
        parser.add_argument("--no-files", action="store_false", dest="files", help="leave stored files out")
        add_scope_options(parser, several=False)
        add_output_options(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        given = {name: options[name] for name in ("bucket", "database", "sign", "files", "debug")}
        # What follows -r may be objects, too: their names have a dot more.
        models = [name for name in options["root"] if name.count(".") < 2]
        objects = options["objects"] + [name for name in options["root"] if name.count(".") > 1]
        progress = make_progress(self.stderr._out, wanted=options["progress"])
        try:
            report = api.export_objects(
                objects,
                options["output"],
                stop_at=models,
                progress=progress,
                **given,
                **get_scope_options(options),
            )
        except GestoreSyncError as error:
            write_report(error.report, self.stdout, options["format"], error=str(error))
            raise CommandError(str(error)) from error
        if options["debug"] and options["format"] == "text":
            self.stdout.write(report.document, ending="")
            return
        write_report(report, self.stdout, options["format"])
