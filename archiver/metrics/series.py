"""Metrics of the Prometheus library whose labels are bounded."""

from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

import prometheus_client

from archiver.metrics.bounds import Bound

_Metric = TypeVar("_Metric")


class Labelled(Generic[_Metric]):
    """A metric with bounded label values."""

    def __init__(self, series: Callable[..., _Metric], **bounds: Bound) -> None:
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


class Mirror(Labelled[prometheus_client.Gauge]):
    """A gauge whose series come and go: a series without a value is removed."""

    def __init__(self, gauge: prometheus_client.Gauge, **bounds: Bound) -> None:
        super().__init__(gauge.labels, **bounds)
        self._gauge = gauge
        self._shown: set[tuple[str, ...]] = set()

    def show(self, values: Mapping[tuple[str, ...], float]) -> None:
        """Show these values and no others. Their keys are label values in the order of the labels. One thread."""
        bounds = self._bounds.values()
        bounded: dict[tuple[str, ...], float] = {}
        for key, value in values.items():
            labels = tuple(bound(label) for bound, label in zip(bounds, key, strict=True))
            bounded[labels] = bounded.get(labels, 0) + value
        for labels, value in bounded.items():
            self._gauge.labels(*labels).set(value)
        for labels in self._shown - bounded.keys():
            self._gauge.remove(*labels)
        self._shown = set(bounded)
