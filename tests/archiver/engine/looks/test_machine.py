"""The daemon looks at the machine: spool, disk, file system of the ledger."""

import pathlib
from typing import Any

from archiver.engine.looks.machine import LOOK_SECONDS, MachineLook, MachineLoop
from archiver.fetch.spool import Space, Spool
from tests.harness.engine import EngineClock
from tests.harness.looks import MINUTE
from tests.harness.pipeline import Unwaiting


def machine(folder: pathlib.Path, clock: EngineClock, **parts: Any) -> MachineLoop:
    spool = parts.pop("spool", None) or Spool(folder / "spool")
    look = MachineLook(spool, f"sqlite:///{folder}/ledger.db", **{"file_system": lambda _url: None, **parts})
    return MachineLoop(look, stop=Unwaiting(), monotonic=clock.monotonic)


def test_a_machine_that_has_what_is_needed_is_no_problem(tmp_path: pathlib.Path) -> None:
    loop = machine(tmp_path, EngineClock())
    loop.step()

    assert loop.problems() == []
    assert list((tmp_path / "spool").iterdir()) == []


def test_a_spool_s_disk_that_fills_up_is_a_problem_within_a_minute_and_ends_with_it(
    tmp_path: pathlib.Path,
) -> None:
    clock, space = EngineClock(), [Space(free=10**9, total=10**10)]
    loop = machine(tmp_path, clock, spool=Spool(tmp_path / "spool", space=lambda _folder: space[0]))
    found = list[list[str]]()
    for free in (10**9, 10**6, 10**9):
        space[0] = Space(free=free, total=10**10)
        clock.advance(seconds=LOOK_SECONDS)
        loop.step()
        found.append([problem.code for problem in loop.problems()])

    assert found == [[], ["disk_low"], []]
    assert LOOK_SECONDS < MINUTE


def test_a_spool_that_cannot_be_written_is_a_problem_that_names_its_setting(tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").touch()
    loop = machine(tmp_path, EngineClock(), spool=Spool(tmp_path / "file" / "spool"))
    loop.step()

    (problem,) = loop.problems()
    assert "KLING_SPOOL_DIR" in problem.what_to_do


def test_a_ledger_on_a_network_file_system_is_a_problem_of_the_settings(tmp_path: pathlib.Path) -> None:
    loop = machine(tmp_path, EngineClock(), file_system=lambda _url: "nfs4")
    loop.step()

    (problem,) = loop.problems()
    assert problem.code == "settings"
    assert "nfs4" in problem.message
    assert "KLING_LEDGER_URL" in problem.what_to_do
