"""The Ceph that the tests start: its users are made although radosgw-admin may abort at its end."""

import pathlib
import subprocess

import pytest

from tests.s3_servers.ceph import CephServer

ABORTED = -6
EXISTS = "could not create user: unable to parse parameters, user: someone exists\n"


def answering(monkeypatch: pytest.MonkeyPatch, *answers: tuple[int, str]) -> None:
    """What radosgw-admin ends with, and what it says, each time."""
    left = list(answers)

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        status, said = left.pop(0)
        return subprocess.CompletedProcess(command, status, stdout="", stderr=said)

    monkeypatch.setattr(subprocess, "run", run)


def test_a_user_that_an_aborted_command_has_made_is_taken_as_made(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(monkeypatch, (ABORTED, ""), (22, EXISTS))

    assert (
        CephServer(tmp_path).create_user("someone", access_key="a", secret_key="s").endswith("user/someone")
    )


@pytest.mark.parametrize(
    "answers", [[(22, EXISTS)], [(ABORTED, ""), (22, "no cluster")]], ids=["at first", "for another reason"]
)
def test_a_user_that_cannot_be_made_is_an_error(
    answers: list[tuple[int, str]], tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(monkeypatch, *answers)

    with pytest.raises(RuntimeError, match="user create"):
        CephServer(tmp_path).create_user("someone", access_key="a", secret_key="s")
