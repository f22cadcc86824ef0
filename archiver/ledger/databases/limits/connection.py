"""A connection of psycopg with an end to each wait. Only a ledger on PostgreSQL imports it: psycopg takes 9 MB."""

import math
import time
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen

_Value = TypeVar("_Value")


class LimitedConnection(psycopg.Connection[Any]):
    """A connection that closes itself when an answer has not come in time."""

    answer_by = math.inf
    """When the server must have answered (`time.monotonic`)."""
    warnings = 0
    """The server's warnings since `hear_unreplicated` began."""

    def wait(self, gen: PQGen[_Value], interval: float = 0.1, timeout: float | None = None) -> _Value:
        """Wait for an answer until `answer_by`."""
        if timeout is None and self.answer_by < math.inf:
            timeout = max(0.0, self.answer_by - time.monotonic())
        try:
            return super().wait(gen, interval, timeout)
        except psycopg.OperationalError:
            if time.monotonic() >= self.answer_by:
                self.close()  # else an answer that comes late would be taken for the next one's
            raise
