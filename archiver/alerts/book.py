"""The state of alerts: which problems last, which have been sent, which messages still wait to be sent. Pure."""

import dataclasses
import json
import uuid
from collections.abc import Iterator, Sequence

from archiver.ledger import Alert, AlertMessage
from archiver.model import Problem, rfc3339

LASTING_MS = 5 * 60_000
"""How long a problem must last before the daemon sends it."""
ABSENT_MS_MAX = 60_000
"""A problem that has not been sent still counts as lasting after an absence of this length. A probe, for example, ends
a hold for a moment."""
TRIED_MS = 3_600_000
"""How long the daemon tries to deliver a message."""
WAIT_MS_FIRST, WAIT_MS_MAX = 2_000, 5 * 60_000

BEGAN, ENDED = "problem.began", "problem.ended"


class AlertBook:
    """All problems and messages of the alerts. Times are Unix ms."""

    def __init__(self, alerts: Sequence[Alert], messages: Sequence[AlertMessage]) -> None:
        """Go on from what the ledger has."""
        self._alerts = {alert.problem.key: alert for alert in alerts}
        self._messages = list(messages)
        self._absent_since: dict[str, int] = {}
        """Only problems that have not been sent are here."""

    @property
    def alerts(self) -> list[Alert]:
        return list(self._alerts.values())

    @property
    def messages(self) -> list[AlertMessage]:
        """The messages that still wait to be sent, oldest first."""
        return list(self._messages)

    def observe(self, problems: Sequence[Problem], *, is_complete: bool, now: int) -> None:
        """Take in the present problems. Unless `is_complete`, the list may lack some that still last."""
        present = {problem.key: problem for problem in problems}
        for key, problem in present.items():
            known = self._alerts.get(key, Alert(problem, now, is_told=False))
            if now - self._absent_since.pop(key, now) >= ABSENT_MS_MAX:
                known = Alert(problem, now, is_told=False)
            if not known.is_told:
                # `min`: the clock may have been set back since.
                self._alerts[key] = Alert(problem, min(known.began_at, now), is_told=False)
        for alert in list(self._alerts.values()):
            if not alert.is_told and alert.problem.key in present and now - alert.began_at >= LASTING_MS:
                self._alerts[alert.problem.key] = dataclasses.replace(alert, is_told=True)
                self._messages.append(_message(BEGAN, alert.problem, now=now))
            elif is_complete and alert.problem.key not in present and self._is_over(alert, now=now):
                del self._alerts[alert.problem.key]
                self._absent_since.pop(alert.problem.key, None)
                if alert.is_told:
                    self._messages.append(_message(ENDED, alert.problem, now=now))

    def _is_over(self, alert: Alert, *, now: int) -> bool:
        since = self._absent_since.setdefault(alert.problem.key, now)
        return alert.is_told or not 0 <= now - since < ABSENT_MS_MAX

    def due(self, now: int) -> Iterator[AlertMessage]:
        """The messages to send now: the oldest of each problem, so that its end is never sent before its beginning."""
        seen: set[str] = set()
        for message in list(self._messages):
            is_first = message.key not in seen
            seen.add(message.key)
            # A message never waits so long: the clock was set back after its due time was written.
            if is_first and not now < message.due_at <= now + WAIT_MS_MAX:
                yield message

    def taken(self, message: AlertMessage) -> None:
        """The receiver has accepted the message."""
        self._messages = [kept for kept in self._messages if kept.id != message.id]

    def refused(self, message: AlertMessage, *, now: int) -> bool:
        """The message was not accepted: try it again later. False when it has been tried for long enough and is
        dropped."""
        if now - message.made_at >= TRIED_MS:
            self.taken(message)
            return False
        wait_ms = min(WAIT_MS_FIRST * 2 ** min(message.attempts, 16), WAIT_MS_MAX)
        again = dataclasses.replace(message, attempts=message.attempts + 1, due_at=now + wait_ms)
        self._messages = [again if kept.id == message.id else kept for kept in self._messages]
        return True


def _message(kind: str, problem: Problem, *, now: int) -> AlertMessage:
    account = f" ({problem.account})" if problem.account else ""
    text = f"kling-archiver{account}: "
    text += (
        f"{problem.message}. {problem.what_to_do}".rstrip() if kind == BEGAN else f"over: {problem.message}."
    )
    document = {"type": kind, "timestamp": rfc3339(now), "data": problem.as_json(), "text": text}
    body = json.dumps(document, separators=(",", ":"))
    return AlertMessage(
        id=f"alrt_{uuid.uuid4().hex}", key=problem.key, body=body, made_at=now, due_at=now, attempts=0
    )
