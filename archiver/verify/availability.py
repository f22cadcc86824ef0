"""Remembers which endpoints this API does not offer: gateways often serve queries for one task only (API.md 9).

1. A 404 or 405 makes an endpoint unavailable. An endpoint that has answered before needs `STRIKES` of them.
2. HTML may come from a firewall or a maintenance page. It makes an endpoint unavailable after `STRIKES`, and only one
   that has never answered.
3. A refused right to `/tasks` (1103) counts as a 404: the families' own paths remain.
4. An unavailable endpoint is asked again after ten minutes, then ever more rarely, down to once a day: a wrong verdict
   must not cost the hours that a task has left.
"""

import dataclasses
import enum
import threading
from collections.abc import Callable

from archiver import log
from archiver.failures import (
    ApiAnswerUnreadable,
    ApiBadParameter,
    ApiForbidden,
    ApiPageUnreadable,
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
PAUSE_MS_MAX = DAY_MS
BACK_OFF_MS_MIN = 30_000
BACK_OFF_MS_MAX = 10 * 60 * 1000


class Event(enum.Enum):
    """What an endpoint did."""

    ANSWERED = enum.auto()
    SWEPT = enum.auto()
    """The ledger remembers a finished sweep of it."""
    NOT_OFFERED = enum.auto()
    NOT_UNDERSTOOD = enum.auto()
    """It answered in an undocumented form, or called the request invalid."""
    REFUSED_OTHERWISE = enum.auto()
    """The reason may have nothing to do with this endpoint."""


@dataclasses.dataclass(frozen=True, slots=True)
class EndpointStatus:
    """Times are Unix ms."""

    has_answered: bool = False
    strikes: int = 0
    struck_at: int | None = None
    refused_at: int | None = None
    """When it last refused; None while it counts as offered."""
    pause_ms: int = PAUSE_MS_MIN
    backed_off_until: int = 0
    back_off_ms: int = 0

    def is_unavailable(self, now: int) -> bool:
        # A clock that ran ahead may have written a future time.
        return self.refused_at is not None and 0 <= now - self.refused_at < self.pause_ms

    def may_be_asked(self, now: int) -> bool:
        return now >= self.backed_off_until and not self.is_unavailable(now)


_UNKNOWN = EndpointStatus()


def after(endpoint: EndpointStatus, event: Event, *, now: int) -> EndpointStatus:
    """The endpoint after `event`; the same object where the event changes nothing."""
    match event:
        case Event.ANSWERED:
            return EndpointStatus(has_answered=True)
        case Event.SWEPT:
            return dataclasses.replace(endpoint, has_answered=True)
        case Event.REFUSED_OTHERWISE:
            back_off_ms = min(max(2 * endpoint.back_off_ms, BACK_OFF_MS_MIN), BACK_OFF_MS_MAX)
            return dataclasses.replace(endpoint, backed_off_until=now + back_off_ms, back_off_ms=back_off_ms)
        case Event.NOT_OFFERED:
            return _after_refusal(endpoint, is_proof=not endpoint.has_answered, now=now)
        case Event.NOT_UNDERSTOOD:
            return endpoint if endpoint.has_answered else _after_refusal(endpoint, is_proof=False, now=now)


def _after_refusal(endpoint: EndpointStatus, *, is_proof: bool, now: int) -> EndpointStatus:
    if endpoint.refused_at is not None:
        pause_ms = min(2 * endpoint.pause_ms, PAUSE_MS_MAX)
        return dataclasses.replace(endpoint, refused_at=now, pause_ms=pause_ms)
    if not is_proof:
        if endpoint.struck_at is not None and now - endpoint.struck_at < STRIKE_MS_MIN:
            return endpoint
        endpoint = dataclasses.replace(endpoint, strikes=endpoint.strikes + 1, struck_at=now)
        if endpoint.strikes < STRIKES:
            return endpoint
    return dataclasses.replace(endpoint, refused_at=now, pause_ms=PAUSE_MS_MIN)


class Availability:
    """The endpoints of one account: families (their lists), `tasks/all` and `solutions/all`. Thread-safe.

    The ledger keeps which are unavailable, for `status` and the next process. All methods raise LedgerUnavailable.
    """

    def __init__(self, *, account: str, ledger: Ledger, now: Callable[[], int]) -> None:
        self._account = account
        self._ledger = ledger
        self._now = now
        self._lock = threading.Lock()
        self._endpoints: dict[str, EndpointStatus] | None = None

    def forget(self) -> None:
        """Go by what the ledger says from now on."""
        with self._lock:
            self._endpoints = None

    def is_unavailable(self, name: str) -> bool:
        """Whether `name` is not offered, and its pause still runs."""
        return self._endpoint(name).is_unavailable(self._now())

    def may_ask(self, name: str) -> bool:
        """Whether `name` is neither unavailable nor backed off."""
        return self._endpoint(name).may_be_asked(self._now())

    def has_answered(self, name: str) -> bool:
        """Whether `name` has answered this process, or a sweep of it ever finished."""
        self._load_history(name)
        return self._endpoint(name).has_answered

    def back_off(self, name: str) -> None:
        """Back off: 30 s, doubling with every refusal, at most 10 min."""
        self._change(name, Event.REFUSED_OTHERWISE)

    def answered(self, name: str) -> None:
        """Note that `name` answered as documented."""
        before, _ = self._change(name, Event.ANSWERED)
        if before.refused_at is not None:
            self._ledger.availability.note(account=self._account, name=name, unavailable_at=None)
            log.get().info("endpoint.found", account=self._account, name=name)

    def refused(self, name: str, error: Failure) -> bool:
        """Note that `name` answered with `error`. True when that makes it unavailable, or confirms it."""
        event = _event_of(name, error)
        if event is None:
            return False
        self._load_history(name)
        before, endpoint = self._change(name, event)
        if endpoint is before or endpoint.refused_at is None:
            return False
        self._ledger.availability.note(account=self._account, name=name, unavailable_at=endpoint.refused_at)
        if before.refused_at is None:
            log.get().warning(
                "endpoint.unoffered",
                account=self._account,
                name=name,
                message=str(error),
                what_to_do=NotOffered.what_to_do,
            )
        return True

    def _endpoint(self, name: str) -> EndpointStatus:
        with self._lock:
            return self._known().get(name, _UNKNOWN)

    def _load_history(self, name: str) -> None:
        if self._endpoint(name).has_answered:
            return
        if self._ledger.sweeps.memory(account=self._account, family=name).last_success_at is not None:
            self._change(name, Event.SWEPT)

    def _change(self, name: str, event: Event) -> tuple[EndpointStatus, EndpointStatus]:
        with self._lock:
            endpoints = self._known()
            before = endpoints.get(name, _UNKNOWN)
            endpoints[name] = after(before, event, now=self._now())
            return before, endpoints[name]

    def _known(self) -> dict[str, EndpointStatus]:
        if self._endpoints is None:
            refused = self._ledger.availability.unavailable(account=self._account)
            self._endpoints = {
                name: EndpointStatus(refused_at=refused_at) for name, refused_at in refused.items()
            }
        return self._endpoints


def _event_of(name: str, error: Failure) -> Event | None:
    if isinstance(error, ApiPageUnreadable):
        return None  # the list has rows
    if isinstance(error, NotOffered):
        return Event.NOT_OFFERED
    if isinstance(error, ApiForbidden) and name in COLLECTION_SWEEPS.values():
        return Event.NOT_OFFERED
    if isinstance(error, (ApiAnswerUnreadable, ApiBadParameter, ApiRequestInvalid)):
        return Event.NOT_UNDERSTOOD
    return None
