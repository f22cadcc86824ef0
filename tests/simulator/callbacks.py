"""Posts callbacks as the real client does, once, and notes what came of it.

A body is written down at the moment of the status change, so that a late or reordered callback says what was true then.
There are no retries, because none are documented. An answer other than 200 is complained of; no answer at all is only
noted, because a receiver that is down is what the sweep is tested with.
"""

import dataclasses
import functools
import threading
import uuid

import httpx2

from tests.simulator.account import TERMINAL, Account, SimulatedTask
from tests.simulator.documents import callback_document, json_bytes
from tests.simulator.request_log import RequestLog
from tests.simulator.signing import webhook_headers
from tests.simulator.timetable import Timetable

HEADERS = {
    "Content-Type": "application/json; charset=utf-8",
    "User-Agent": "Apache-HttpClient/4.5.13 (Java/1.8.0_372)",
    "Accept": "*/*",
    "Accept-Encoding": "gzip,deflate",
    "Connection": "Keep-Alive",
}


class CallbackUndelivered(ConnectionError):
    """The receiver gave no HTTP answer."""


@dataclasses.dataclass(frozen=True, slots=True)
class Delivery:
    """One callback that was posted. `http_status` is None when there was no answer."""

    task_id: str
    status: str
    http_status: int | None


@dataclasses.dataclass(frozen=True, slots=True)
class _Letter:
    task_id: str
    status: str
    url: str
    body: bytes


class Callbacks:
    """The sender of one account. `origin` gives the scheme and host of result URLs."""

    def __init__(self, account: Account, *, log: RequestLog, timetable: Timetable, origin: str) -> None:
        self._account = account
        self._log = log
        self._timetable = timetable
        self._origin = origin
        self._lock = threading.Lock()
        self._held: dict[str, list[_Letter]] = {}
        self._client = httpx2.Client(trust_env=False, timeout=10.0, follow_redirects=False)
        self.deliveries: list[Delivery] = []

    def close(self) -> None:
        self._client.close()

    def changed(self, task: SimulatedTask, status: str) -> None:
        """Queue what a status change calls for, faults applied."""
        switches = self._account.switches
        dropped = switches.callback_drop or task.callbacks_dropped
        if not task.callback_url or dropped or status not in switches.callback_statuses:
            return
        letter = self._letter(task, status, task.callback_url)
        for ready in self._in_order(letter):
            for _ in range(2 if switches.callback_double else 1):
                self._timetable.after(
                    switches.callback_delay_seconds, functools.partial(self._deliver, ready)
                )

    def send(self, task: SimulatedTask, status: str | None, *, url: str | None, expect: int) -> int:
        """Post one callback now and return the HTTP status.

        Raises `CallbackUndelivered`; `ValueError` when there is no URL to post to.
        """
        target = url or task.callback_url
        if target is None:
            raise ValueError(f"task {task.task_id} has no callback URL")
        letter = self._letter(task, status or task.status, target)
        answered = self._post(letter)
        if answered != expect:
            self._complain(letter, answered)
        return answered

    def post(self, url: str, body: bytes, *, headers: dict[str, str], sign: bool) -> httpx2.Response:
        """Post any body. Raises `CallbackUndelivered`."""
        secret = self._account.switches.signing_secret
        signature = {}
        if sign and secret is not None:
            timestamp = int(self._account.now())
            signature = webhook_headers(secret, webhook_id=str(uuid.uuid4()), timestamp=timestamp, body=body)
        try:
            return self._client.post(url, content=body, headers={**HEADERS, **signature, **headers})
        except httpx2.TransportError as error:
            raise CallbackUndelivered(str(error)) from error

    def _letter(self, task: SimulatedTask, status: str, url: str) -> _Letter:
        with self._account.lock:
            document = callback_document(
                task,
                status,
                sign=lambda file: self._account.url(task, file, origin=self._origin),
                solution_shape=self._account.switches.solution_shape,
            )
        return _Letter(task.task_id, status, url, json_bytes(document))

    def _in_order(self, letter: _Letter) -> list[_Letter]:
        with self._lock:
            if not self._account.switches.callback_reorder:
                return [letter]
            held = self._held.setdefault(letter.task_id, [])
            if letter.status not in TERMINAL:
                held.append(letter)
                return []
            return [letter, *reversed(self._held.pop(letter.task_id))]

    def _deliver(self, letter: _Letter) -> None:
        try:
            answered = self._post(letter)
        except CallbackUndelivered:
            return
        if answered != 200:
            self._complain(letter, answered)

    def _post(self, letter: _Letter) -> int:
        try:
            answered = self.post(letter.url, letter.body, headers={}, sign=True).status_code
        except CallbackUndelivered:
            self.deliveries.append(Delivery(letter.task_id, letter.status, None))
            raise
        self.deliveries.append(Delivery(letter.task_id, letter.status, answered))
        return answered

    def _complain(self, letter: _Letter, answered: int) -> None:
        self._log.complain(f"callback {letter.status} of {letter.task_id} was answered with {answered}")
