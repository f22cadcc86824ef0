"""Which questions this API does not offer at all, so that nobody goes on asking them: gateways often pass on questions
for one task and nothing else (archiver/kling/API.md 9).

Two rules:

1. What has ever answered is offered: its failures are outages, unless it says 404 or 405 `STRIKES` times in a row.
2. What is not offered is said once, written down for `status`, and asked for again after ten minutes, then ever more
   rarely, down to once a day: a mistake made here in passing does not cost the hours that a task may have left.

A key without the right to `/tasks` (1103) is as good as an API without it: there are the families' own paths.

HTML where JSON should be is no proof (a firewall, a maintenance page): it takes `STRIKES` of them, some time apart, and
an endpoint that has never answered.
"""

import threading
from collections.abc import Callable

from archiver import log
from archiver.failures import (
    ApiAnswerUnreadable,
    ApiBadParameter,
    ApiForbidden,
    ApiRequestInvalid,
    Failure,
    NotOffered,
)
from archiver.families import COLLECTION_SWEEPS
from archiver.ledger import Ledger
from archiver.model import DAY_MS

STRIKES = 3
STRIKE_MS_MIN = 10_000
"""Refusals closer together than this count as one."""

PAUSE_MS_MIN = 10 * 60 * 1000
LEFT_ALONE_MS_MIN = 30_000

_SOFT = (ApiAnswerUnreadable, ApiBadParameter, ApiRequestInvalid)


class Availability:
    """Remembers for one account; thread-safe. Names are families (their lists), `tasks/all` and
    `solutions/all`. `now` gives Unix ms."""

    def __init__(self, *, account: str, ledger: Ledger, now: Callable[[], int]) -> None:
        self._account = account
        self._ledger = ledger
        self._now = now
        self._lock = threading.Lock()
        self._known: dict[str, int] | None = None
        self._answered: set[str] = set()
        self._strikes: dict[str, tuple[int, int]] = {}
        self._left_alone: dict[str, tuple[int, int]] = {}
        """Until when (Unix ms), and for how long in ms."""
        self._pauses: dict[str, int] = {}
        """How long what is not offered is left alone, in ms; the least where it is not said."""

    def is_unavailable(self, name: str) -> bool:
        """Whether it is known not to be offered, and it is not time to ask again. Raises LedgerUnavailable."""
        at = self._unoffered().get(name)
        # Written down by a clock that was ahead, it is no reason to wait for that time.
        return at is not None and 0 <= self._now() - at < self._pauses.get(name, PAUSE_MS_MIN)

    def may_ask(self, name: str) -> bool:
        """Whether it is offered, as far as is known, and not to be left alone just now."""
        until, _ = self._left_alone.get(name, (0, 0))
        return self._now() >= until and not self.is_unavailable(name)

    def back_off(self, name: str) -> None:
        """It was refused for a reason that is none of its own, perhaps: for half a minute, and twice as long each time
        that it is refused again, at most `PAUSE_MS_MIN`, nobody need be in a hurry to ask it."""
        with self._lock:
            _, pause = self._left_alone.get(name, (0, LEFT_ALONE_MS_MIN // 2))
            pause = min(2 * pause, PAUSE_MS_MIN)
            self._left_alone[name] = self._now() + pause, pause

    def has_answered(self, name: str) -> bool:
        """Whether any of it has answered since this process began, or a sweep of it ever came to its end."""
        if name in self._answered:
            return True
        return self._ledger.sweep_memory(account=self._account, family=name).last_success_at is not None

    def answered(self, name: str) -> None:
        """It has answered as documented."""
        with self._lock:
            self._answered.add(name)
            self._strikes.pop(name, None)
            self._pauses.pop(name, None)
            self._left_alone.pop(name, None)
        if self._unoffered().pop(name, None) is not None:
            self._ledger.note_offer(account=self._account, name=name, lacking_at=None)
            log.get().info("endpoint.found", account=self._account, name=name)

    def refused(self, name: str, error: Failure) -> bool:
        """It was answered with `error`; whether it counts as not offered from now on. Said where that is news."""
        forbidden = isinstance(error, ApiForbidden) and name in COLLECTION_SWEEPS.values()
        if not (forbidden or isinstance(error, (NotOffered, *_SOFT))):
            return False
        known = self.has_answered(name)
        if isinstance(error, _SOFT) and known:
            return False
        now = self._now()
        is_news = name not in self._unoffered()
        if is_news and (known or isinstance(error, _SOFT)) and self._strike(name, now=now) < STRIKES:
            return False
        pause = PAUSE_MS_MIN if is_news else 2 * self._pauses.get(name, PAUSE_MS_MIN)
        self._pauses[name] = min(pause, DAY_MS)
        self._unoffered()[name] = now
        self._ledger.note_offer(account=self._account, name=name, lacking_at=now)
        if is_news:
            log.get().warning(
                "endpoint.unoffered",
                account=self._account,
                name=name,
                message=str(error),
                what_to_do=NotOffered.what_to_do,
            )
        return True

    def _unoffered(self) -> dict[str, int]:
        with self._lock:
            if self._known is None:
                self._known = self._ledger.unoffered(account=self._account)
            return self._known

    def _strike(self, name: str, *, now: int) -> int:
        with self._lock:
            count, at = self._strikes.get(name, (0, -STRIKE_MS_MIN))
            if now - at >= STRIKE_MS_MIN:
                self._strikes[name] = count, at = count + 1, now
            return count
