"""The loop that reads the problems and sends alerts about them."""

import threading
from collections.abc import Callable

from archiver import log
from archiver.alerts.book import AlertBook
from archiver.alerts.sender import AlertSender, Undelivered
from archiver.failures import LedgerUnavailable
from archiver.ledger import AlertMessage, Ledger
from archiver.problems import Expected, look
from archiver.pulses.pulse import beat

ROUND_SECONDS = 5.0


class AlertLoop:
    """Runs only in the process that does the upkeep. `step` belongs to one thread; `now` gives Unix ms."""

    name = "alert-loop"

    def __init__(
        self,
        ledger: Ledger,
        expected: Expected,
        sender: AlertSender,
        *,
        now: Callable[[], int],
        stop: threading.Event,
        is_ours: Callable[[], bool] = lambda: True,
    ) -> None:
        """`is_ours`: whether this process does the upkeep. The ledger refuses the writes of any other."""
        self._is_ours = is_ours
        self._ledger = ledger
        self._expected = expected
        self._sender = sender
        self._now = now
        self._stop = stop
        self._book: AlertBook | None = None

    def step(self) -> None:
        """One round, then a pause."""
        if self._is_ours():
            self.run_once()
        else:
            self._book = None  # the next time, the ledger knows which alerts other processes have sent
        self._stop.wait(ROUND_SECONDS)

    def run_once(self) -> None:
        """Read the problems, note what changed, send what is due.

        After a message that was not accepted, the others wait for the next round: the receiver is down, and each would
        wait for its full timeout. Raises LedgerUnavailable until the state has been read once.
        """
        if self._book is None:
            self._book = AlertBook(*self._ledger.alerts.load())
        view, problems = look(self._ledger, self._expected)
        self._book.observe(problems, is_complete=view is not None, now=self._now())
        self._save(self._book)
        for message in self._book.due(self._now()):
            beat()
            taken = not self._stop.is_set() and self._send(self._book, message)
            self._save(self._book)
            if not taken:
                break

    def _send(self, book: AlertBook, message: AlertMessage) -> bool:
        try:
            self._sender.send(message.id, message.body)
        except Undelivered as error:
            if book.refused(message, now=self._now()):
                log.get().warning("alert.refused", problem=message.key, message=str(error))
            else:
                log.get().error("alert.dropped", problem=message.key, message=str(error))
            return False
        book.taken(message)
        log.get().info("alert.sent", problem=message.key)
        return True

    def _save(self, book: AlertBook) -> None:
        try:
            self._ledger.alerts.save(book.alerts, book.messages)
        except LedgerUnavailable as error:
            log.get().warning("ledger.unavailable", loop=self.name, message=str(error))
