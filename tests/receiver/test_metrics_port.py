"""KLING_METRICS_PORT: what only operators may see has a port of its own."""

import socket

import httpx2
import pytest

from archiver.config.settings import Settings, SettingsError
from receiver.server.server import CannotListen
from tests.harness.edge import TOKEN, Edge, legacy_body
from tests.s3_servers.process import free_port


def get(url: str, path: str) -> httpx2.Response:
    return httpx2.get(f"{url}{path}", trust_env=False, timeout=20)


def test_metrics_and_details_are_on_their_port_and_nothing_else_is() -> None:
    port = free_port()
    with Edge(metrics_port=port) as edge:
        inside, outside = f"http://127.0.0.1:{port}", edge.server.url

        assert "kling_callbacks_total" in get(inside, "/metrics").text
        details = get(inside, "/readyz")
        assert (details.status_code, details.json().keys()) == (
            200,
            {"ready", "draining", "committing", "degraded"},
        )
        for url in (inside, outside):
            assert get(url, "/healthz").json() == {"status": "ok"}
        assert (get(outside, "/readyz").status_code, get(outside, "/readyz").json()) == (200, {"ready": True})
        hidden, nowhere = get(outside, "/metrics"), get(outside, "/nowhere")
        assert (hidden.status_code, hidden.json()["message"]) == (404, nowhere.json()["message"])
        assert edge.post_callback(legacy_body("t1")).status_code == 200
        for path in (
            f"/callbacks/{TOKEN}/images/generations",
            "/console",
            "/api/tasks",
            "/v1/images/generations",
        ):
            assert get(inside, path).status_code == 404, path


def test_a_process_that_drains_is_not_ready_on_either_port() -> None:
    port = free_port()
    with Edge(metrics_port=port) as edge:
        edge.draining.set()

        assert get(f"http://127.0.0.1:{port}", "/readyz").status_code == 503
        answer = get(edge.server.url, "/readyz")
        assert (answer.status_code, answer.json()) == (503, {"ready": False})


def test_without_a_port_of_its_own_everything_is_on_one() -> None:
    with Edge() as edge:
        assert "kling_callbacks_total" in get(edge.server.url, "/metrics").text
        assert "degraded" in get(edge.server.url, "/readyz").json()


def test_a_port_for_metrics_that_is_taken_is_a_sentence_and_leaves_the_other_one_free() -> None:
    port = free_port()
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(CannotListen, match="cannot listen on"),
    ):
        Edge(port=port, metrics_port=taken.getsockname()[1])
    socket.create_server(("127.0.0.1", port)).close()


def test_the_port_of_callbacks_is_no_port_for_metrics() -> None:
    for environ in (
        {"KLING_METRICS_PORT": "8080"},
        {"KLING_PORT": "9000", "KLING_METRICS_PORT": "9000"},
    ):
        with pytest.raises(SettingsError, match="KLING_METRICS_PORT is the port that callbacks come to"):
            Settings.load(environ, need=[])

    assert Settings.load({"KLING_METRICS_PORT": "9100"}, need=[]).metrics_port == 9100
