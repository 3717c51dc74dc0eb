from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

import gestore_sync
from gestore_sync import api

PACKAGE = Path(gestore_sync.__file__).resolve().parent
MAX_LINES = 300

# The rooms from the ground up, those of one line side by side: a module imports only from rooms on lines
# above its own. A folder with a star stands for all its modules that are not named themselves.
ROOMS: tuple[tuple[str, ...], ...] = (
    ("exceptions",),
    ("conf", "progress", "fields", "checkpoint", "spools", "repeating", "tuning"),
    ("policies",),
    ("drafts",),
    ("locations", "signatures"),  # where files go; who wrote them
    ("buckets",),
    ("refs", "digests"),  # which object; a fingerprint of its values
    ("paths", "probes", "keysets"),
    ("keytexts", "recall"),  # keys as texts; mappings as a run knows them
    ("keyreading",),
    ("natural", "models"),  # NaturalManager, NaturalKeyModel; our tables
    ("identity", "adapters"),  # what identifies an object; what trees need
    ("links",),  # how models point at each other
    ("valuekinds",),
    ("codecs",),  # values as JSON
    ("scope", "ordering", "watching"),  # what to follow, refer to, leave out; which model comes first; what is logged
    ("frontier",),
    ("unreadable",),  # values that no field reads
    ("databases", "reading", "transactions", "schema"),  # everything that asks a database
    ("batches", "deliveries"),  # rows in lists; which remotes have which entries
    ("generic", "changelog", "disabling", "children"),  # the change log, as it is read
    ("recording",),  # and written
    ("muting", "captures"),
    ("entrysql",),
    ("triggersql",),
    ("triggers",),
    ("querysets", "background", "deletionsql"),  # what logs many rows at once; what is done beside
    ("imprints", "equality"),  # what stands for a whole row; which values are equal
    ("subgraph", "plan", "translation", "manifests"),  # the waist; links rewritten; what a bundle says of itself
    ("rendering", "columnvalues"),
    ("records", "privileges"),  # objects of a bundle; fields that give power
    ("bundles.streams", "bundles.parts"),
    ("bundles.documents",),
    ("bundles.archives", "bundles.signing"),
    ("bundles",),  # subgraph ⇄ file
    ("media", "staging"),  # stored files; the database of an import
    ("layouts", "origins", "parking", "failures"),
    ("lostvalues",),
    ("writers.portable", "writers.copytext"),
    ("writers.*",),
    ("writers",),
    ("mappingcolumns",),  # mappings as they are written
    ("thirdsites",),  # what both sides have from others
    ("mappings",),
    ("holding",),  # rows of the target that stand for an object
    ("runs", "journal", "columns", "recognition"),  # …; rows that are as they were left
    ("memberintakes",),
    ("intakes",),
    ("loading",),  # records → staged rows
    ("adapters.trees",),
    ("adapters.nested", "adapters.materialized"),
    ("adapters.*",),
    ("mentions", "hanging", "locators", "comparison", "constraints", "times"),
    ("asking", "verdicts"),  # …; whether rows go whose object the source no longer has
    ("excerpts",),  # values for people
    ("walker", "lookup", "tombstones"),  # root → subgraph; ref → counterpart; deletion → row
    ("rebirths",),  # keys that were deleted and added again
    ("squashing", "deciding"),  # change log → changes; what becomes of rows on both sides
    ("needs", "places", "removals", "clashes", "circles", "references", "linkedvalues"),
    ("incoming",),  # who is who in an import
    ("narration", "orphans", "keeping"),  # …; values that lose a conflict
    ("dooming",),  # what a deletion would do
    ("planner",),  # subgraph → plan
    ("planlines",),  # the operations of a plan, for people
    ("planfiles", "narrowing"),  # plan ⇄ file; a plan without what a person took out
    ("differing",),  # two databases → differences
    ("exporting",),
    ("reservation", "sending", "trees"),
    ("inserting", "rows", "deferral"),
    ("creating",),  # new rows, with what is kept of them
    ("executor",),  # plan → rows
    ("parts",),  # plan → rows, part by part
    ("gathering", "ledger", "pushing"),  # what changes need; what both sides know of runs; a push of roots
    ("replaying", "resetting", "verifying"),  # a push of the change log; has a push brought everything
    ("reconciling", "naming"),
    ("overview",),
    ("starting",),  # the objects that were named
    ("planned",),  # file → rows
    ("receivers",),  # Django signals → change log
    ("deletionlog",),
    ("settling",),  # values that lost a conflict, restored
    ("settlements",),
    ("news",),
    ("reattaching",),  # links from outside that a restore sets again
    ("importplans", "retracing"),
    ("importing",),  # bundle → rows
    ("erasing", "discarding"),  # rows that go; their files
    ("deleting",),
    ("handover",),  # what a move tells the target
    ("moving",),  # a push, and a deletion of what has arrived
    ("api", "terminal"),  # the front door; how it is shown
    ("undecided",),  # what nobody has decided in the settings
    ("checks", "exportadmin", "management.options", "migrations.*", "views"),
    ("apps", "management.commands.*", "", "admin", "urls"),
    ("core",),  # the package under the name that django-synchro's users know
)

