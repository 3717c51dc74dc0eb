from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
NOT_SOURCE = (".git", ".venv", ".matrix", ".*_cache", "__pycache__", "*.egg-info", "build", "data", "dist")
OF_THE_TESTS = ("DJANGO_", "PYTHON", "POSTGRES_URL")

SETTINGS = """
SECRET_KEY = "a site of somebody else"
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "dbsettings",
    "gestore_sync",
]
DATABASES = {
    "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "local.sqlite3"},
    "remote": {"ENGINE": "django.db.backends.sqlite3", "NAME": "remote.sqlite3"},
}
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
DBSETTINGS_USE_SITES = False
SYNCHRO_REMOTE = "remote"
"""

CREATE_GROUP = "from django.contrib.auth.models import Group; Group.objects.create(pk=7, name='editors')"
PRINT_GROUPS = "from django.contrib.auth.models import Group; print(*Group.objects.using('remote').values_list('name'))"


class Site:
    """A Django project in an environment of its own, where one artefact and what it requires is installed."""

    def __init__(self, folder: Path, artefact: Path) -> None:
        self.folder = folder / "site"
        self.folder.mkdir()
        (self.folder / "site_settings.py").write_text(SETTINGS)
        environment = folder / "environment"
        venv.create(environment, symlinks=True)
        self.python = environment / "bin" / "python"
        run(sys.executable, "-m", "pip", "--python", self.python, "install", "--quiet", artefact, cwd=folder)

    def manage(self, *arguments: str) -> str:
        return run(self.python, "-m", "django", *arguments, "--settings=site_settings", cwd=self.folder)


def run(*command: str | Path, cwd: Path) -> str:
    """Return the standard output of a command; its errors are the test's."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(OF_THE_TESTS)}
    arguments = [str(part) for part in command]
    done = subprocess.run(arguments, cwd=cwd, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def assert_runs(site: Site) -> None:
    """The installed package checks out, migrates two databases and pushes an object from one to the other."""
    site.manage("check", "--fail-level=WARNING")
    site.manage("makemigrations", "--check", "gestore_sync")
    site.manage("migrate", "--database=default")
    site.manage("migrate", "--database=remote")
    site.manage("shell", "--command", CREATE_GROUP)

    assert "--root" in site.manage("synchronize", "--help")
    assert "Synchronization performed successfully." in site.manage("synchronize", "--root", "auth.Group.7")
    assert "editors" in site.manage("shell", "--command", PRINT_GROUPS)


def package_files() -> set[str]:
    """The names of all files that the package consists of, relative to the repository."""
    return {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "gestore_sync").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.fixture(scope="module")
def artefacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and with the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("packaging")
    shutil.copytree(ROOT, folder / "source", ignore=shutil.ignore_patterns(*NOT_SOURCE))
    run(sys.executable, "-m", "build", "--outdir", folder / "dist", folder / "source", cwd=folder)
    return folder / "dist"


def test_wheel_holds_the_whole_package_alone_and_runs_in_an_empty_environment(artefacts: Path, tmp_path: Path) -> None:
    [wheel] = artefacts.glob("*.whl")

    site = Site(tmp_path, wheel)

    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert "gestore_sync/py.typed" in names
    assert names == package_files()
    assert_runs(site)


def test_sdist_holds_package_tests_and_project_and_runs_in_an_empty_environment(
    artefacts: Path, tmp_path: Path
) -> None:
    [sdist] = artefacts.glob("*.tar.gz")

    site = Site(tmp_path, sdist)

    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert package_files() <= names
    assert {"tests/settings.py", "testproject/manage.py", "Makefile", "README.rst", "LICENSE"} <= names
    assert_runs(site)
