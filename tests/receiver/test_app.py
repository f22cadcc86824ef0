"""The application around the endpoints: unknown paths, and uncaught errors."""

import dataclasses

import pytest
import structlog
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from receiver.app import AppParts
from tests.harness.edge import client


@pytest.mark.parametrize("path", ["/", "/console", "/api/tasks", "/healthz/", "/docs"])
def test_every_other_path_is_404(parts: AppParts, path: str) -> None:
    with client(parts) as running:
        answer = running.get(path, follow_redirects=False)

    assert (answer.status_code, answer.json()["code"]) == (404, 1203)


def test_an_error_of_ours_is_a_500_without_a_traceback_and_a_log_line_with_one(parts: AppParts) -> None:
    async def broken(_: Request) -> Response:
        raise ZeroDivisionError("secret detail")

    with (
        structlog.testing.capture_logs() as lines,
        client(parts, routes=[Route("/broken", broken)]) as running,
    ):
        answer = running.get("/broken")

    assert (answer.status_code, answer.json()["code"]) == (500, 5000)
    assert "detail" not in answer.text
    assert [(line["event"], line["exc_info"]) for line in lines] == [("request.failed", True)]


def test_an_error_of_ours_in_the_callback_endpoint_is_answered_the_same_way(parts: AppParts) -> None:
    async def broken(*_: object) -> None:
        raise ZeroDivisionError("secret detail")

    assert parts.door is not None
    door = dataclasses.replace(parts.door, callbacks=broken)  # type: ignore[arg-type]  # callable is enough
    with client(parts, door=door) as running:
        answer = running.post("/callbacks/x")

    assert (answer.status_code, answer.json()["code"]) == (500, 5000)
    assert "detail" not in answer.text


def test_a_process_that_takes_no_callbacks_serves_only_the_health_paths(parts: AppParts) -> None:
    with client(parts, door=None) as running:
        answers = [
            running.post("/callbacks/x"),
            *(running.get(path) for path in ("/healthz", "/readyz", "/metrics")),
        ]

    assert [answer.status_code for answer in answers] == [404, 200, 200, 200]


def test_another_refusal_is_json_and_keeps_its_headers(parts: AppParts) -> None:
    async def closed(_: Request) -> Response:
        raise HTTPException(401, headers={"www-authenticate": "Bearer"})

    with client(parts, routes=[Route("/closed", closed)]) as running:
        answer = running.get("/closed")

    assert (answer.status_code, answer.json()["message"]) == (401, "Unauthorized")
    assert answer.headers["www-authenticate"] == "Bearer"