# The rooms that write rows, and those that may ask a writer to.
# Triggers are SQL: what these execute are texts of their own.
WRITING = (
    *("muting", "triggers", "deletionsql"),
    *("executor", "creating", "erasing", "discarding", "mappings", "origins", "writers", "writers.*"),
    *("staging", "intakes", "importplans", "media", "handover"),  # staged rows; stored files; what was moved
    *("changelog", "deliveries", "checkpoint", "ledger"),  # our own tables
    *("runs", "querysets", "recording", "resetting"),
)
USING_WRITERS = (*WRITING, "rows", "keeping", "settling", "deletionlog", "adapters.trees", "reservation", "journal")

# What commands are made of: whole modules, or single names.
FRONT_DOOR = ("api", "conf", "exceptions", "management.options", "terminal")
FRONT_DOOR_NAMES = (("comparison", "POLICIES"), ("plan", "Report"))
# Who asks at it.
AT_THE_DOOR = ("management.", "views", "exportadmin")

ORM_WRITES = frozenset(
    {
        "save",
        "save_base",
        "create",
        "get_or_create",
        "update_or_create",
        "bulk_create",
        "bulk_update",
        "delete",
    }
    | {"asave", "acreate", "aget_or_create", "aupdate_or_create", "abulk_create", "abulk_update", "adelete"}
    | {"aupdate", "_raw_delete", "_update", "executemany", "copy_expert", "executescript"}
)
READING_SQL = ("SELECT", "SET TRANSACTION", "LOCK TABLE", "PRAGMA", "EXPLAIN", "SHOW")
RUNS_DATA = frozenset({"eval", "exec", "compile", "__import__"})
LOADS_OBJECTS = frozenset({"pickle", "marshal", "shelve", "dill", "cloudpickle", "yaml", "jsonpickle"})
# A plan's own temporary file, which has no name and is closed with the plan.
MAY_PICKLE = ("spools",)


def find_modules() -> dict[str, Path]:
    """All modules by their name inside the package; "" is the package itself."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = find_modules()
EMPTY = {name for name, path in MODULES.items() if not path.read_text().strip()}
every_module = pytest.mark.parametrize("module", [name for name in MODULES if name not in EMPTY])


def parse(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text())


def is_in(module: str, rooms: Iterable[str]) -> bool:
    return any(module == room or (room.endswith(".*") and module.startswith(room[:-1])) for room in rooms)


def find_line(module: str) -> int | None:
    """The number of the line on which a module's room is; its own name counts before a star."""
    for wanted in (lambda room: room == module, lambda room: is_in(module, [room])):
        for number, rooms in enumerate(ROOMS):
            if any(wanted(room) for room in rooms):
                return number
    return None


