"""A short run of each fuzz target, coverage-guided where atheris is installed; `make fuzz` runs longer ones."""

import subprocess
import sys

import pytest

from tests.fuzz.__main__ import MEMORY_BYTES_MAX
from tests.fuzz.targets import TARGETS
from tests.harness.repository import ROOT

RUNS = 5000


@pytest.mark.parametrize("target", TARGETS)
def test_nothing_is_found_in_a_short_run(target: str) -> None:
    command = [sys.executable, "-m", "tests.fuzz", target, "--runs", str(RUNS), "--seed", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, errors="replace", check=False)

    assert done.returncode == 0, done.stderr
    output = done.stdout + done.stderr
    assert "atheris is missing" in output or "stat::number_of_executed_units" in output


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_passes_on_its_own_samples(target: str) -> None:
    for sample in TARGETS[target].samples:
        TARGETS[target].check(sample)


def test_memory_that_the_starting_process_has_used_is_not_counted() -> None:
    start = (
        f"kept = bytearray({MEMORY_BYTES_MAX + 2**26}); kept[::4096] = bytes(len(kept[::4096])); del kept\n"
    )
    command = [sys.executable, "-m", "tests.fuzz", "urls", "--runs", "40000", "--seed", "1"]
    done = subprocess.run(
        [sys.executable, "-c", f"import subprocess\n{start}raise SystemExit(subprocess.run({command!r}).returncode)"],
        cwd=ROOT, capture_output=True, text=True, errors="replace", check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr[-2000:]


def test_an_unknown_target_is_a_usage_error() -> None:
    command = [sys.executable, "-m", "tests.fuzz", "nothing", "--plain"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert (done.returncode, "payload" in done.stderr) == (2, True)
