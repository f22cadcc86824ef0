"""The picture of who may import what, held against the code by parsing its imports.

`archiver/__init__.py` and `receiver/__init__.py` are the picture for people; `FLOORS` is the same for this test.
"""

import ast
import graphlib
import pathlib
import re
import subprocess
import sys
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterator

import pytest

import archiver
import receiver
from tests.harness.repository import ROOT

FLOORS = (
    # From the top down. A room imports rooms of lower floors only; rooms that share a floor do not know each other.
    {"receiver", "commands"},
    {"composition"},
    {"config"},
    {"audit"},
    {"engine"},
    {"archive", "sweep", "alerts", "forward"},
    {"webhooks"},
    {"verify", "create", "fetch"},
    {"record"},
    {"leases", "problems"},
    {"ledger"},
    {"kling", "store", "media"},
    {"pulses"},
    {"families", "metrics", "log"},
    {"failures", "redaction", "loglines"},
    {"clock", "ending", "lookups", "model", "phrases", "times", "version"},
)
FLOOR_OF = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}

MODULES_MAX = 16
"""In one folder of sources: more cannot be taken in at a glance."""

LEDGER = r"archiver/ledger/.*"
ENTRIES = r"(archiver|receiver)/__main__\.py"
STORE = r"archiver/store/.*"
CONFIG = r"archiver/config/.*"
WIRING = r"archiver/composition/.*|receiver/(daemon|parts)\.py"
"""Turns settings into objects for the entry points."""
COMMANDS = r"archiver/__main__\.py|archiver/commands/.*"

OWNERS = {
    # Every third-party package that the code may import, and the only files that may.
    "alembic": LEDGER,
    "boto3": STORE,
    "botocore": STORE,
    "httpcore2": (
        r"archiver/(fetch|webhooks)/.*|archiver/store/(inspected_streams|object_(bodies|streams)|(socket|tls)_streams)\.py"
        r"|receiver/gateway/(api_streams|connections|received|upstream)\.py"
    ),
    "httptools": r"receiver/server/.*",
    "httpx2": r"archiver/kling/.*",
    "idna": r"archiver/fetch/urls\.py",
    "jinja2": r"receiver/.*",
    "jwt": r"archiver/kling/.*",
    "psycopg": r"archiver/ledger/databases/.*",
    "markupsafe": r"receiver/console/.*",
    "mypy_boto3_s3": STORE,
    "prometheus_client": r"archiver/metrics/.*",
    "pydantic": CONFIG,
    "rich": COMMANDS,
    "sqlalchemy": LEDGER,
    "sqlite3": LEDGER,
    "standardwebhooks": r"receiver/callbacks/.*|archiver/webhooks/.*",
    "starlette": r"receiver/.*",
    "structlog": r"archiver/log\.py",
    "typer": COMMANDS,
    "urllib3": STORE,
    "uvicorn": r"receiver/.*",
}
"""`sqlite3` is the standard library's, but SQL all the same."""

WORKS_WITH_THE_EDGE = r"archiver/commands/work\.py"
"""The one command that is a daemon: it serves HTTP, which is the edge's."""

NAMED_OTHERWISE = {"jwt": "pyjwt"}
COMES_WITH = {
    "botocore": "boto3",
    "markupsafe": "jinja2",
    "urllib3": "boto3",
    "mypy_boto3_s3": "boto3-stubs[s3]",
    "psycopg": "psycopg[binary]",
}
"""Imported packages that another requirement brings along, because they are part of its API."""
ONLY_FOR_TYPES = {"boto3-stubs[s3]"}
NOT_IMPORTED = {
    "h11": "httpcore2's own; bounded, because the wording of its errors is read",
    "uvloop": "uvicorn takes it where it is installed",
}
"""Requirements that no code imports, and why they stand there."""


def sources() -> list[pathlib.Path]:
    return [path for package in ("archiver", "receiver") for path in sorted((ROOT / package).rglob("*.py"))]


