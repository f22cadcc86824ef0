"""What `/api/openapi.json` promises, held against the API by schemathesis: made-up calls, the same in every run."""

import contextlib
import pathlib
from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest
import schemathesis
from hypothesis.internal.cache import LRUCache
from hypothesis.internal.conjecture import providers
from hypothesis.internal.constants_ast import Constants
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)
from starlette.applications import Starlette

from archiver.ledger import Ledger
from archiver.problems import Expected
from receiver.api.openapi import document
from receiver.api.tasks import Api
from tests.harness.api import ADMIN, FAMILY, fill
from tests.harness.blank_ledger import lay_blank_ledger
from tests.harness.ledgers import Clock

EXAMPLES = 20
"""Calls of each operation."""
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    negative_data_rejection,
    unsupported_method,
]
ARCHIVED, BURIED = "1", "2"
NO_LITERALS = Constants()


@pytest.fixture
def api(tmp_path: pathlib.Path) -> Iterator[Any]:
    """The schema, on the application as it is, without a socket."""
    lay_blank_ledger(tmp_path / "ledger.db")
    clock = Clock()
    ledger = Ledger.open(f"sqlite:///{tmp_path}/ledger.db", daemon=True, now=clock)
    fill(ledger)
    routes = Api(
        ledger,
        token=ADMIN,
        expected=Expected({"default": [FAMILY]}, 300_000),
        now=clock,
        on_wanted=lambda _: None,
    ).routes()
    with contextlib.closing(ledger):
        app = Starlette(routes=routes)
        headers = {"Authorization": f"Bearer {ADMIN}"}
        yield schemathesis.openapi.from_asgi("/api/openapi.json", app, headers=headers)


def test_every_operation_answers_as_the_document_says(api: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # Hypothesis would also draw from the literals of whatever other tests have imported.
    monkeypatch.setattr(providers.HypothesisProvider, "_local_constants", NO_LITERALS)
    monkeypatch.setattr(providers, "CONSTANTS_CACHE", LRUCache(1024))
    count = 0
    for result in api.get_all_operations():
        operation = result.ok()

        @hypothesis.settings(
            max_examples=EXAMPLES,
            derandomize=True,
            database=None,
            deadline=None,
            suppress_health_check=list(hypothesis.HealthCheck),
            phases=[hypothesis.Phase.generate],
        )
        @hypothesis.given(case=operation.as_strategy())
        def call(case: Any) -> None:
            if case.path_parameters and case.path_parameters.get("id"):
                case.path_parameters["id"] = {1: ARCHIVED, 2: BURIED}.get(
                    len(case.path_parameters["id"]), case.path_parameters["id"]
                )
            case.call_and_validate(checks=CHECKS, headers={"Authorization": f"Bearer {ADMIN}"})

        call()
        count += 1
    assert count == sum(len(methods) for methods in document()["paths"].values()) - 1  # the document itself
