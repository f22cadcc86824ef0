"""Each row of the table of processes names tests that exist, and that run on both databases unless it says why not."""

import ast
import functools
import pathlib

import pytest

from tests.harness.repository import ROOT
from tests.project.process_table import TABLE, Row

BY_ITSELF = "test_both_databases_answer_the_same_and_hold_the_same"
"""It opens both."""


@functools.cache
def functions_in(file: pathlib.Path) -> dict[str, ast.FunctionDef]:
    """The functions of a file, and the fixtures of its folders."""
    folders = [folder for folder in reversed(file.parents) if folder.is_relative_to(ROOT)]
    sources = [path for path in (*(folder / "conftest.py" for folder in folders), file) if path.exists()]
    nodes = [node for path in sources for node in ast.parse(path.read_text()).body]
    return {node.name: node for node in nodes if isinstance(node, ast.FunctionDef)}


def fixtures_of(name: str, functions: dict[str, ast.FunctionDef]) -> set[str]:
    """The fixtures of a test, and the fixtures of those, as far as the file and its folders define them."""
    if name not in functions:
        return {name}
    node = functions[name]
    asked = [argument.arg for argument in (*node.args.args, *node.args.kwonlyargs)]
    return {name}.union(*(fixtures_of(each, functions) for each in asked))


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.what)
def test_a_row_names_tests_that_run_on_both_databases_or_says_why_not(row: Row) -> None:
    assert row.tests
    for test in row.tests:
        file, _, name = test.partition("::")
        functions = functions_in(ROOT / file)
        assert name in functions, test
        marks = " ".join(map(ast.unparse, functions[name].decorator_list))
        on_both = "place" in fixtures_of(name, functions) and "sqlite_only" not in marks
        assert on_both or name == BY_ITSELF or row.only_on, test
