"""Dependencies: pinned by hash, from no index named in a file, under licences that permit redistribution."""

import pathlib
import re
import tomllib
from collections.abc import Iterator

import pytest

from tests.harness.repository import ROOT
from tests.project.licences import locked, named, written

LOCKS = ["requirements.lock", "tests/requirements.lock", "deploy/build.lock", "tests/fuzz/requirements.lock"]

PIN = re.compile(r"[a-z0-9][a-z0-9._-]*(\[[a-z0-9,-]+\])?==[A-Za-z0-9.+!]+( ; [^\\]+)?")
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")
PERMISSIVE = re.compile(
    r"(MIT|MIT License|BSD License|BSD-[23]-Clause|Apache-2\.0|Apache Software License|ISC License \(ISCL\)|PSF-2\.0)"
)

PASSED_ON_UNMODIFIED = {("psycopg", "LGPL-3.0-only"), ("psycopg-binary", "LGPL-3.0-only")}
"""Their licence requires that every user of our program may replace them by another version. They may: each is a
package of its own, installed beside ours unmodified and imported by its name; nothing of it is in our files."""


def requirements(path: pathlib.Path) -> Iterator[list[str]]:
    """Each requirement of a lock, as the words that backslashes join; comments gone."""
    text = "\n".join(line for line in path.read_text().splitlines() if not re.match(r"\s*#", line))
    for line in text.replace("\\\n", "\0").splitlines():
        if line.strip():
            yield [word.strip() for word in line.split("\0")]


@pytest.mark.parametrize("name", LOCKS, ids=lambda name: name.replace("/", " "))
def test_every_line_of_a_lock_pins_one_version_by_its_hashes_and_says_nothing_else(name: str) -> None:
    lines = list(requirements(ROOT / name))

    assert lines
    assert [words for words in lines if not PIN.fullmatch(words[0])] == []
    assert [words for words in lines if len(words) < 2] == []
    assert [words for words in lines if not all(HASH.fullmatch(word) for word in words[1:])] == []


@pytest.mark.parametrize(
    "line",
    [
        "rich==15.0.0",
        "rich>=15 \\\n    --hash=sha256:" + "a" * 64,
        "rich==15.0.0 \\\n    --hash=md5:" + "a" * 32,
        "rich @ https://files.example/rich.whl \\\n    --hash=sha256:" + "a" * 64,
        "--index-url https://index.example/simple",
        "--extra-index-url https://index.example/simple",
        "--find-links wheels",
        "-e .",
        "git+https://code.example/rich",
    ],
)
def test_a_line_that_pins_nothing_or_names_an_index_is_noticed(tmp_path: pathlib.Path, line: str) -> None:
    path = tmp_path / "some.lock"
    path.write_text(f"{line}\n")
    (words,) = requirements(path)

    is_sound = PIN.fullmatch(words[0]) and len(words) > 1 and all(HASH.fullmatch(word) for word in words[1:])
    assert not is_sound


def test_every_lower_bound_is_the_version_that_is_locked_and_so_tried() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    bounds = [re.match(r"([\w-]+).*?>=([\d.]+)", text) for text in project["dependencies"]]
    lower = {found[1]: found[2] for found in bounds if found}

    assert len(lower) == len(bounds)
    assert {
        name: f"{locked()[name]}."
        for name, low in lower.items()
        if not f"{locked()[name]}.".startswith(f"{low}.")
    } == {}


def test_no_lock_is_left_out_here() -> None:
    found = {
        path for pattern in ("*.lock", "deploy/*.lock", "tests/**/*.lock") for path in ROOT.glob(pattern)
    }

    assert {path.relative_to(ROOT).as_posix() for path in found} == set(LOCKS)


def test_every_installation_of_the_makefile_is_by_hash_or_offline() -> None:
    installs = re.findall(r"(?m)^\t.*pip install.*$", (ROOT / "Makefile").read_text())

    assert len(installs) >= 2
    assert [line for line in installs if "--require-hashes" not in line and "--no-index" not in line] == []


def test_the_list_of_licences_has_every_locked_package_in_its_version() -> None:
    assert {package: version for package, (version, _) in written().items()} == locked()


def test_the_list_of_licences_says_what_the_installed_packages_say() -> None:
    installed = {package: licence for package in locked() if (licence := named(package)) is not None}

    assert len(installed) > 30
    assert {package: written()[package][1] for package in installed} == installed


def test_every_licence_lets_us_pass_the_package_on() -> None:
    parts = {
        (package, part)
        for package, (_, licence) in written().items()
        for part in re.split(r", | AND | OR ", licence)
    }

    other = {(package, part) for package, part in parts if not PERMISSIVE.fullmatch(part)}
    assert other == PASSED_ON_UNMODIFIED
