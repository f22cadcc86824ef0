"""Every process collects the same tests in the same order: pytest-xdist runs nothing where two of them differ."""

import os
import pathlib
import subprocess
import sys

import pytest

from tests.harness.repository import ROOT

SECONDS_MAX = 120


def collected_elsewhere(folder: pathlib.Path) -> list[str]:
    """The tests of the whole suite in a process that has nothing in common with this one."""
    options = ["--collect-only", "--quiet", "-p", "no:cacheprovider", "-p", "no:xdist"]
    suite = ["-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT), str(ROOT / "tests")]
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONHASHSEED": "2",
        "HOME": str(folder),
        "COLUMNS": "40",
        "TMPDIR": str(folder),
        "TZ": "Asia/Shanghai",
        "KLING_PORT": "no port",
    }
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *suite],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return [line for line in done.stdout.splitlines() if "::" in line]


def test_a_process_with_nothing_in_common_collects_the_same_tests_in_the_same_order(
    tmp_path: pathlib.Path, request: pytest.FixtureRequest
) -> None:
    here = [item.nodeid for item in request.session.items]
    elsewhere = collected_elsewhere(tmp_path)

    assert len(elsewhere) > 1000
    assert set(here) <= set(elsewhere)
    if len(here) == len(
        elsewhere
    ):  # where some of the tests were asked for, pytest may order them in another way
        assert elsewhere == here


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
