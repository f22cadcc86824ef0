"""What is said of this machine, its limits and its libraries."""

import importlib.metadata
import pathlib
import socket
import subprocess

import pytest

from archiver.audit.doctor import Verdict, machine, versions
from archiver.fetch.proxy import Proxy
from archiver.fetch.spool import Spool
from tests.harness.disks import NO_DISK, fill, small_disk

OK, WARNING, FAILED = Verdict.OK, Verdict.WARNING, Verdict.FAILED


def test_a_full_spool_is_a_failure(tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "spool"
    folder.mkdir()
    try:
        with small_disk(folder, megabytes=1):
            [before] = machine.disks(Spool(folder), f"sqlite:///{tmp_path}/ledger.db")
            fill(folder)
            [after] = machine.disks(Spool(folder), f"sqlite:///{tmp_path}/ledger.db")
    except subprocess.CalledProcessError:
        pytest.skip(NO_DISK)

    assert (before.verdict, after.verdict) == (OK, FAILED)
    assert after.what_to_do


def test_the_room_is_shown_also_for_a_spool_that_does_not_exist_yet(tmp_path: pathlib.Path) -> None:
    [found] = machine.spool_room(tmp_path / "not" / "there")

    assert found.verdict is OK
    assert "MB are free" in found.message


@pytest.mark.parametrize(("soft", "verdict"), [(256, WARNING), (1024, OK), (-1, OK)])
def test_a_low_limit_of_open_files_is_a_warning(soft: int, verdict: Verdict) -> None:
    assert machine.judge_open_files(soft, 4096).verdict is verdict


@pytest.mark.parametrize(
    ("name", "written", "verdict"),
    [
        ("memory.max", "max\n", OK),
        ("memory.max", f"{128 * 2**20}\n", WARNING),
        ("memory.max", f"{512 * 2**20}\n", OK),
        ("memory/memory.limit_in_bytes", "9223372036854771712\n", OK),
        ("memory/memory.limit_in_bytes", f"{64 * 2**20}\n", WARNING),
        ("other", "", OK),
    ],
)
def test_a_low_memory_limit_is_a_warning(
    tmp_path: pathlib.Path, name: str, written: str, verdict: Verdict
) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(written)

    assert [finding.verdict for finding in machine.memory(tmp_path)] == [verdict]


def test_a_proxy_is_named_without_its_password_and_tried() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        there = Proxy.from_environment(
            {"HTTPS_PROXY": f"http://user:geheim@127.0.0.1:{port}", "NO_PROXY": "s3.local"}
        )
        [reached] = machine.proxies(there, ["HTTPS_PROXY"])
    [unreached] = machine.proxies(there, ["HTTPS_PROXY"])
    [without] = machine.proxies(None, [])

    assert (reached.verdict, unreached.verdict, without.verdict) == (OK, FAILED, OK)
    assert f"127.0.0.1:{port}" in reached.message
    assert "s3.local" in reached.message
    assert "geheim" not in reached.message + unreached.message


@pytest.mark.parametrize(
    ("requirement", "verdict", "said"),
    [
        ("rich>=15", OK, ""),
        ("rich<16,>=15.0.1", WARNING, ">=15.0.1"),
        ("rich>=14,<15", WARNING, "<15"),
        ("psycopg[binary]>=3.3", OK, ""),
        ("missing-library>=1", FAILED, "missing"),
        ('missing-library>=1; sys_platform == "win32"', OK, ""),
        ('rich>=99; extra == "development"', OK, ""),
    ],
)
def test_libraries_are_compared_with_the_requirements(requirement: str, verdict: Verdict, said: str) -> None:
    have = {"rich": "15.0.0", "psycopg": "3.10.1"}

    def version_of(name: str) -> str:
        if name not in have:
            raise importlib.metadata.PackageNotFoundError(name)
        return have[name]

    [found] = versions.libraries([requirement], version_of)

    assert (found.verdict, said in found.message) == (verdict, True)


def test_what_is_installed_here_is_as_required() -> None:
    assert [finding.verdict for finding in (*versions.python(), *versions.libraries())] == [OK, OK]
