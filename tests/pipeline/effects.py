"""Every effect of the pipeline, found in the code by inspection, and the one place where each of them can go wrong.

An effect is a public method of what stands between the engine and the world: the ledger, the API client, the store, the
fetcher, the spool. `EFFECTS` is all of them but those of `WITHOUT_A_ROW`, which says why. A method that is added is an
effect from then on, and a test (`test_effects`) fails until there is a story in which the pipeline comes by it.
"""

import collections
import copy
import dataclasses
import inspect
import io
from collections.abc import Callable, Iterator, Mapping
from typing import Any, get_type_hints

from archiver.failures import (
    ApiTimeout,
    FetchTimeout,
    LedgerUnavailable,
    SpoolFull,
    StoreUnreachable,
)
from archiver.fetch.fetcher import FetchedFile, Fetcher
from archiver.fetch.spool import Reservation, Spool
from archiver.kling.client import KlingClient
from archiver.ledger import Ledger
from archiver.ledger.part import Part
from archiver.store import Store
from archiver.webhooks.sender import Unanswered, WebhookSender
from tests.harness.engine import Died

PARTS: Mapping[str, type[Part]] = {
    name: kind
    for name, kind in get_type_hints(Ledger).items()
    if isinstance(kind, type) and issubclass(kind, Part)
}
"""The parts of the ledger, by attribute. Each is an owner of its own: `ledger.records`."""

OWNERS: Mapping[str, tuple[type, type[Exception]]] = {
    # name in labels: whose methods, and how they fail
    "ledger": (Ledger, LedgerUnavailable),
    **{f"ledger.{name}": (part, LedgerUnavailable) for name, part in PARTS.items()},
    "client": (KlingClient, ApiTimeout),
    "store": (Store, StoreUnreachable),
    "fetcher": (Fetcher, FetchTimeout),
    "spool": (Spool, SpoolFull),
    "reservation": (Reservation, SpoolFull),
    "sender": (WebhookSender, Unanswered),
}

_FOR_PEOPLE = "read by people and by commands only"
_FOR_PEOPLE_TO_DO = "one transaction of a command, which no worker reads"
_AT_REST = "one transaction of a command or of a start, before or after which there is no work"
_SUBMIT = "of `submit`: how each of its steps goes wrong, create/test_submitter and commands/submit say"
_ALERTS = "of the alert loop, which no task waits for: how each step goes wrong, alerts/test_loop says"
_OF_PROCESSES = "one process has no holds of its own: engine/test_process_holds says how they go wrong"
_DUTIES = "which process works: how each step goes wrong, ledger/test_duties and engine/test_duties say"
_GATEWAYS = "of APIs that do not offer everything: test_gateway says how it goes wrong"
_ENDS = "gives back what ends with the process anyway"
_BOOKED = "a number in memory, which ends with the process; what it can meet, `reserve` and `write` meet too"

