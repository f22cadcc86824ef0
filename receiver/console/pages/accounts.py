"""`/console/accounts`: each account of the settings, and those that the ledger alone knows."""

import dataclasses
from collections.abc import Mapping, Sequence

from starlette.responses import Response
from starlette.routing import Route

from archiver.ledger import HoldView, StatusView
from archiver.model import State
from archiver.problems import part_of
from receiver.console.frame import Frame, Visit
from receiver.console.pages.overview import SweptFamily, sweeps_of
from receiver.console.parts import ConsoleAccount, ConsoleParts


@dataclasses.dataclass(frozen=True, slots=True)
class AccountCard:
    """What the page shows of an account."""

    name: str
    settings: ConsoleAccount | None
    """None for an account that the settings do not name: its tasks wait."""
    states: Mapping[State, int]
    asked_by: str | None
    """The daemon that asks the API for it."""
    held: Sequence[tuple[str, HoldView]]
    """The holds, in words."""
    sweeps: Sequence[SweptFamily]


class AccountPages:
    def __init__(self, parts: ConsoleParts) -> None:
        self._parts = parts

    def routes(self, frame: Frame) -> list[Route]:
        return [frame.page("/console/accounts", self.show)]

    def show(self, visit: Visit) -> Response:
        view = self._parts.ledger.views.status()
        return visit.render("accounts.html", cards=self._cards(view), bucket=self._parts.bucket, now=view.now)

    def _cards(self, view: StatusView) -> list[AccountCard]:
        known = {account.name: account for account in self._parts.accounts}
        sweeps = sweeps_of(view, self._parts)
        asked_by = {account: daemon.name for daemon in view.alive_daemons for account in daemon.accounts}
        return [
            AccountCard(
                name,
                known.get(name),
                {state: view.counts.get((name, state), 0) for state in State},
                asked_by.get(name),
                [(part_of(hold, several=False), hold) for hold in view.holds if hold.account == name],
                [sweep for sweep in sweeps if sweep.account == name],
            )
            for name in dict.fromkeys([*known, *view.accounts])
        ]