def place(path: pathlib.Path) -> str:
    """A file's path from the root, with slashes."""
    return path.relative_to(ROOT).as_posix()


def imported(tree: ast.AST) -> Iterator[str]:
    """Every module that the code imports, full name; of ``from a import b`` also `a.b`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def room_of(module: str) -> str | None:
    """The room that a module, or a file's path, is in; None for the two entry points, the maps and what is not ours."""
    first, *rest = module.removesuffix(".py").replace("/", ".").split(".")
    if first == "receiver":
        return "receiver"
    if first != "archiver" or not rest or rest[0] in {"__main__", "__init__"}:
        return None
    return rest[0] if rest[0] in FLOOR_OF or rest[0].islower() else None


def violations(where: str, source: str) -> set[str]:
    """What in this file contradicts the picture; `where` is its path from the root, with slashes."""
    tree = ast.parse(source)
    found = set()
    for module in imported(tree):
        found |= set(_misplaced(where, module))
    if not re.fullmatch(ENTRIES, where) and _reads_environment(tree):
        found.add("reads os.environ")
    return found


def _misplaced(where: str, module: str) -> Iterator[str]:
    top = module.partition(".")[0]
    if module.startswith("."):
        yield f"imports {module} relatively"
    elif where.startswith("archiver/") and top == "receiver":
        if not re.fullmatch(WORKS_WITH_THE_EDGE, where):
            yield "imports receiver"
    elif module.startswith("tests"):
        yield "imports tests"
    elif module in {"urllib.request", "http.server"}:
        yield f"imports {module}"
    elif module.startswith("archiver.config") and not re.fullmatch(
        f"{CONFIG}|{ENTRIES}|{WIRING}|{COMMANDS}", where
    ):
        yield "imports archiver.config"
    elif not _may_import(where, top):
        yield f"imports {top}"
    elif _climbs(where, module):
        yield f"imports {module}, which is not on a floor below {room_of(where)}"


def _may_import(where: str, top: str) -> bool:
    if top in OWNERS:
        return bool(re.fullmatch(OWNERS[top], where))
    return top in sys.stdlib_module_names | {"archiver", "receiver"}


def _climbs(where: str, module: str) -> bool:
    """Whether the import leads to the same floor or up. A room's own files are judged by `circles`."""
    here, there = room_of(where), room_of(module)
    if here is None or there is None or here == there:
        return False
    if there not in FLOOR_OF:
        return module.count(".") == 1  # a room without a floor; deeper names may be a module's own
    return FLOOR_OF[there] <= FLOOR_OF[here]


def _reads_environment(tree: ast.AST) -> bool:
    names = {"environ", "environb", "getenv", "getenvb", "putenv"}
    return any(
        (isinstance(node, ast.Attribute) and node.attr in names)
        or (isinstance(node, ast.ImportFrom) and node.module == "os" and names & {a.name for a in node.names})
        for node in ast.walk(tree)
    )


def circle(files: dict[str, str]) -> list[str]:
    """The paths of files that import each other in a circle, if there are any. `files` are sources by path."""
    paths = {path.removesuffix(".py").removesuffix("/__init__").replace("/", "."): path for path in files}
    graph: defaultdict[str, set[str]] = defaultdict(set)
    for path, source in files.items():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [f"{node.module}.{alias.name}" for alias in node.names]
                modules = [name if name in paths else node.module for name in names]
            elif isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            else:
                continue
            graph[path] |= {paths[module] for module in modules if module in paths} - {path}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def test_the_code_keeps_to_the_picture() -> None:
    found = {
        (place(path), violation)
        for path in sources()
        for violation in violations(place(path), path.read_text())
    }

    assert found == set()


def test_no_two_files_import_each_other() -> None:
    assert circle({place(path): path.read_text() for path in sources()}) == []