WITHOUT_A_ROW: Mapping[str, str] = {
    **dict.fromkeys(
        ("ledger.views.show", "ledger.views.status", "ledger.holds.all", "ledger.views.ids_in"), _FOR_PEOPLE
    ),
    **dict.fromkeys(("ledger.daemons.first_started_at", "ledger.records.states"), _FOR_PEOPLE),
    **dict.fromkeys(
        (
            "ledger.accounts.names",
            "ledger.accounts.stranded",
            "ledger.accounts.rename",
            "ledger.accounts.last_renaming",
            "ledger.accounts.forget_holds",
            "ledger.forwards.set_operator",
        ),
        _AT_REST,
    ),
    **dict.fromkeys(
        ("ledger.registrations.known", "ledger.registrations.withdraw", "client.create"), _SUBMIT
    ),
    **dict.fromkeys(("ledger.alerts.load", "ledger.alerts.save"), _ALERTS),
    "ledger.acknowledgements.acknowledge": _FOR_PEOPLE_TO_DO,
    "ledger.ended_sessions.end": _FOR_PEOPLE_TO_DO,
    "ledger.ended_sessions.has": _FOR_PEOPLE,
    "ledger.acknowledgements.acknowledge_lost": _FOR_PEOPLE_TO_DO,
    "ledger.availability.note": _GATEWAYS,
    "ledger.views.forgotten": _FOR_PEOPLE,
    "ledger.views.tasks": _FOR_PEOPLE,
    "ledger.tombstones.forget": _FOR_PEOPLE_TO_DO,
    "ledger.rebuilding.known": "read by the command `rebuild`",
    "ledger.rebuilding.add": "of the command `rebuild`: ledger/rebuilding says how it goes wrong",
    "ledger.tombstones.ids": "read by sweeps: what is forgotten is not recorded either, as `record` says",
    "ledger.views.known_tasks": "read by the gateway: gateway/queries/recording says how it fails",
    "ledger.gateway_creates.refused_callbacks": "read when the gateway starts: gateway/creates says how it fails",
    **dict.fromkeys(
        (
            "ledger.sweep_requests.request",
            "ledger.sweep_requests.withdraw",
            "ledger.sweep_requests.advance",
            "ledger.sweep_requests.end",
            "ledger.sweep_requests.progress",
        ),
        "of the command `sweep`, which waits for it: sweep/test_requested says how it goes wrong",
    ),
    **dict.fromkeys(
        (
            "ledger.fenced",
            "ledger.duties.take_part",
            "ledger.duties.is_restless",
            "ledger.duties.take",
            "ledger.duties.renew",
            "ledger.duties.release",
            "ledger.duties.leave",
            "ledger.duties.is_wanted",
            "ledger.duties.all",
        ),
        _DUTIES,
    ),
    **dict.fromkeys(("ledger.daemons.others", "ledger.daemons.tell_successes"), _OF_PROCESSES),
    "ledger.daemons.alive": _FOR_PEOPLE,
    "ledger.daemons.ping": "changes nothing; /readyz asks by it",
    "ledger.daemons.leave": "the last word of an orderly exit; two minutes later a daemon that has not said it is dead",
    **dict.fromkeys(
        ("ledger.close", "client.close", "fetcher.close", "reservation.close", "sender.close"), _ENDS
    ),
    **dict.fromkeys(
        (
            "ledger.forward_orders.list",
            "ledger.forward_orders.page",
            "ledger.forward_orders.counts",
            "ledger.trends.charts",
        ),
        _FOR_PEOPLE,
    ),
    **dict.fromkeys(
        (
            "ledger.forward_orders.retry",
            "ledger.forward_orders.retry_dead",
            "ledger.forward_orders.send",
        ),
        _FOR_PEOPLE_TO_DO,
    ),
    **dict.fromkeys(
        ("spool.grant_memory", "spool.give_memory_back", "spool.promise", "spool.forget"), _BOOKED
    ),
    "reservation.resize": _BOOKED,
    "reservation.in_place": "memory that it has already; nothing outside is asked",
    "spool.unmade_folder": "of `--check` and `doctor`, which make nothing: test_check says what they say",
    "spool.check": "of looks at the machine, which warn: engine/looks says how it goes wrong",
    "ledger.restores.give_up": "what `settle` does too: archive/test_restoring says when",
    "store.presigned": "asks nobody",
    **dict.fromkeys(
        (
            "ledger.audits.known",
            "ledger.audits.stored_after",
            "ledger.audits.totals",
            "ledger.audits.progress",
        ),
        _FOR_PEOPLE,
    ),
    "ledger.audits.want_back": _FOR_PEOPLE_TO_DO + ": what workers do of it, `restores` says",
    "ledger.audits.save_progress": _FOR_PEOPLE_TO_DO,
    "ledger.audits.forget_progress": _FOR_PEOPLE_TO_DO,
    "store.get": "what `read` is made of",
    "ledger.files.find": "read by readers of links only",
    "store.walk": "what `list` is made of",
    "store.digest": "what `put` is made of: how it fails there, store/test_s3 says",
}
"""Public methods that are no effect of the pipeline, and why. `Ledger.open`, being no method of an open one, is missing
here: ledger/file/test_upgrades kills a process in the midst of it."""


