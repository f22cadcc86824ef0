"""Every metric of the contract. The only module that uses the Prometheus library.

1. No globals: each `Metrics()` has its own registry.
2. No label grows without bound. Fixed labels accept their declared values. A family or an API code must match its
   pattern and be among the first `DISTINCT_VALUES_MAX`. Other values count as `other`, so a task id never becomes a
   series.
"""

import enum
import re
import threading
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

import prometheus_client
from prometheus_client import exposition

from archiver import failures, model
from archiver.version import VERSION

OTHER = "other"
NOTHING_YET = float("nan")
"""Of a timestamp before its first event: NaN keeps an alert on ``time() - x > …`` quiet, a zero would fire it."""
DISTINCT_VALUES_MAX = 100

_API_CODE = re.compile(r"[0-9]{1,6}|http_[0-9]{3}|timeout|connection")
_Metric = TypeVar("_Metric")
_Bound = Callable[[str], str]


class CallbackResult(enum.StrEnum):
    """The first two are those of `model.CallbackOutcome`."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    MALFORMED = "malformed"
    UNAUTHORIZED = "unauthorized"
    BAD_SIGNATURE = "bad_signature"
    TOO_LARGE = "too_large"
    UNAVAILABLE = "unavailable"


class Endpoint(enum.StrEnum):
    """Kinds of request to the API."""

    QUERY = "query"
    LIST = "list"
    TASKS = "tasks"
    CREATE = "create"


class Labelled(Generic[_Metric]):
    """A metric with bounded label values."""

    def __init__(self, series: Callable[..., _Metric], **bounds: _Bound) -> None:
        self._series = series
        self._bounds = bounds

    def labels(self, **values: str) -> _Metric:
        """The series of these values; one that is out of bounds becomes `other`.

        Raises:
            ValueError: these are not the metric's labels.
        """
        if values.keys() != self._bounds.keys():
            raise ValueError(f"labels are {', '.join(self._bounds)}, not {', '.join(values)}")
        bounded = {name: bound(values[name]) for name, bound in self._bounds.items()}
        return self._series(**bounded)


class Metrics:
    """Every metric; an attribute is the metric's name without `kling_`. Thread-safe.

    With labels: ``metrics.callbacks_total.labels(result="accepted").inc()``; without:
    ``metrics.tasks_lost_total.inc()``. Timestamps are Unix seconds.
    """

    def __init__(self, *, version: str | None = None) -> None:
        # Else each counter has a second series, `_created`.
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]  # untyped in the library
        self.registry = prometheus_client.CollectorRegistry()
        prometheus_client.ProcessCollector(registry=self.registry)
        self._build_callbacks()
        self._build_api()
        self._build_archive()
        self._build_watch(version or VERSION)

    def render(self) -> tuple[bytes, str]:
        """Body and content type of `GET /metrics`."""
        return prometheus_client.generate_latest(self.registry), exposition.CONTENT_TYPE_PLAIN_0_0_4

    def _build_callbacks(self) -> None:
        self.callbacks_total = self._counter(
            "callbacks_total", "Callbacks by how they were answered.", result=only(CallbackResult)
        )
        for result in CallbackResult:
            self.callbacks_total.labels(result=result)
        self.callback_ack_seconds = prometheus_client.Histogram(
            "kling_callback_ack_seconds",
            "From the first byte of a callback to its answer.",
            buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
            registry=self.registry,
        )

    def _build_api(self) -> None:
        self.api_requests_total = self._counter(
            "api_requests_total",
            "Requests to the Kling API by the code that came back.",
            endpoint=only(Endpoint),
            code=first_matching(_API_CODE),
        )
        self.verifications_total = self._counter(
            "verifications_total",
            "What the API said of the tasks it was asked about.",
            result=only(("running", "succeeded", "failed", "unknown")),
        )

    def _build_archive(self) -> None:
        self.assets_archived_total = self._counter(
            "assets_archived_total", "Files put into the bucket.", family=first_matching(model.FAMILY)
        )
        self.asset_bytes_total = self._counter(
            "asset_bytes_total", "Bytes put into the bucket.", family=first_matching(model.FAMILY)
        )
        self.archive_seconds = prometheus_client.Histogram(
            "kling_archive_seconds",
            "From the task's last change upstream (updated_at) to its manifest.",
            buckets=(2, 5, 10, 30, 60, 300, 900, 3600, 6 * 3600, 86400, 7 * 86400, 30 * 86400),
            registry=self.registry,
        )

    def _build_watch(self, version: str) -> None:
        self.tasks = self._gauge("tasks", "Tasks in the ledger by state.", state=only(model.State))
        for state in model.State:
            self.tasks.labels(state=state)
        self.failures_total = self._counter(
            "failures_total",
            "Failed attempts by stage and reason.",
            stage=only(model.Stage),
            reason=only(failure_reasons()),
        )
        self.missed_callbacks_total = self._counter(
            "missed_callbacks_total",
            "Finished tasks that the sweep found and no callback named.",
            family=first_matching(model.FAMILY),
        )
        self.tasks_lost_total = prometheus_client.Counter(
            "kling_tasks_lost_total",
            "Tasks that succeeded upstream and were not archived by their deadline.",
            registry=self.registry,
        )
        self._build_timestamps(version)

    def _build_timestamps(self, version: str) -> None:
        self.earliest_deadline_timestamp_seconds = prometheus_client.Gauge(
            "kling_earliest_deadline_timestamp_seconds",
            "Nearest deadline of a task not yet archived; NaN when none waits.",
            registry=self.registry,
        )
        self.last_callback_timestamp_seconds = prometheus_client.Gauge(
            "kling_last_callback_timestamp_seconds",
            "When the last callback was accepted; NaN before the first.",
            registry=self.registry,
        )
        self.earliest_deadline_timestamp_seconds.set(NOTHING_YET)
        self.last_callback_timestamp_seconds.set(NOTHING_YET)
        self.last_sweep_success_timestamp_seconds = self._gauge(
            "last_sweep_success_timestamp_seconds",
            "When a sweep of the family last came to its end.",
            family=first_matching(model.FAMILY),
        )
        build = self._gauge("build_info", "1, labelled with the version that runs.", version=str)
        build.labels(version=version).set(1)

    def _counter(self, name: str, meaning: str, **bounds: _Bound) -> Labelled[prometheus_client.Counter]:
        counter = prometheus_client.Counter(f"kling_{name}", meaning, tuple(bounds), registry=self.registry)
        return Labelled(counter.labels, **bounds)

    def _gauge(self, name: str, meaning: str, **bounds: _Bound) -> Labelled[prometheus_client.Gauge]:
        gauge = prometheus_client.Gauge(f"kling_{name}", meaning, tuple(bounds), registry=self.registry)
        return Labelled(gauge.labels, **bounds)


def only(values: Iterable[str]) -> _Bound:
    """A bound for values known beforehand."""
    known = frozenset(str(value) for value in values)
    return lambda value: str(value) if value in known else OTHER


def first_matching(pattern: re.Pattern[str], *, count_max: int = DISTINCT_VALUES_MAX) -> _Bound:
    """A bound for values from settings or from outside: the first `count_max` that match."""
    seen: set[str] = set()
    lock = threading.Lock()

    def bound(value: str) -> str:
        if not pattern.fullmatch(value):
            return OTHER
        with lock:
            if value not in seen and len(seen) >= count_max:
                return OTHER
            seen.add(value)
        return value

    return bound


def failure_reasons() -> frozenset[str]:
    found = {failures.Failure.reason}
    waiting = [failures.Failure]
    while waiting:
        subclasses = waiting.pop().__subclasses__()
        found.update(failure.reason for failure in subclasses)
        waiting.extend(subclasses)
    return frozenset(found)
