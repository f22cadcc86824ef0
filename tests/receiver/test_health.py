"""`/healthz`, `/readyz` and `/metrics`."""

import threading

import pytest

from archiver.failures import LedgerUnavailable
from receiver import health
from receiver.app import AppParts
from tests.harness.daemons import until
from tests.harness.edge import READY, SECONDS_MAX, client


def refuse() -> None:
    raise LedgerUnavailable("locked", what_to_do="Unlock it.")


def test_healthz_is_fine_whatever_else_is_not(parts: AppParts) -> None:
    with client(parts, probe=refuse, draining=lambda: True) as running:
        assert running.get("/healthz").status_code == 200
        assert running.head("/healthz").status_code == 200


def test_healthz_is_503_where_a_thread_hangs_that_archiving_depends_on_and_callbacks_are_taken_on(
    parts: AppParts,
) -> None:
    with client(parts, stalled=lambda: ["verify-loop"]) as running:
        answer = running.get("/healthz")
        ready = running.get("/readyz")

    assert (answer.status_code, answer.json()) == (503, {"status": "stalled", "loops": ["verify-loop"]})
    assert ready.status_code == 200


def test_readyz_is_200_while_callbacks_can_be_committed(parts: AppParts) -> None:
    with client(parts) as running:
        answer = running.get("/readyz")

    assert (answer.status_code, answer.json()) == (200, READY)


def test_degraded_parts_are_listed_and_do_not_make_it_unready(parts: AppParts) -> None:
    holds = [{"stage": "archive", "reason": "bucket_missing"}]
    with client(parts, degraded=lambda: holds) as running:
        answer = running.get("/readyz")

    assert (answer.status_code, answer.json()) == (200, READY | {"degraded": holds})


def test_readyz_is_503_when_the_ledger_cannot_commit(parts: AppParts) -> None:
    with client(parts, probe=refuse, degraded=refuse) as running:
        answer = running.get("/readyz")

    found = answer.json()
    assert (answer.status_code, found["ready"], found["committing"]) == (503, False, False)
    assert [problem["code"] for problem in found["degraded"]] == ["door_closed"]
    assert "Unlock it." in found["degraded"][0]["what_to_do"]


def test_readings_that_hang_cost_the_time_of_one(parts: AppParts, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of the two ends only once the other has begun."""
    monkeypatch.setattr(health, "READING_SECONDS_MAX", SECONDS_MAX)
    together = threading.Barrier(2)

    def hang() -> list[object]:
        together.wait(SECONDS_MAX / 2)
        return []

    with client(parts, probe=hang, degraded=hang) as running:
        assert running.get("/readyz").status_code == 200


def test_readyz_is_503_while_draining(parts: AppParts) -> None:
    with client(parts, draining=lambda: True) as running:
        answer = running.get("/readyz")

    assert (answer.status_code, answer.json()) == (503, READY | {"ready": False, "draining": True})


def test_a_probe_that_fails_late_says_why_at_the_next_question(
    parts: AppParts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "READING_SECONDS_MAX", 0.05)
    gates, failed = [threading.Event(), threading.Event()], threading.Event()
    begun = iter(gates)

    def refuse_late() -> None:
        next(begun).wait(SECONDS_MAX)
        failed.set()
        refuse()

    with client(parts, probe=refuse_late) as running:
        assert "Unlock it." not in running.get("/readyz").text
        gates[0].set()
        assert failed.wait(SECONDS_MAX)
        until(lambda: "Unlock it." in running.get("/readyz").text, what="the reason")
        gates[1].set()


def test_a_probe_that_hangs_is_503_and_is_not_started_twice(
    parts: AppParts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "READING_SECONDS_MAX", 0.05)
    gate, probes = threading.Event(), []

    def hang() -> None:
        probes.append(1)
        assert gate.wait(SECONDS_MAX)

    with client(parts, probe=hang) as running:
        answers = [running.get("/readyz").status_code for _ in range(3)]
        until(lambda: probes, what="the first probe to begin")
        gate.set()

    assert answers == [503, 503, 503]
    assert len(probes) == 1


def test_metrics_are_refreshed_before_they_are_read(parts: AppParts) -> None:
    def refresh() -> None:
        parts.metrics.tasks.labels(account="a", state="lost").set(7)

    with client(parts, refresh_metrics=refresh) as running:
        answer = running.get("/metrics")

    assert answer.status_code == 200
    assert answer.headers["content-type"] == parts.metrics.render()[1]
    assert 'kling_tasks{account="a",state="lost"} 7.0' in answer.text


def test_metrics_are_served_when_they_cannot_be_refreshed(parts: AppParts) -> None:
    with client(parts, refresh_metrics=refuse) as running:
        answer = running.get("/metrics")

    assert answer.status_code == 200
    assert "kling_build_info" in answer.text


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
def test_health_paths_take_get_and_head_only(parts: AppParts, path: str) -> None:
    with client(parts) as running:
        answer = running.post(path)

    assert answer.status_code == 405
    assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD"}
    assert answer.json()["code"] == 1202
