"""Connections to PostgreSQL, and transactions, that end in time."""

from archiver.ledger.databases.limits.engine import (
    CONNECT_OPTIONS,
    CONNECT_SECONDS,
    forgo_prepared_if_pooled,
    hear_unreplicated,
    limit_connections,
    limits_of,
    set_limit,
)

__all__ = [
    "CONNECT_OPTIONS",
    "CONNECT_SECONDS",
    "forgo_prepared_if_pooled",
    "hear_unreplicated",
    "limit_connections",
    "limits_of",
    "set_limit",
]