def _methods(owner: str) -> Iterator[str]:
    kind, _ = OWNERS[owner]
    bases = [base for base in kind.__mro__ if base is kind or (issubclass(base, Part) and base is not Part)]
    for base in bases:
        for name, member in vars(base).items():
            if inspect.isfunction(member) and not name.startswith("_"):
                yield f"{owner}.{name}"


METHODS = tuple(label for owner in OWNERS for label in _methods(owner))
EFFECTS = tuple(label for label in METHODS if label not in WITHOUT_A_ROW)


READS = frozenset(
    f"{owner}.{name}"
    for owner, names in {
        "ledger.claims": "any_due assets pending",
        "ledger.records": "known_states",
        "ledger.folder_work": "assets",
        "ledger.forwards": "due_consumers content",
        "ledger.trust": "of",
        "ledger.holds": "is_held is_stopped any are_disprovable",
        "ledger.sweeps": "memory",
        "ledger.sweep_requests": "open",
        "ledger.availability": "unavailable",
        "client": "query list_page collection",
        "store": "check head list list_after read",
    }.items()
    for name in names.split()
)
"""Effects that change nothing: for those, a lost answer is all there is to "failed but happened"."""


def failure_of(label: str) -> Exception:
    """How this effect fails when the other side is in trouble."""
    return OWNERS[label.rpartition(".")[0]][1]("simulated")


@dataclasses.dataclass(frozen=True, slots=True)
class Mishap:
    """The `occurrence`-th time that the effect comes up, it raises `error`; `happens` says whether it is done first. A
    `Died` ends the process right there."""

    label: str
    occurrence: int
    happens: bool
    error: BaseException

    def __str__(self) -> str:
        way = "failed but happened" if self.happens else "failed"
        how = "killed" if isinstance(self.error, Died) else "error"
        return f"{self.label} #{self.occurrence}: {way}, {how}"


class Mishaps:
    """Counts every effect and lets the planned ones go wrong, once each. After a `Died` nothing happens any more: a
    thread of a dead process does not finish its sentence."""

    def __init__(self) -> None:
        self.plan: list[Mishap] = []
        self.counts: collections.Counter[str] = collections.Counter()
        self.dead = False

    def call(self, label: str, act: Callable[[], Any]) -> Any:
        """Do the effect, or whatever is planned for it."""
        if self.dead:
            raise Died
        self.counts[label] += 1
        for mishap in self.plan:
            if (mishap.label, mishap.occurrence) == (label, self.counts[label]):
                self.plan.remove(mishap)
                if mishap.happens:
                    _forget(act())
                self.dead = isinstance(mishap.error, Died)
                raise copy.copy(mishap.error)  # its traceback would keep the whole pipeline in memory
        return act()

    def hook(self, owner: str, thing: object) -> None:
        """From now on every effect of `thing` goes through here, from whatever caller."""
        for label in EFFECTS:
            of, _, name = label.rpartition(".")
            if of == owner:
                setattr(thing, name, self._hooked(label, getattr(thing, name)))

    def hook_ledger(self, ledger: Ledger) -> None:
        """The same for every part of a ledger."""
        for name in PARTS:
            self.hook(f"ledger.{name}", getattr(ledger, name))

    def _hooked(self, label: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def effect(*positional: Any, **named: Any) -> Any:
            result = self.call(label, lambda: method(*positional, **named))
            if isinstance(result, Reservation):
                self.hook("reservation", result)
            return result

        return effect


def _forget(result: object) -> None:
    """The caller does not learn that it happened; what it opened must not leak into the test."""
    if isinstance(result, FetchedFile | Reservation | io.IOBase):
        result.close()
