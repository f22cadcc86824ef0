"""The picture of who may import what (design section 2), held against the code by parsing its imports."""

import ast
import pathlib
import re
import sys
import tomllib
from collections.abc import Iterator

import pytest

from tests.harness.repository import ROOT

LEDGER = r"archiver/ledger(_\w+)?\.py|archiver/ledger/.*|archiver/schema\.py"
ENTRIES = r"(archiver|receiver)/__main__\.py"
STORE = r"archiver/store(\.py|/.*)"
CONFIG = r"archiver/config/.*"
WIRING = r"archiver/composition\.py"
"""Turns settings into objects for both entry points."""
COMMANDS = r"archiver/(__main__|cli\w*|commands?\w*|demo)\.py|archiver/(cli|commands)/.*"

OWNERS = {
    # Every third-party package that the code may import, and the only files that may.
    "alembic": LEDGER,
    "boto3": STORE,
    "botocore": STORE,
    "httpcore2": r"archiver/fetch/.*",
    "httptools": r"receiver/server/.*",
    "httpx2": r"archiver/(kling/client|fetch/.*|forward)\.py",
    "jinja2": r"receiver/.*",
    "jwt": r"archiver/kling/.*",
    "mypy_boto3_s3": STORE,
    "prometheus_client": r"archiver/metrics\.py",
    "pydantic": r"archiver/config/.*",
    "pydantic_settings": r"archiver/config/.*",
    "rich": COMMANDS,
    "sqlalchemy": LEDGER,
    "sqlite3": LEDGER,
    "standardwebhooks": r"receiver/callbacks/.*|archiver/forward\.py",
    "starlette": r"receiver/.*",
    "structlog": r"archiver/log\.py",
    "typer": COMMANDS,
    "urllib3": STORE,
    "uvicorn": r"receiver/.*",
}
"""`sqlite3` is the standard library's, but SQL all the same."""

NAMED_OTHERWISE = {"jwt": "pyjwt"}
COMES_WITH = {
    "botocore": "boto3",
    "urllib3": "boto3",
    "pydantic": "pydantic-settings",
    "mypy_boto3_s3": "boto3-stubs[s3]",
}
"""Imported packages that another requirement brings along, because they are part of its API."""


def sources() -> list[pathlib.Path]:
    return [path for package in ("archiver", "receiver") for path in sorted((ROOT / package).rglob("*.py"))]


def imported(tree: ast.AST) -> Iterator[str]:
    """Every module that the code imports, full name; of ``from a import b`` also `a.b`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


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


def _may_import(where: str, top: str) -> bool:
    if top in OWNERS:
        return bool(re.fullmatch(OWNERS[top], where))
    return top in sys.stdlib_module_names | {"archiver", "receiver"}


def _reads_environment(tree: ast.AST) -> bool:
    names = {"environ", "environb", "getenv", "getenvb", "putenv"}
    return any(
        (isinstance(node, ast.Attribute) and node.attr in names)
        or (isinstance(node, ast.ImportFrom) and node.module == "os" and names & {a.name for a in node.names})
        for node in ast.walk(tree)
    )


def test_the_code_keeps_to_the_picture() -> None:
    found = {
        (where, violation)
        for path in sources()
        for where in [path.relative_to(ROOT).as_posix()]
        for violation in violations(where, path.read_text())
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
        ("archiver/store.py", "import jwt", "imports jwt"),
        ("archiver/engine/worker.py", "import httpx2", "imports httpx2"),
        ("archiver/kling/client.py", "import httpcore2", "imports httpcore2"),
        ("archiver/engine/worker.py", "import starlette", "imports starlette"),
        ("receiver/app.py", "import prometheus_client", "imports prometheus_client"),
        ("receiver/app.py", "import structlog", "imports structlog"),
        ("archiver/log.py", "import pydantic", "imports pydantic"),
        ("archiver/status.py", "import typer", "imports typer"),
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
    ],
)
def test_a_file_that_leaves_the_picture_is_noticed(where: str, source: str, violation: str) -> None:
    assert violation in violations(where, source)


@pytest.mark.parametrize(
    ("where", "source"),
    [
        ("archiver/store.py", "import boto3\nfrom archiver import failures"),
        ("archiver/ledger/claims.py", "import sqlalchemy as sa"),
        ("archiver/ledger/migrations/versions/0001_first.py", "from alembic import op"),
        ("receiver/__main__.py", "import os\nfrom archiver import config\nos.environ"),
        ("archiver/__main__.py", "import typer"),
        ("receiver/app.py", "from archiver import ledger\nfrom starlette.routing import Route"),
    ],
)
def test_a_file_inside_the_picture_is_left_alone(where: str, source: str) -> None:
    assert violations(where, source) == set()


def test_everything_imported_is_among_the_projects_requirements() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    required = [*project["dependencies"], *project["optional-dependencies"]["development"]]
    names = {re.split(r"[>=<; ]", text)[0] for text in required}
    third_party = {
        module.partition(".")[0]
        for path in sources()
        for module in imported(ast.parse(path.read_text()))
        if module.partition(".")[0] in OWNERS
    } - {"sqlite3"}

    lacking = {
        name
        for name in third_party
        if COMES_WITH.get(name, NAMED_OTHERWISE.get(name, name)).replace("_", "-") not in names
    }
    assert lacking == set()
