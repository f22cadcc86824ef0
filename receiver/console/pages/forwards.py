"""`/console/forwards`: forwards that were delivered, that wait, and that died."""

import contextlib

from starlette.responses import Response
from starlette.routing import Route

from archiver.ledger import ForwardState
from receiver.console.frame import Frame, Visit
from receiver.console.parts import ConsoleParts

ROWS_MAX = 50
BATCHES_MAX = 20
"""Batches of dead forwards that one click sends again: quick enough for a page."""


class ForwardPages:
    def __init__(self, parts: ConsoleParts) -> None:
        self._parts = parts

    def routes(self, frame: Frame) -> list[Route]:
        return [
            frame.page("/console/forwards", self.show),
            frame.action("/console/forwards/replay", self.replay),
            frame.action("/console/forwards/replay-dead", self.replay_dead),
        ]

    def show(self, visit: Visit) -> Response:
        state = _state(visit.query.get("state", ""))
        orders = self._parts.ledger.forward_orders
        page = orders.page(state, page=visit.query.get("page"), limit=ROWS_MAX)
        return visit.render(
            "forwards.html",
            state=state,
            counts=orders.counts(),
            page=page,
            is_first="page" not in visit.query,
            now=self._parts.ledger.now(),
            sent=_number(visit.query.get("sent", "")),
            operator_url=self._parts.operator_url,
            several=self._parts.several,
        )

    def replay(self, visit: Visit) -> Response:
        """Send one forward again; another process may have dropped it meanwhile."""
        webhook_id, account = visit.form.get("webhook_id", ""), visit.form.get("account", "")
        if not webhook_id.startswith("fwd_"):
            return visit.not_found("There is no such forward.")
        orders, task_id = self._parts.ledger.forward_orders, visit.form.get("task_id", "")
        sent = orders.retry([webhook_id], account=account, task_id=task_id)
        if webhook_id not in sent:
            return visit.not_found("There is no such forward.")
        return visit.redirect("forwards", state=_state(visit.form.get("state", "")), sent=sent[webhook_id])

    def replay_dead(self, visit: Visit) -> Response:
        """Send dead forwards again, in at most `BATCHES_MAX` transactions; the page shows the rest."""
        orders, sent = self._parts.ledger.forward_orders, 0
        batches = BATCHES_MAX
        for account in self._parts.ledger.accounts.names():
            while batches and (count := orders.retry_dead(account=account)):
                sent, batches = sent + count, batches - 1
        return visit.redirect("forwards", sent=sent)


def _state(text: str) -> ForwardState:
    with contextlib.suppress(ValueError):
        return ForwardState(text)
    return ForwardState.DEAD


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None
