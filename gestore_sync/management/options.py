"""Options that several commands take."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.utils.translation import gettext as _

from gestore_sync.exceptions import NotConfirmed
from gestore_sync.plan import Report
from gestore_sync.terminal import ask, write_report

SCOPE = ("own", "refer", "ignore", "stop")


def add_scope_options(parser: CommandParser, *, several: bool = True) -> None:
    """``--reach``, ``--own``, ``--refer``, ``--ignore``, ``--stop``. ``several``: names after one flag; not where
    objects follow the flags."""
    scope = parser.add_argument_group("what is taken", "LINK is app.Model.field of the model that declares the field")
    scope.add_argument(
        "--reach",
        choices=("owned", "connected"),
        help="connected: follow links back from referred objects too",
    )
    texts = {
        "own": ("LINK", "take what the link leads to as its own, with its parts"),
        "refer": ("LINK", "take what the link leads to without its parts"),
        "ignore": ("LINK_OR_MODEL", "do not follow the link, or leave the model out"),
        "stop": ("MODEL", "follow nothing from objects of the model but what they require"),
    }
    for name, (metavar, text) in texts.items():
        nargs: Any = {"nargs": "+", "action": "extend"} if several else {"action": "append"}
        scope.add_argument(f"--{name}", **nargs, default=[], metavar=metavar, help=text)


def get_scope_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """The scope options as keyword arguments of the api."""
    return {name: options[name] for name in (*SCOPE, "reach")}


def add_output_options(parser: CommandParser) -> None:
    """``--format``, ``--no-progress``, ``--noinput``."""
    parser.add_argument(
        "--format", choices=("text", "json"), default="text", help="json: one object on standard output"
    )
    parser.add_argument("--no-progress", action="store_false", dest="progress", help="show no progress bars")
    parser.add_argument("--noinput", "--no-input", action="store_false", dest="interactive", help="ask nothing")


def confirm(command: BaseCommand, question: str, answer: str) -> None:
    """Let a person type ``answer``. Raises :class:`NotConfirmed` for something else, and where nobody can."""
    text = f"{question}\n" + _("Type %(answer)s to go on: ") % {"answer": answer}
    given = ask(text, command.stderr._out)
    if given is None:
        raise NotConfirmed(f"{question} " + _("Nobody can confirm it here: run with --noinput. Nothing was written."))
    if given != answer:
        raise NotConfirmed(_("It was not confirmed. Nothing was written."))


def make_confirmation(
    command: BaseCommand, options: Mapping[str, Any], objects: Sequence[str]
) -> Callable[[Report], bool] | None:
    """What shows a deletion and lets a person confirm it with the names of ``objects``; None where nobody is asked."""
    if not options["interactive"]:
        return None

    def confirm_deletion(report: Report) -> bool:
        write_report(report, command.stderr if options["format"] == "json" else command.stdout, "text")
        wanted = " ".join(objects)
        answer = ask(_("Type %(objects)s to delete all of this: ") % {"objects": wanted}, command.stderr._out)
        if answer is None:
            raise NotConfirmed(_("Nothing was deleted: nobody can confirm it here. Run with --noinput."))
        return answer == wanted

    return confirm_deletion
