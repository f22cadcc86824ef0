"""The alerts that were sent, and those that wait to be sent (archiver/alerts)."""

import dataclasses
import json
from collections.abc import Sequence

import sqlalchemy as sa

from archiver.ledger.part import Part, retried
from archiver.ledger.tables import schema
from archiver.model import Problem


@dataclasses.dataclass(frozen=True, slots=True)
class Alert:
    """A problem that lasts since `began_at` (Unix ms), as the process with the upkeep has seen it."""

    problem: Problem
    began_at: int
    is_told: bool
    """Whether a message about its beginning was made."""


@dataclasses.dataclass(frozen=True, slots=True)
class AlertMessage:
    """A message that the receiver has not accepted yet. Times are Unix ms."""

    id: str
    key: str
    """The key of the problem that it is about."""
    body: str
    made_at: int
    due_at: int
    attempts: int


class Alerts(Part):
    """The state of the alerts: read at a start, and replaced as a whole, since only the upkeep's process has them."""

    def load(self) -> tuple[list[Alert], list[AlertMessage]]:
        """The problems that last, by key, and the messages, oldest first."""
        alerts, messages = schema.alerts, schema.alert_messages
        with self._database.read() as connection:
            known = connection.execute(sa.select(alerts).order_by(alerts.c.key)).all()
            waiting = connection.execute(sa.select(messages).order_by(messages.c.number)).mappings().all()
        return (
            [Alert(Problem(**json.loads(row.problem)), row.began_at, row.is_told) for row in known],
            [
                AlertMessage(**{field.name: row[field.name] for field in dataclasses.fields(AlertMessage)})
                for row in waiting
            ],
        )

    @retried
    def save(self, alerts: Sequence[Alert], messages: Sequence[AlertMessage]) -> None:
        """Replace what is there, if it differs."""
        alerts = sorted(alerts, key=lambda alert: alert.problem.key)
        if self.load() == (alerts, list(messages)):
            return
        with self._database.write() as connection:
            for table in (schema.alerts, schema.alert_messages):
                connection.execute(sa.delete(table))
            if alerts:
                connection.execute(sa.insert(schema.alerts), [_row(alert) for alert in alerts])
            if messages:
                numbered = [
                    {"number": number, **dataclasses.asdict(message)}
                    for number, message in enumerate(messages, start=1)
                ]
                connection.execute(sa.insert(schema.alert_messages), numbered)


def _row(alert: Alert) -> dict[str, object]:
    problem = json.dumps(dataclasses.asdict(alert.problem))
    return {
        "key": alert.problem.key,
        "problem": problem,
        "began_at": alert.began_at,
        "is_told": alert.is_told,
    }
