"""Forwards: messages to applications about their tasks. `tables/forwards` queues a row in the transaction that changes
the task. Here they are claimed and ended (`forwards`), kept bounded (`upkeep`), shown and queued again (`orders`)."""

from archiver.ledger.forwards.forwards import (
    LEASE_SECONDS,
    DueConsumers,
    ForwardContent,
    ForwardLease,
    Forwards,
)
from archiver.ledger.forwards.orders import ForwardOrders, ForwardView, SendProgress
from archiver.ledger.forwards.upkeep import TRIED_MS, ForwardUpkeep

__all__ = [
    "LEASE_SECONDS",
    "TRIED_MS",
    "DueConsumers",
    "ForwardContent",
    "ForwardLease",
    "ForwardOrders",
    "ForwardUpkeep",
    "ForwardView",
    "Forwards",
    "SendProgress",
]
