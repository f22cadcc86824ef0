"""Each row of the table of faults names existing tests, and each fault test has a row."""

import ast
import pathlib
import subprocess
import sys
from collections import Counter

import pytest

from tests.harness.repository import ROOT
from tests.project.fault_table import TABLE, Row

PROGRAMME = "tests/**/test_*faults.py"
AREAS = {"Kling", "CDN", "S3", "PostgreSQL", "machine", "crash"}


def nodes_in(file: pathlib.Path) -> set[str]:
    """The node ids of a file's test functions, without parameters."""
    tree = ast.parse(file.read_text())
    names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    return {f"{file.relative_to(ROOT)}::{name}" for name in names if name.startswith("test_")}


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row.area}: {row.fault}")
def test_a_row_says_what_happens_and_names_tests_that_exist(row: Row) -> None:
    assert row.answer
    assert row.tests
    for test in row.tests:
        assert test in nodes_in(ROOT / test.partition("::")[0])


def test_every_test_of_the_programme_stands_in_a_row() -> None:
    named = {test for row in TABLE for test in row.tests}
    written = {test for file in ROOT.glob(PROGRAMME) for test in nodes_in(file)}

    assert written - named == set()


def test_no_fault_stands_in_the_table_twice_and_no_area_is_empty() -> None:
    assert Counter((row.area, row.fault) for row in TABLE).most_common(1)[0][1] == 1
    assert {row.area for row in TABLE} == AREAS


def test_the_table_can_be_read() -> None:
    command = [sys.executable, "-m", "tests.project.fault_table"]
    printed = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout

    assert [row.fault for row in TABLE if f"{row.area}: {row.fault}\n" not in printed] == []
