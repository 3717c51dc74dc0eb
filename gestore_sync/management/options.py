"""Options that several commands take."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.core.management.base import CommandParser

SCOPE = ("own", "refer", "ignore", "stop")


def add_scope_options(parser: CommandParser) -> None:
    """``--reach``, ``--own``, ``--refer``, ``--ignore``, ``--stop``."""
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
        scope.add_argument(f"--{name}", nargs="+", action="extend", default=[], metavar=metavar, help=text)


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
