"""A problem as `status --check`, `/readyz`, alerts and metrics name it."""

import dataclasses

from archiver.model.timestamps import rfc3339

PROBLEM_CODES = (
    "no_worker",
    "no_door",
    "account_unasked",
    "door_closed",
    "hold",
    "waiting",
    "lost",
    "buried",
    "deadline",
    "sweep_late",
    "amendment_waiting",
    "objects_missing",
    "forwards_dead",
    "disk_low",
    "settings",
)
"""Every code that a problem has."""


@dataclasses.dataclass(frozen=True, slots=True)
class Problem:
    """A problem that an operator must know of, and how to solve it."""

    code: str
    message: str
    what_to_do: str
    account: str | None = None
    """None for what concerns every account."""
    since: int | None = None
    """Unix ms; None if it is not known."""
    stage: str | None = None
    reason: str | None = None
    subject: str = ""
    """A family or a host, if an account may have several problems of one code."""

    @property
    def key(self) -> str:
        """Stays the same as long as the problem lasts; two problems at one time must differ in it."""
        return ":".join((self.code, self.account or "", self.stage or "", self.subject))

    def as_json(self) -> dict[str, object]:
        """As `status --check --json` prints it."""
        names = ("code", "message", "what_to_do", "account")
        since = None if self.since is None else rfc3339(self.since)
        return {name: getattr(self, name) for name in names} | {"since": since}

    def as_degraded(self) -> dict[str, object]:
        """As `/readyz` lists it: with the stage and the reason of a hold."""
        of_hold = {"stage": self.stage, "reason": self.reason}
        return self.as_json() | {name: value for name, value in of_hold.items() if value is not None}
