"""`kling-receiver --check`: what the daemon would find at start, and an exit status; nothing is left behind."""

import pathlib
import socket
import threading
from collections.abc import Callable, Iterator, Mapping

import pytest

from archiver import lookups
from receiver.__main__ import main
from tests.s3_servers import S3Server
from tests.simulator import KlingSimulator

CLOSED = "http://127.0.0.1:1"


@pytest.fixture
def sim() -> Iterator[KlingSimulator]:
    with KlingSimulator() as simulator:
        yield simulator


@pytest.fixture
def checked(
    sim: KlingSimulator,
    swift_server: S3Server,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Callable[..., tuple[int, list[str]]]:
    """Run it with these settings besides the right ones; exit status and lines."""
    environment: Mapping[str, str] = {
        "KLING_ACCESS_KEY": sim.access_key,
        "KLING_SECRET_KEY": sim.secret_key,
        "KLING_BASE_URL": sim.base_url,
        "KLING_CALLBACK_TOKEN": "t" * 24,
        "KLING_LEDGER_URL": f"sqlite:///{tmp_path}/ledger.db",
        "KLING_SPOOL_DIR": str(tmp_path),
        **swift_server.environment(swift_server.create_bucket()),
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    def run(**settings: str) -> tuple[int, list[str]]:
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        status = main(["--check"])
        return status, capsys.readouterr().out.splitlines()

    return run


def verdicts(lines: list[str]) -> list[str]:
    return [line.split()[0] for line in lines if not line.startswith(" ")]


def test_a_check_where_all_is_well_ends_0_and_creates_nothing(
    checked: Callable[..., tuple[int, list[str]]], tmp_path: pathlib.Path
) -> None:
    status, lines = checked()

    assert (status, set(verdicts(lines))) == (0, {"ok"})
    assert [line.split()[1] for line in lines] == ["ledger", "spool", "API", "clock", "bucket"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("is_named", [True, False])
def test_a_check_makes_no_folder_for_the_spool_and_names_the_one_that_is_not_there(
    checked: Callable[..., tuple[int, list[str]]],
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    is_named: bool,
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    status, lines = checked(KLING_SPOOL_DIR=str(tmp_path / "mistyped" / "spool") if is_named else "")

    assert status == 0
    assert f"{tmp_path}/{'mistyped/spool' if is_named else 'kling-archiver-spool-'}" in "".join(lines)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"KLING_BASE_URL": CLOSED}, "KLING_BASE_URL"),
        ({"KLING_SECRET_KEY": "another-secret-of-thirty-two-characters"}, "KLING_SECRET_KEY"),
        ({"KLING_S3_BUCKET": "not-there"}, "KLING_S3_BUCKET"),
        ({"KLING_S3_ENDPOINT_URL": CLOSED}, "KLING_S3_ENDPOINT_URL"),
        ({"KLING_LEDGER_URL": "sqlite:////no/such/folder/ledger.db"}, "KLING_LEDGER_URL"),
        ({"KLING_SPOOL_DIR": "/proc/none"}, "KLING_SPOOL_DIR"),
        ({"KLING_SPOOL_DIR": "/etc/passwd/none"}, "KLING_SPOOL_DIR"),
    ],
)
def test_a_check_that_finds_something_ends_1_and_names_the_setting(
    checked: Callable[..., tuple[int, list[str]]], settings: dict[str, str], named: str
) -> None:
    status, lines = checked(**settings)

    assert (status, verdicts(lines).count("failed")) == (1, 1)
    assert named in "".join(lines)


def test_an_api_that_tells_no_time_is_a_warning(
    checked: Callable[..., tuple[int, list[str]]], sim: KlingSimulator
) -> None:
    sim.switches.answers_dated = False
    status, lines = checked()

    assert (status, verdicts(lines).count("warning")) == (0, 1)


def test_name_servers_that_never_answer_do_not_keep_a_check(
    checked: Callable[..., tuple[int, list[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    given_up = threading.Event()

    def never(*_arguments: object, **_named: object) -> None:
        given_up.wait(20)
        raise socket.gaierror(socket.EAI_AGAIN, "given up at last")

    monkeypatch.setattr(socket, "getaddrinfo", never)
    monkeypatch.setattr(lookups, "system_getaddrinfo", never)
    monkeypatch.setattr(lookups, "LOOKUP_SECONDS", 0.05)
    status, lines = checked(
        KLING_BASE_URL="https://api.example.com", KLING_S3_ENDPOINT_URL="https://store.example.com"
    )
    given_up.set()

    failed = [line for line in lines if line.startswith("failed")]
    assert (status, len(failed)) == (1, 2)
    assert "no name server answered within 0.05 s" in failed[0]
    assert "cannot be reached" in failed[0]
    assert "https://store.example.com" in failed[1]


def test_wrong_settings_end_a_check_with_2(checked: Callable[..., tuple[int, list[str]]]) -> None:
    assert checked(KLING_S3_BUCKET="")[0] == 2
