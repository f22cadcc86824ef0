"""Paths of creates that Kling has lately refused for their callback URL."""

import time
from collections.abc import Callable, Mapping

from archiver.ledger.gateway_creates.creates import CALLBACKS_REFUSED_MS


class RefusedUrls:
    """By account. After a day the next create has a callback URL again: Kling may have failed to reach our door for a
    minute only. Until then polls and sweeps find the tasks of the path."""

    def __init__(
        self, left_ms: Mapping[tuple[str, str], int], *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """`left_ms`: (account, path) → for how many milliseconds more."""
        self._monotonic = monotonic
        now = monotonic()
        self._until = {known: now + milliseconds / 1000 for known, milliseconds in left_ms.items()}

    def covers(self, account: str, path: str) -> bool:
        """Whether a create at `path` goes without a callback URL."""
        until = self._until.get((account, path))
        return until is not None and self._monotonic() < until

    def add(self, account: str, path: str) -> None:
        """Kling has just refused one, and taken the same create without."""
        self._until[account, path] = self._monotonic() + CALLBACKS_REFUSED_MS / 1000