def test_a_circle_is_found_and_named() -> None:
    files = {
        "archiver/ledger/claims.py": "from archiver.ledger import holds",
        "archiver/ledger/holds.py": "from archiver.ledger.rows import row",
        "archiver/ledger/rows.py": "import archiver.ledger.claims",
    }

    assert set(circle(files)) == set(files)
    assert circle(files | {"archiver/ledger/rows.py": "import archiver.model"}) == []


def _rooms_in(folder: pathlib.Path) -> set[str]:
    """Modules and packages; a README, pictures and `py.typed` are neither."""
    found = [path for path in folder.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()]
    return {path.stem for path in found if not path.name.startswith(("_", "."))}


def test_every_room_has_a_floor_and_stands_in_the_map() -> None:
    rooms = _rooms_in(ROOT / "archiver")
    described = set(re.findall(r"^    ([a-z]+)  ", archiver.__doc__ or "", re.MULTILINE))

    assert rooms == set(FLOOR_OF) - {"receiver"}
    assert described == rooms


def test_every_room_of_the_edge_stands_in_its_map() -> None:
    rooms = _rooms_in(ROOT / "receiver") | {"__main__"}
    described = set(re.findall(r"^    ([a-z_, ]+?)  ", receiver.__doc__ or "", re.MULTILINE))

    assert {room for rooms in described for room in rooms.split(", ")} == rooms


def test_no_folder_of_sources_has_more_modules_than_can_be_taken_in_at_a_glance() -> None:
    """Revisions of the ledger only become more: each is written once and read on its own."""
    sizes = Counter(path.parent for path in sources() if path.name != "__init__.py")
    sizes.pop(ROOT / "archiver/ledger/migrations/versions")

    assert {place(folder): size for folder, size in sizes.items() if size > MODULES_MAX} == {}


def test_no_two_revisions_of_the_ledger_bear_one_number() -> None:
    folder = ROOT / "archiver/ledger/migrations/versions"
    numbers = Counter(path.name.split("_")[0] for path in folder.glob("0*.py"))

    assert [number for number, count in numbers.items() if count > 1] == []


def test_no_two_public_classes_bear_one_name() -> None:
    defined = [
        (node.name, place(path))
        for path in sources()
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    ]
    counts = Counter(name for name, _ in defined)

    assert [(name, where) for name, where in defined if counts[name] > 1] == []


def test_no_test_file_imports_another() -> None:
    found = {
        (place(path), module)
        for path in sorted((ROOT / "tests").rglob("test_*.py"))
        for module in imported(ast.parse(path.read_text()))
        if re.search(r"^tests\.(.*\.)?test_\w+$", module)
    }

    assert found == set()


@pytest.mark.parametrize(
    ("where", "source", "violation"),
    [
        ("archiver/sweep/stage.py", "from receiver import app", "imports receiver"),
        ("archiver/sweep/stage.py", "def f():\n    import receiver.app", "imports receiver"),
        ("archiver/archive/stage.py", "import boto3.session", "imports boto3"),
        ("archiver/archive/stage.py", "from botocore.client import Config", "imports botocore"),
        ("receiver/app.py", "import sqlite3", "imports sqlite3"),
        ("archiver/verify/stage.py", "import sqlalchemy as sa", "imports sqlalchemy"),
        ("archiver/store/s3.py", "import jwt", "imports jwt"),
        ("archiver/engine/worker.py", "import httpx2", "imports httpx2"),
        ("archiver/kling/client.py", "import httpcore2", "imports httpcore2"),
        ("archiver/engine/worker.py", "import starlette", "imports starlette"),
        ("receiver/app.py", "import prometheus_client", "imports prometheus_client"),
        ("receiver/app.py", "import structlog", "imports structlog"),
        ("archiver/log.py", "import pydantic", "imports pydantic"),
        ("archiver/engine/upkeep.py", "import typer", "imports typer"),
        ("archiver/kling/client.py", "import requests", "imports requests"),
        ("archiver/kling/client.py", "from urllib import request", "imports urllib.request"),
        ("archiver/engine/worker.py", "from archiver import config", "imports archiver.config"),
        (
            "archiver/engine/worker.py",
            "from archiver.config.settings import Settings",
            "imports archiver.config",
        ),
        ("archiver/engine/worker.py", "from . import kling", "imports . relatively"),
        ("archiver/log.py", "import os\nos.environ['X']", "reads os.environ"),
        ("archiver/log.py", "from os import getenv", "reads os.environ"),
        ("receiver/app.py", "from tests import simulator", "imports tests"),
        (
            "archiver/archive/stage.py",
            "from archiver.engine.pools import PrestartedPool",
            "imports archiver.engine.pools, which is not on a floor below archive",
        ),
        (
            "archiver/sweep/stage.py",
            "from archiver.archive import manifest",
            "imports archiver.archive, which is not on a floor below sweep",
        ),
        (
            "archiver/model/states.py",
            "from archiver import failures",
            "imports archiver.failures, which is not on a floor below model",
        ),
        (
            "archiver/fetch/fetcher.py",
            "import archiver.novelty",
            "imports archiver.novelty, which is not on a floor below fetch",
        ),
    ],
)
def test_a_file_that_leaves_the_picture_is_noticed(where: str, source: str, violation: str) -> None:
    assert violation in violations(where, source)


