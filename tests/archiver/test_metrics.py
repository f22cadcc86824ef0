"""The metrics contract: names, labels, and no series that the outside can multiply."""

import importlib.metadata
import math

import pytest
from prometheus_client.parser import text_string_to_metric_families

from archiver import failures
from archiver.metrics import DISTINCT_VALUES_MAX, Metrics


def samples(metrics: Metrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every rendered sample: (name, labels) → value, read back by the reference parser."""
    body, _ = metrics.render()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }


def value(metrics: Metrics, name: str, **labels: str) -> float:
    return samples(metrics)[name, frozenset(labels.items())]


def touched() -> Metrics:
    """Metrics of which each has been used once."""
    metrics = Metrics(version="1.2.3")
    metrics.callbacks_total.labels(result="accepted").inc()
    metrics.callback_ack_seconds.observe(0.01)
    metrics.api_requests_total.labels(endpoint="query", code="0").inc()
    metrics.verifications_total.labels(result="succeeded").inc()
    metrics.tasks.labels(account="a", state="running").set(3)
    metrics.assets_archived_total.labels(family="images/generations").inc()
    metrics.asset_bytes_total.labels(family="images/generations").inc(1024)
    metrics.archive_seconds.observe(5)
    metrics.failures_total.labels(account="a", stage="archive", reason="not_media").inc()
    metrics.missed_callbacks_total.labels(account="a", family="images/generations").inc()
    metrics.tasks_lost_total.inc()
    metrics.forwards.labels(state="waiting").set(1)
    metrics.forward_deliveries_total.labels(result="ok").inc()
    metrics.holds.show({("a", "archive", "bucket_missing"): 1})
    metrics.problems.show({("a", "hold"): 1, ("", "no_door"): 1})
    metrics.clock_skew_seconds.show({("a",): -1.5})
    metrics.earliest_deadline_timestamp_seconds.set(1.0)
    metrics.last_callback_timestamp_seconds.set(2.0)
    metrics.last_sweep_success_timestamp_seconds.labels(account="a", family="images/generations").set(3.0)
    return metrics


def test_every_metric_of_the_contract_is_rendered_with_its_labels_and_none_besides() -> None:
    rendered = {
        (name.removesuffix("_bucket").removesuffix("_sum").removesuffix("_count"), label)
        for name, labels in samples(touched())
        if name.startswith("kling_")
        for label in ({key for key, _ in labels} - {"le"} or {""})
    }

    assert rendered == {
        ("kling_callbacks_total", "result"),
        ("kling_callback_ack_seconds", ""),
        ("kling_forwards", "state"),
        ("kling_forward_deliveries_total", "result"),
        ("kling_api_requests_total", "endpoint"),
        ("kling_api_requests_total", "code"),
        ("kling_verifications_total", "result"),
        ("kling_tasks", "account"),
        ("kling_tasks", "state"),
        ("kling_holds", "account"),
        ("kling_holds", "stage"),
        ("kling_holds", "reason"),
        ("kling_problems", "account"),
        ("kling_problems", "code"),
        ("kling_oldest_unarchived_age_seconds", ""),
        ("kling_clock_skew_seconds", "account"),
        ("kling_assets_archived_total", "family"),
        ("kling_asset_bytes_total", "family"),
        ("kling_gateway_creates_total", "result"),
        ("kling_gateway_unlinked_total", "kind"),
        ("kling_gateway_overhead_seconds", ""),
        ("kling_archive_seconds", ""),
        ("kling_failures_total", "account"),
        ("kling_failures_total", "stage"),
        ("kling_failures_total", "reason"),
        ("kling_missed_callbacks_total", "account"),
        ("kling_missed_callbacks_total", "family"),
        ("kling_tasks_lost_total", ""),
        ("kling_links_total", "result"),
        ("kling_earliest_deadline_timestamp_seconds", ""),
        ("kling_last_callback_timestamp_seconds", ""),
        ("kling_last_sweep_success_timestamp_seconds", "account"),
        ("kling_last_sweep_success_timestamp_seconds", "family"),
        ("kling_build_info", "version"),
    }


def test_counts_are_rendered_as_counted() -> None:
    metrics = touched()

    assert value(metrics, "kling_callbacks_total", result="accepted") == 1
    assert value(metrics, "kling_asset_bytes_total", family="images/generations") == 1024
    assert value(metrics, "kling_tasks", account="a", state="running") == 3
    assert value(metrics, "kling_build_info", version="1.2.3") == 1


def test_the_build_is_the_installed_version_unless_told_otherwise() -> None:
    assert value(Metrics(), "kling_build_info", version=importlib.metadata.version("kling-archiver")) == 1


def test_known_label_values_stand_at_zero_before_anything_happens() -> None:
    metrics = Metrics()

    assert value(metrics, "kling_callbacks_total", result="unavailable") == 0
    assert value(metrics, "kling_tasks_lost_total") == 0


def test_a_time_that_has_not_come_yet_is_the_first_start() -> None:
    frozen = 1_000_000.0
    metrics = Metrics(now=lambda: frozen)

    assert value(metrics, "kling_last_callback_timestamp_seconds") == frozen
    assert value(metrics, "kling_earliest_deadline_timestamp_seconds") == frozen + 30 * 86_400
    assert not any(math.isnan(number) for number in samples(metrics).values())


def test_a_hold_that_ended_has_no_series_any_more() -> None:
    metrics = touched()
    metrics.forwards.labels(state="waiting").set(1)
    metrics.forward_deliveries_total.labels(result="ok").inc()
    metrics.holds.show({("a", "sweep", "api_forbidden"): 2})

    held = {
        dict(labels)["reason"]: number
        for (name, labels), number in samples(metrics).items()
        if name == "kling_holds"
    }
    assert held == {"api_forbidden": 2}


def test_two_objects_share_nothing() -> None:
    one, other = Metrics(), Metrics()
    one.tasks_lost_total.inc()

    assert (value(one, "kling_tasks_lost_total"), value(other, "kling_tasks_lost_total")) == (1, 0)


def test_an_amendment_that_is_dropped_is_counted_by_its_own_reason() -> None:
    metrics = Metrics()
    metrics.failures_total.labels(account="a", stage="archive", reason="amendment_dropped").inc()

    assert (
        value(metrics, "kling_failures_total", account="a", stage="archive", reason="amendment_dropped") == 1
    )


@pytest.mark.parametrize("reason", ["837654321098765432", "not_media\n", "", "\ud800", "x" * 10_000])
def test_a_value_out_of_bounds_is_counted_as_other(reason: str) -> None:
    metrics = Metrics()
    metrics.failures_total.labels(account="a", stage=reason, reason=reason).inc()
    metrics.assets_archived_total.labels(family=reason).inc()

    assert value(metrics, "kling_failures_total", account="a", stage="other", reason="other") == 1
    assert value(metrics, "kling_assets_archived_total", family="other") == 1


def test_a_stranger_who_invents_families_cannot_multiply_the_series() -> None:
    metrics = Metrics()
    for number in range(DISTINCT_VALUES_MAX + 50):
        metrics.missed_callbacks_total.labels(account="a", family=f"images/made-up-{number}").inc()

    series = [name for name, _ in samples(metrics) if name == "kling_missed_callbacks_total"]
    assert len(series) == DISTINCT_VALUES_MAX + 1
    assert value(metrics, "kling_missed_callbacks_total", account="a", family="other") == 50


@pytest.mark.parametrize("code", ["0", "1201", "http_502", "timeout", "connection"])
def test_the_codes_of_the_contract_are_kept(code: str) -> None:
    metrics = Metrics()
    metrics.api_requests_total.labels(endpoint="list", code=code).inc()

    assert value(metrics, "kling_api_requests_total", endpoint="list", code=code) == 1


def test_a_400_digit_code_is_other() -> None:
    metrics = Metrics()
    metrics.api_requests_total.labels(endpoint="query", code="9" * 400).inc()

    assert value(metrics, "kling_api_requests_total", endpoint="query", code="other") == 1


@pytest.mark.parametrize("failure", [failures.Failure, failures.NotMedia, failures.HostRefusing])
def test_every_failure_is_counted_under_its_own_reason(failure: type[failures.Failure]) -> None:
    metrics = Metrics()
    metrics.failures_total.labels(account="a", stage="verify", reason=failure.reason).inc()

    assert value(metrics, "kling_failures_total", account="a", stage="verify", reason=failure.reason) == 1


def test_a_wrong_label_name_is_our_mistake_and_raises() -> None:
    with pytest.raises(ValueError, match="labels are result, not outcome"):
        Metrics().callbacks_total.labels(outcome="accepted")
