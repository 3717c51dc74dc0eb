"""Children of this process: what they do cannot break anything here."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from typing import Any


def start(act: Callable[[], Any]) -> int:
    """Do something in a process of its own; return its number."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        act()
        status = 0
    except BaseException:  # noqa: BLE001 - whatever it is, the child must end here
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def wait(child: int) -> int:
    """How a child has ended: 0, 1 after an error, or the signal that killed it, negative."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