def iter_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those under ``if TYPE_CHECKING``, which are never run."""
    yield tree
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            continue
        yield from iter_nodes(child)


def iter_imports(tree: ast.AST) -> Iterator[tuple[str, str | None]]:
    """``(module inside the package, name imported from it)`` of all imports, those in functions included."""
    for node in iter_nodes(tree):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            head, _, inside = (node.module or "").partition(".")
            for alias in node.names if head == "gestore_sync" else ():
                submodule = f"{inside}.{alias.name}".lstrip(".")
                yield (submodule, None) if submodule in MODULES else (inside, alias.name)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                head, _, inside = alias.name.partition(".")
                if head == "gestore_sync":
                    yield inside, None


def find_upward_imports(module: str, tree: ast.AST) -> list[str]:
    own = find_line(module)
    assert own is not None
    found = dict.fromkeys(name for name, _ in iter_imports(tree))
    return [name for name in found if (line := find_line(name)) is None or line >= own]


def find_calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    for node in iter_nodes(tree):
        if isinstance(node, ast.Call):
            function = node.func
            name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
            yield name, node


def find_writes(tree: ast.Module) -> list[str]:
    """The calls that write rows. ``update`` is one where all is named: dictionaries take it otherwise."""
    texts = {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    found = []
    for name, call in find_calls(tree):
        is_update = name == "update" and isinstance(call.func, ast.Attribute) and not call.args and call.keywords
        if (
            is_update
            or (name in ORM_WRITES and isinstance(call.func, ast.Attribute))
            or (name == "execute" and not is_reading(call.args[0], texts))
            or (name == "copy" and call.args and isinstance(call.args[0], (ast.JoinedStr, ast.Constant)))
        ):
            found.append(ast.unparse(call))
    return found


def is_reading(sql: ast.expr, texts: dict[str, ast.expr]) -> bool:
    """Whether the beginning of a statement is known and reads only."""
    if isinstance(sql, ast.Name) and sql.id in texts:
        sql = texts[sql.id]
    if isinstance(sql, ast.JoinedStr) and sql.values:
        sql = sql.values[0]
    return isinstance(sql, ast.Constant) and str(sql.value).strip().upper().startswith(READING_SQL)


def find_blind_handlers(tree: ast.AST) -> list[str]:
    """Handlers of every exception that do not end by raising one."""
    found = []
    for node in iter_nodes(tree):
        if isinstance(node, ast.ExceptHandler):
            caught = (
                {"everything"}
                if node.type is None
                else {part.id for part in ast.walk(node.type) if isinstance(part, ast.Name)}
            )
            if caught & {"everything", "Exception", "BaseException"} and not isinstance(node.body[-1], ast.Raise):
                found.append(f"line {node.lineno}")
    return found


def find_foreign_code(tree: ast.AST) -> list[str]:
    """What runs text as a program, or makes any objects at all of data."""
    found = [
        ast.unparse(call) for name, call in find_calls(tree) if name in RUNS_DATA and isinstance(call.func, ast.Name)
    ]
    for node in iter_nodes(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        found += [name for name in names if name.partition(".")[0] in LOADS_OBJECTS]
    return found


# Layers


def test_every_module_has_a_room_and_every_room_a_module() -> None:
    rooms = [room for line in ROOMS for room in line]

    assert len(rooms) == len(set(rooms))
    assert [name for name in MODULES if name not in EMPTY and find_line(name) is None] == []
    assert [room for room in rooms if not any(is_in(name, [room]) for name in MODULES)] == []


@every_module
def test_a_module_imports_only_from_rooms_above_its_own(module: str) -> None:
    assert find_upward_imports(module, parse(module)) == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from gestore_sync.planner import Planner", ["planner"]),
        ("import gestore_sync.executor", ["executor"]),
        ("from gestore_sync import api", ["api"]),
        ("from gestore_sync import NaturalManager", [""]),
        ("from gestore_sync.lookup import Lookup", ["lookup"]),
        ("def late():\n    from gestore_sync.executor import Executor", ["executor"]),
        ("from gestore_sync.nowhere import Nothing", ["nowhere"]),
        ("from gestore_sync.links import Link\nfrom gestore_sync import conf", []),
        ("if TYPE_CHECKING:\n    from gestore_sync.plan import Report", []),
    ],
)
def test_the_rule_about_layers_sees_an_import_that_points_up(source: str, found: list[str]) -> None:
    assert find_upward_imports("lookup", ast.parse(source)) == found


# The front door


@pytest.mark.parametrize("module", [name for name in MODULES if name.startswith("management.") and name not in EMPTY])
def test_commands_come_in_by_the_front_door(module: str) -> None:
    found = [
        (name, what)
        for name, what in iter_imports(parse(module))
        if name not in FRONT_DOOR and (name, what) not in FRONT_DOOR_NAMES
    ]

    assert found == []


@pytest.mark.parametrize("module", [name for name in MODULES if not name.startswith(AT_THE_DOOR)])
def test_nothing_within_asks_at_the_front_door(module: str) -> None:
    assert not {name for name, _ in iter_imports(parse(module))} & {"api", "terminal"}


def test_the_package_can_be_imported_before_there_is_django() -> None:
    code = "import gestore_sync, sys; print(*sorted(name.split('.')[0] for name in sys.modules))"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert "gestore_sync" in done.stdout.split()
    assert "django" not in done.stdout.split()


@pytest.mark.parametrize("name", gestore_sync.__all__)
def test_every_public_name_is_there_and_says_what_it_is(name: str) -> None:
    assert name in dir(gestore_sync)
    assert getattr(gestore_sync, name).__doc__


@pytest.mark.parametrize("name", api.__all__)
def test_every_function_of_the_front_door_says_what_it_does(name: str) -> None:
    assert getattr(api, name).__doc__


def test_a_name_that_is_not_public_is_an_attribute_error() -> None:
    missing: Any = gestore_sync

    with pytest.raises(AttributeError, match="has no attribute 'Executor'"):
        missing.Executor


# Who writes


@pytest.mark.parametrize("module", [name for name in MODULES if not is_in(name, WRITING)])
def test_only_the_writing_rooms_write(module: str) -> None:
    assert find_writes(parse(module)) == []


@pytest.mark.parametrize("module", [name for name in MODULES if not is_in(name, USING_WRITERS)])
def test_only_those_who_may_ask_for_a_writer(module: str) -> None:
    assert [name for name, _ in iter_imports(parse(module)) if is_in(name, ["writers", "writers.*"])] == []


@pytest.mark.parametrize(
    "source",
    [
        "row.save()",
        "Row.objects.create(name='a')",
        "rows.filter(pk=1).update(name='a')",
        "rows.delete()",
        "Row.objects.bulk_create(rows)",
        "rows._raw_delete(using)",
        "cursor.executemany('SELECT', rows)",
        "cursor.execute('DELETE FROM rows')",
        "cursor.execute(f'UPDATE {table} SET name = 1')",
        "cursor.execute(f'{verb} FROM rows')",
        "SQL = 'INSERT INTO rows'\ncursor.execute(SQL)",
        "cursor.execute(sql)",
        "cursor.copy(f'COPY {table} FROM STDIN')",
        "def late():\n    row.save()",
    ],
)
def test_the_rule_about_writing_sees_what_writes(source: str) -> None:
    assert find_writes(ast.parse(source))


@pytest.mark.parametrize(
    "source",
    [
        "known.update(dict.fromkeys(new))",
        "cursor.execute(' select 1')",
        "cursor.execute(f'SELECT name FROM {table}')",
        "SQL = '\\n  SELECT 1'\ncursor.execute(SQL)",
        "copy.copy(manager)",
    ],
)
def test_the_rule_about_writing_leaves_the_rest_alone(source: str) -> None:
    assert find_writes(ast.parse(source)) == []


# How it is written


@every_module
def test_annotations_are_not_evaluated(module: str) -> None:
    assert "from __future__ import annotations" in MODULES[module].read_text().splitlines()


@every_module
def test_no_data_is_run_or_made_into_any_object(module: str) -> None:
    allowed = ["pickle"] if module in MAY_PICKLE else []

    assert find_foreign_code(parse(module)) == allowed


@pytest.mark.parametrize("source", ["eval(text)", "exec(text)", "import pickle", "from yaml import load"])
def test_the_rule_about_data_sees_what_runs_it(source: str) -> None:
    assert find_foreign_code(ast.parse(source))


@every_module
def test_nothing_is_swallowed(module: str) -> None:
    assert find_blind_handlers(parse(module)) == []


@pytest.mark.parametrize(
    ("handler", "is_blind"),
    [
        ("except Exception:\n    pass", True),
        ("except:\n    pass", True),
        ("except (ValueError, BaseException) as error:\n    print(error)", True),
        ("except Exception as error:\n    raise Wrong from error", False),
        ("except ValueError:\n    pass", False),
    ],
)
def test_the_rule_about_exceptions_sees_what_swallows_them(handler: str, is_blind: bool) -> None:
    assert bool(find_blind_handlers(ast.parse(f"try:\n    work()\n{handler}"))) is is_blind


@every_module
def test_a_module_is_not_too_long(module: str) -> None:
    lines = len(MODULES[module].read_text().splitlines())

    assert lines <= MAX_LINES