@pytest.mark.parametrize(
    ("where", "source"),
    [
        ("archiver/store/s3.py", "import boto3\nfrom archiver import failures"),
        ("archiver/ledger/claims/claims.py", "import sqlalchemy as sa"),
        ("archiver/ledger/migrations/versions/0001_first.py", "from alembic import op"),
        ("receiver/__main__.py", "import os\nfrom archiver import config\nos.environ"),
        ("archiver/__main__.py", "import typer"),
        (
            "archiver/archive/stage.py",
            "from archiver.archive.manifest import Manifest\nfrom archiver.store import Put",
        ),
        ("receiver/app.py", "from archiver import ledger\nfrom starlette.routing import Route"),
    ],
)
def test_a_file_inside_the_picture_is_left_alone(where: str, source: str) -> None:
    assert violations(where, source) == set()


def test_the_imports_of_the_code_are_the_projects_requirements_both_ways() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    required = {re.split(r"[>=<;]", text)[0] for text in project["dependencies"]}
    third_party = {
        module.partition(".")[0]
        for path in sources()
        for module in imported(ast.parse(path.read_text()))
        if module.partition(".")[0] in OWNERS
    } - {"sqlite3"}
    needed = {COMES_WITH.get(name, NAMED_OTHERWISE.get(name, name)).replace("_", "-") for name in third_party}

    assert needed - ONLY_FOR_TYPES - required == set()
    assert required - needed <= NOT_IMPORTED.keys()


def test_what_types_alone_need_is_among_the_requirements_of_development() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    assert set(project["optional-dependencies"]["development"]) >= ONLY_FOR_TYPES


def test_every_upper_bound_has_its_reason() -> None:
    lines = re.findall(
        r'(?m)^    "([a-z0-9\[\]-]+)>=[^"]*<\d[^"]*",(.*)$', (ROOT / "pyproject.toml").read_text()
    )

    assert len(lines) >= 6
    assert [name for name, reason in lines if not re.match(r" *# \w", reason)] == []


def test_each_revision_of_the_ledger_has_a_number_of_its_own_and_follows_the_one_before() -> None:
    """Otherwise two branches that each add a revision would leave a ledger that no program can open."""
    folder = ROOT / "archiver/ledger/migrations/versions"
    numbers = [path.name.partition("_")[0] for path in sorted(folder.glob("0*.py"))]

    assert numbers == [f"{number:04d}" for number in range(1, len(numbers) + 1)]


def test_the_driver_of_postgresql_is_imported_only_for_a_ledger_there() -> None:
    """It takes 9 MB of each process."""
    looked = "import sys, receiver.daemon, archiver.commands.work; sys.exit('psycopg' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", looked], check=False, cwd=ROOT).returncode == 0
