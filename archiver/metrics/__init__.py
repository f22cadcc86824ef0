"""Every metric of the contract. The only package that uses the Prometheus library.

1. No globals: each `Metrics()` has its own registry.
2. No label grows without bound. Fixed labels accept their declared values. A family or an API code must match its
   pattern and be among the first `DISTINCT_VALUES_MAX`. Other values count as `other`, so a task id never becomes a
   series.
"""

from archiver.metrics.bounds import DISTINCT_VALUES_MAX, OTHER, failure_reasons
from archiver.metrics.registry import Metrics
from archiver.metrics.results import (
    CallbackResult,
    CreateResult,
    Endpoint,
    ForwardResult,
    GatewayKind,
    LinkResult,
)

__all__ = [
    "DISTINCT_VALUES_MAX",
    "OTHER",
    "CallbackResult",
    "CreateResult",
    "Endpoint",
    "ForwardResult",
    "GatewayKind",
    "LinkResult",
    "Metrics",
    "failure_reasons",
]
