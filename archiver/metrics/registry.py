"""The registry of one process, with every metric in it."""

import re
import time
from collections.abc import Callable

import prometheus_client
from prometheus_client import exposition

from archiver import model
from archiver.metrics.bounds import (
    Bound,
    account_name,
    account_or_none,
    failure_reasons,
    first_matching,
    only,
)
from archiver.metrics.results import (
    CallbackResult,
    CreateResult,
    Endpoint,
    ForwardResult,
    GatewayKind,
    LinkResult,
)
from archiver.metrics.series import Labelled, Mirror
from archiver.version import VERSION

_HTTP_STATUS = re.compile(r"[1-5][0-9]{2}")
_API_CODE = re.compile(r"[0-9]{1,6}|http_[0-9]{3}|timeout|connection")


class Metrics:
    """Every metric; an attribute is the metric's name without `kling_`. Thread-safe.

    With labels: ``metrics.callbacks_total.labels(result="accepted").inc()``; without:
    ``metrics.tasks_lost_total.inc()``. Timestamps are Unix seconds.

    No gauge is ever NaN: one NaN silences an alert on the `max` or `min` of all accounts. A time that has not come yet
    is the daemon's first start, and the deadline of no task is that of a task made now.
    """

    def __init__(self, *, version: str | None = None, now: Callable[[], float] = time.time) -> None:
        self._started_at = now()
        # Else each counter has a second series, `_created`.
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]  # untyped in the library
        self.registry = prometheus_client.CollectorRegistry()
        prometheus_client.ProcessCollector(registry=self.registry)
        self._build_callbacks()
        self._build_api()
        self._build_gateway()
        self._build_archive()
        self._build_watch(version or VERSION)
        self._build_links()

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
            "Answers of the API about tasks, by the state in them.",
            result=only(("running", "succeeded", "failed", "unknown")),
        )

    def _build_gateway(self) -> None:
        self.gateway_requests_total = self._counter(
            "gateway_requests_total",
            "Requests of the gateway's clients by the HTTP status they were answered with.",
            kind=only(GatewayKind),
            code=first_matching(_HTTP_STATUS),
        )
        self.gateway_overhead_seconds = prometheus_client.Histogram(
            "kling_gateway_overhead_seconds",
            "From the last byte of a client's request to the answer's first, less the time that Kling took.",
            buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
            registry=self.registry,
        )
        self.gateway_creates_total = self._counter(
            "gateway_creates_total", "Creates of the gateway's clients.", result=only(CreateResult)
        )
        for result in CreateResult:
            self.gateway_creates_total.labels(result=result)

        self.gateway_unlinked_total = self._counter(
            "gateway_unlinked_total",
            "Answers to queries and lists that went out with URLs of Kling's: not recorded, or not in time.",
            kind=only(GatewayKind),
        )
        for kind in GatewayKind:
            self.gateway_unlinked_total.labels(kind=kind)

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

    def _build_links(self) -> None:
        self.links_total = self._counter(
            "links_total", "Links that were followed, by where they led.", result=only(LinkResult)
        )
        for result in LinkResult:
            self.links_total.labels(result=result)

    def _build_watch(self, version: str) -> None:
        self.tasks = self._gauge(
            "tasks", "Tasks in the ledger by state.", account=account_name(), state=only(model.State)
        )
        self.forwards = self._gauge(
            "forwards", "Forwards in the ledger by state.", state=only(("waiting", "delivered", "dead"))
        )
        self.forward_deliveries_total = self._counter(
            "forward_deliveries_total",
            "Deliveries of forwards that were tried, by result.",
            result=only(ForwardResult),
        )
        for result in ForwardResult:
            self.forward_deliveries_total.labels(result=result)
        self.holds = self._mirror(
            "holds",
            "Holds: stages that are stopped.",
            account=account_name(),
            stage=only(model.Stage),
            reason=only(failure_reasons()),
        )
        self.problems = self._mirror(
            "problems",
            "What `kling-archiver status --check` finds wrong, by its code.",
            account=account_or_none(),
            code=only(model.PROBLEM_CODES),
        )
        self.failures_total = self._counter(
            "failures_total",
            "Failed attempts by stage and reason.",
            account=account_name(),
            stage=only(model.Stage),
            reason=only(failure_reasons()),
        )
        self.missed_callbacks_total = self._counter(
            "missed_callbacks_total",
            "Finished tasks that the sweep found without a callback.",
            account=account_name(),
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
            "Nearest deadline of a task not yet archived; in 30 days when none waits.",
            registry=self.registry,
        )
        self.last_callback_timestamp_seconds = prometheus_client.Gauge(
            "kling_last_callback_timestamp_seconds",
            "When the last callback was accepted; before the first, the daemon's first start.",
            registry=self.registry,
        )
        self.oldest_unarchived_age_seconds = prometheus_client.Gauge(
            "kling_oldest_unarchived_age_seconds",
            "Age of the oldest succeeded task that is not in the bucket; 0 when there is none.",
            registry=self.registry,
        )
        self.earliest_deadline_timestamp_seconds.set(self._started_at + model.RETENTION_MS / 1000)
        self.last_callback_timestamp_seconds.set(self._started_at)
        self.last_sweep_success_timestamp_seconds = self._gauge(
            "last_sweep_success_timestamp_seconds",
            "When a sweep of the family last came to its end; before the first, the daemon's first start.",
            account=account_name(),
            family=first_matching(model.FAMILY),
        )
        self.clock_skew_seconds = self._mirror(
            "clock_skew_seconds",
            "The API's clock minus this machine's, if the API has sent its time.",
            account=account_name(),
        )
        build = self._gauge("build_info", "1, labelled with the version that runs.", version=str)
        build.labels(version=version).set(1)

    def _counter(self, name: str, meaning: str, **bounds: Bound) -> Labelled[prometheus_client.Counter]:
        counter = prometheus_client.Counter(f"kling_{name}", meaning, tuple(bounds), registry=self.registry)
        return Labelled(counter.labels, **bounds)

    def _gauge(self, name: str, meaning: str, **bounds: Bound) -> Labelled[prometheus_client.Gauge]:
        gauge = prometheus_client.Gauge(f"kling_{name}", meaning, tuple(bounds), registry=self.registry)
        return Labelled(gauge.labels, **bounds)

    def _mirror(self, name: str, meaning: str, **bounds: Bound) -> Mirror:
        return Mirror(
            prometheus_client.Gauge(f"kling_{name}", meaning, tuple(bounds), registry=self.registry), **bounds
        )
