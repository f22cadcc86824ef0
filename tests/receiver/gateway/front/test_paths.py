"""Which paths go on to Kling, what they want, and which are refused."""

import pytest

from archiver.metrics import GatewayKind
from receiver.gateway.front.paths import KlingPath, is_klings, read_path

CREATE, QUERY, LIST, OTHER = GatewayKind.CREATE, GatewayKind.QUERY, GatewayKind.LIST, GatewayKind.OTHER
GENERATIONS = b"/v1/images/generations"


@pytest.mark.parametrize(
    ("request_line", "goes_on", "kind", "family", "identifier"),
    [
        (b"POST /v1/images/generations", GENERATIONS, CREATE, "images/generations", None),
        (b"POST /kling/v1/images/generations", GENERATIONS, CREATE, "images/generations", None),
        (b"POST /v1/v1/images/generations", GENERATIONS, CREATE, "images/generations", None),
        (b"POST /kling/v1/v1/images/generations", GENERATIONS, CREATE, "images/generations", None),
        (
            b"POST /v1/images/editing/expand",
            b"/v1/images/editing/expand",
            CREATE,
            "images/editing/expand",
            None,
        ),
        (b"POST /text-to-video/kling-3.0", b"/text-to-video/kling-3.0", CREATE, "tasks/video", None),
        (b"POST /solutions/virtual_try_on", b"/solutions/virtual_try_on", OTHER, None, None),
        (b"POST /v1/videos/identify-face", b"/v1/videos/identify-face", OTHER, None, None),
        (b"GET /v1/images/generations/8", GENERATIONS + b"/8", QUERY, "images/generations", "8"),
        (b"GET /v1/images/generations/a%20b", GENERATIONS + b"/a%20b", QUERY, "images/generations", "a b"),
        (
            b"GET /v1/images/generations/%E4%B8%AD",
            GENERATIONS + b"/%E4%B8%AD",
            QUERY,
            "images/generations",
            "中",
        ),
        (b"GET /v1/images/generations/%252F", GENERATIONS + b"/%252F", QUERY, "images/generations", "%2F"),
        (b"GET /v1/images/generations/%ff", GENERATIONS + b"/%ff", OTHER, None, None),
        (
            b"GET /v1/images/editing/expand/8",
            b"/v1/images/editing/expand/8",
            QUERY,
            "images/editing/expand",
            "8",
        ),
        (b"GET /v1/images/editing/expand", b"/v1/images/editing/expand", LIST, "images/editing/expand", None),
        (b"GET /v1/images/generations?pageNum=1", GENERATIONS, LIST, "images/generations", None),
        (b"GET /v1/images/generations/", GENERATIONS + b"/", LIST, "images/generations", None),
        (b"GET /v1/novel/family/8", b"/v1/novel/family/8", QUERY, "novel/family", "8"),
        (b"GET /v1/novel/family", b"/v1/novel/family", LIST, "novel/family", None),
        (b"GET /v1/novel/made/family?pageNum=1", b"/v1/novel/made/family", LIST, "novel/made/family", None),
        (b"GET /v1/images/generations/8?pageNum=1", GENERATIONS + b"/8", QUERY, "images/generations", "8"),
        (b"DELETE /v1/images/generations/8", GENERATIONS + b"/8", OTHER, None, None),
        (b"GET /tasks?task_ids=1,2", b"/tasks", QUERY, None, None),
        (b"GET /tasks?external_task_ids=a", b"/tasks", QUERY, None, None),
        (b"GET /kling/tasks?task_ids=1", b"/tasks", QUERY, None, None),
        (b"GET /tasks", b"/tasks", LIST, None, None),
        (b"POST /tasks", b"/tasks", LIST, None, None),
        (b"POST /solutions", b"/solutions", LIST, None, None),
        (b"PUT /tasks", b"/tasks", OTHER, None, None),
        (b"GET /account/costs?start_time=1", b"/account/costs", OTHER, None, None),
        (b"GET /a/b/c/d/e", b"/a/b/c/d/e", OTHER, None, None),
        (b"GET /kling", b"/kling", OTHER, None, None),
    ],
)
def test_a_path_goes_on_as_it_came_and_says_what_is_wanted(
    request_line: bytes, goes_on: bytes, kind: GatewayKind, family: str | None, identifier: str | None
) -> None:
    method, target = request_line.decode("ascii").split()
    path, _, query = target.encode().partition(b"?")

    assert is_klings(path)
    assert read_path(method, path, query) == KlingPath(goes_on, kind, family, identifier)


@pytest.mark.parametrize(
    "path",
    [
        *(
            b"/v1/images/generations/" + segment
            for segment in (b"%2F", b"a%2fb", b"%5C", b"a%5cb", b"\\", b"%00")
        ),
        *(
            b"/v1/images/" + segment + b"/8"
            for segment in (b".", b"..", b"%2e", b"%2E%2e", b".%2e", b"..;a", b"%2e;")
        ),
        *(
            b"/v1/images/generations/" + segment
            for segment in (b"%", b"%2", b"%zz", b"a b", b"\xff", b"a\rb", b"#")
        ),
        b"/v1//images",
        b"/v1/images/generations//",
        b"/a/b/c/d/e/f",
        b"/kling/kling/" + b"a/" * 5,
        b"/kling/api/tasks",
        b"/kling/callbacks/token",
        b"/kling//v1/images",
        b"/v1/" + b"a" * 2048,
    ],
)
def test_a_path_that_a_server_could_read_in_another_way_does_not_go_on(path: bytes) -> None:
    assert read_path("GET", path, b"") is None


@pytest.mark.parametrize("query", [b"a=\xff", b"a=\n", b"a= b", b"\0"])
def test_a_query_that_is_no_part_of_a_url_does_not_go_on(query: bytes) -> None:
    assert read_path("GET", GENERATIONS, query) is None


@pytest.mark.parametrize(
    "path",
    [
        b"",
        b"/",
        b"//v1/images",
        b"/api/tasks",
        b"/%61pi/tasks",
        b"/callbacks/x",
        b"/files/a/b",
        b"/console",
        b"/metrics",
    ],
)
def test_a_path_of_our_own_is_never_klings(path: bytes) -> None:
    assert not is_klings(path)
