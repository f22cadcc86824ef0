"""Every process collects the same tests in the same order: pytest-xdist runs nothing where two of them differ."""

import os
import pathlib
import subprocess
import sys

import pytest

from tests.harness.repository import ROOT

SECONDS_MAX = 120


def collecting(working_folder: pathlib.Path, environment: dict[str, str]) -> subprocess.Popen[str]:
    """Collects the whole suite in a process that knows nothing of this one."""
    options = ["--collect-only", "--quiet", "-p", "no:cacheprovider", "-p", "no:xdist"]
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "pytest",
            "-c",
            ROOT / "pyproject.toml",
            "--rootdir",
            ROOT,
            *options,
            ROOT / "tests",
        ],
        cwd=working_folder,
        env={"PATH": os.environ["PATH"], **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_two_processes_with_nothing_in_common_collect_the_same_tests_in_the_same_order(
    tmp_path: pathlib.Path,
) -> None:
    here = {
        "PYTHONHASHSEED": "1",
        "HOME": str(pathlib.Path.home()),
        "TZ": "Asia/Shanghai",
        "KLING_PORT": "no port",
    }
    elsewhere = {"PYTHONHASHSEED": "2", "HOME": str(tmp_path), "COLUMNS": "40", "TMPDIR": str(tmp_path)}
    processes = [collecting(ROOT, here), collecting(tmp_path, elsewhere)]
    outputs = [process.communicate(timeout=SECONDS_MAX)[0] for process in processes]
    first, second = ([line for line in output.splitlines() if "::" in line] for output in outputs)

    assert [process.returncode for process in processes] == [0, 0], outputs
    assert len(first) > 1000
    assert first == second


def test_parameters_without_an_order_are_refused(pytester: pytest.Pytester) -> None:
    pytester.makeconftest("from tests.conftest import pytest_generate_tests")
    pytester.makepyfile("import pytest\n@pytest.mark.parametrize('n', {1, 2})\ndef test_one(n): ...")
    pytester.makeini("[pytest]\npythonpath = " + str(ROOT))
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")

    assert result.ret != 0
    result.stdout.fnmatch_lines(["*test_one is parametrized over a set: use a list or a dict*"])


def test_children_hear_signals_that_the_parent_of_the_tests_ignores(pytester: pytest.Pytester) -> None:
    pytester.makeconftest("from tests.conftest import pytest_configure")
    pytester.makepyfile("""
        import signal, subprocess

        def test_children_hear_an_interrupt():
            process = subprocess.Popen(["sleep", "60"])
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=30) == -signal.SIGINT
        """)
    pytester.makeini(f"[pytest]\npythonpath = {ROOT}")
    deaf = ["sh", "-c", 'trap "" INT TERM HUP; exec "$@"', "sh"]
    result = pytester.run(*deaf, sys.executable, "-m", "pytest", "-p", "no:cacheprovider")

    result.assert_outcomes(passed=1)
