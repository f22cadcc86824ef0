"""What the first reader of a fresh daemon does to the event loop, on which callbacks wait meanwhile."""

import pathlib
import subprocess
import sys

from tests.harness.repository import ROOT

SCRIPT = """
import contextlib, pathlib, sys
from tests.harness.links import ScriptedStore, link_of, record_stored, serving
from tests.receiver.links.test_service import EndlessStore

SIZE = 2_000_000
with (
    contextlib.closing(EndlessStore(SIZE)) as store,
    serving(pathlib.Path(sys.argv[1]), ScriptedStore(signed_url=store.url), mode="stream") as desk,
):
    record_stored(desk.ledger, bytes(SIZE), "whole")
    assert desk.get("/healthz").status_code == 200
    before = set(sys.modules)
    assert desk.get(link_of("whole")).content == bytes(SIZE)
    print("imported:", sorted(set(sys.modules) - before))
"""


def test_the_first_request_for_a_file_imports_nothing(tmp_path: pathlib.Path) -> None:
    answer = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert "imported: []" in answer.stdout
