"""`deploy`: the files of `deploy/`, printed."""

import json
import pathlib

import pytest

from archiver.commands import bundled, deploy
from tests.harness.command_line import CommandLine
from tests.harness.repository import DEPLOY


@pytest.fixture
def line(tmp_path: pathlib.Path) -> CommandLine:
    """Without a ledger: the command needs none."""
    return CommandLine(tmp_path / "ledger.db")


def test_list_names_every_file(line: CommandLine) -> None:
    listed = [row["name"] for row in json.loads(line.run("deploy", "list", "--json").stdout)]

    paths = [path for path in DEPLOY.rglob("*") if path.is_file() and path.parent.name != "__pycache__"]
    assert set(listed) == {path.relative_to(DEPLOY).as_posix() for path in paths} - {"build.lock"}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("# The unit: how it starts\n[Unit]\n", "The unit"),
        ("#!/bin/sh\n# Copies the ledger. Daily.\n", "Copies the ledger"),
        ("# Running it (v2.1)\n\nText\n", "Running it (v2.1)"),
        ('{\n  "title": "manifest.json",\n  "type": "object"\n}\n', "manifest.json"),
        ('"""Reads all. Twice."""\n\n# Not this\nimport json\n', "Reads all"),
        ("key = 1\n", ""),
    ],
)
def test_a_file_says_by_its_first_comment_or_title_what_it_is(
    tmp_path: pathlib.Path, text: str, sentence: str
) -> None:
    path = tmp_path / "file"
    path.write_text(text)

    assert deploy.about(path) == sentence


def test_list_prints_a_line_for_each_name(line: CommandLine) -> None:
    printed = line.run("deploy", "list").stdout.splitlines()

    assert [text.split()[0] for text in printed[2:]] == bundled.deploy_files()


def test_show_prints_each_file_as_it_is(line: CommandLine) -> None:
    shown = {name: line.run("deploy", "show", name).stdout_bytes for name in bundled.deploy_files()}

    assert shown == {name: (DEPLOY / name).read_bytes() for name in bundled.deploy_files()}


def test_the_end_of_a_name_is_enough_where_one_file_has_it(
    line: CommandLine, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one/unit.conf", "one/both.conf", "two/both.conf"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    monkeypatch.setattr(bundled, "DEPLOY", tmp_path)

    for name in ("unit.conf", "one/unit.conf", "deploy/one/unit.conf"):
        assert line.run("deploy", "show", name).stdout == "one/unit.conf"
    refused = line.run("deploy", "show", "both.conf")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "one/both.conf, two/both.conf" in refused.stderr


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["show", "nothing.conf"], "there is no 'nothing.conf'"),
        (["show", "../README.md"], "there is no '../README.md'"),
        (["show"], "show needs a NAME"),
        (["list", "Caddyfile"], "list takes no NAME"),
        (["show", "Caddyfile", "--json"], "leave out --json"),
    ],
)
def test_a_file_that_it_cannot_print_is_refused_with_the_reason(
    line: CommandLine, words: list[str], sentence: str
) -> None:
    refused = line.run("deploy", *words)

    assert (refused.exit_code, refused.stdout) == (2, "")
    assert sentence in refused.stderr
