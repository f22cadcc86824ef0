"""A secret in any output of a test session fails that session."""

import pathlib
import subprocess
import sys

import pytest

from tests.harness.edge import Edge
from tests.harness.repository import ROOT
from tests.project.secret_watch import WATCH, SecretWatch

SECRET = "correct+horse/battery"
SIGNATURE = "x" * 43 + "~~"


@pytest.fixture
def watch() -> SecretWatch:
    made = SecretWatch()
    made.environment({"KLING_CALLBACK_TOKEN": f"old-token, {SECRET}", "KLING_PORT": "8080"})
    made.signature(f"cacheKey=a&Expires=1&Signature={SIGNATURE}&Key-Pair-Id=b")
    return made


@pytest.mark.parametrize(
    ("said", "secret"),
    [
        (f"POST /callbacks/{SECRET}/images", "KLING_CALLBACK_TOKEN"),
        ("POST /callbacks/correct%2Bhorse%2Fbattery/images", "KLING_CALLBACK_TOKEN"),
        ("the old-token", "KLING_CALLBACK_TOKEN"),
        (f"signed {SIGNATURE}.", "a signature"),
        ("https://cdn.example/0.png?a=b&Signature=AAAAAAAAAAAAAAAAAAAA", "a signed query"),
        ("Bearer eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJBSyJ9.c2lnbmF0dXJl", "a token"),
        ("whsec_dGVzdHNlY3JldHRlc3RzZWNyZXQ=", "a signing secret"),
    ],
)
def test_whatever_holds_a_secret_is_a_leak_that_names_it(watch: SecretWatch, said: str, secret: str) -> None:
    watch.said("somewhere", said)

    assert [(leak.where, leak.secret) for leak in watch.leaks] == [("somewhere", secret)]


@pytest.mark.parametrize(
    "said",
    ["", "8080", "correct horse", "https://cdn.example/0.png?a=b", "whsec_…", "Signature=***", "token"],
)
def test_nothing_else_is(watch: SecretWatch, said: str) -> None:
    watch.said("somewhere", said)

    assert watch.leaks == []


WAYS = {
    # How it is heard, and a test in which it is said.
    "log line": """
        log.configure(format="json", level="info", stream=io.StringIO(), secrets=())
        log.get().info("daemon.started", url="SECRETIVE")
        structlog.reset_defaults()""",
    "captured event": """
        with structlog.testing.capture_logs():
            log.get().info("daemon.started", url="SECRETIVE")""",
    "message of AssetGone": """
        AssetGone("gone: SECRETIVE")""",
    "message of SettingsError": """
        SettingsError(["SECRETIVE is no token"])""",
    "Captured stdout call": """
        print("SECRETIVE")""",
    "raw answer": """
        with Edge() as edge:
            WATCH.secret("a word", "HTTP/1.1 404")
            edge.raw(b"GET / HTTP/1.1\\r\\nHost: a\\r\\nConnection: close\\r\\n\\r\\n")""",
    "answer of /metrics": """
        with Edge() as edge:
            WATCH.secret("a word", "kling_build_info")
            edge.client.get("/metrics")""",
    "output of a command": """
        CommandLine(tmp_path / "l.db").run("SECRETIVE")""",
}
IMPORTS = """
import io
import structlog
from archiver import log
from archiver.config.settings import SettingsError
from archiver.failures import AssetGone
from tests.harness.command_line import CommandLine
from tests.harness.edge import Edge
from tests.project.secret_watch import WATCH
"""


def test_a_session_in_which_a_secret_is_said_fails_and_names_test_and_way(tmp_path: pathlib.Path) -> None:
    tests = "".join(
        f"\n\ndef test_{number}(tmp_path):\n    if WATCH.secret('a secret', 'SECRETIVE') is None:{way}\n"
        for number, way in enumerate(WAYS.values())
    )
    (tmp_path / "test_leaks.py").write_text(IMPORTS + tests)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "tests.project.secret_watch",
        "-c",
        "/dev/null",
        str(tmp_path),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert (done.returncode, f"{len(WAYS)} passed" in done.stdout) == (1, True), done.stdout
    assert [way for way in WAYS if f" in {way}: " not in done.stdout] == []
    assert [number for number in range(len(WAYS)) if f"::test_{number} " not in done.stdout] == []


def test_the_port_of_an_edge_that_has_ended_is_heard_no_more() -> None:
    with Edge() as edge:
        url = edge.server.url
        assert WATCH.is_door(url)

    assert not WATCH.is_door(url)
