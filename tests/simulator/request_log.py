"""What was asked of the simulator, and what was wrong with it. Appended from the server's thread, read from the test's.

Lists and Counters only grow by atomic operations, so that a test may read them at any time; for a count that must have
settled, wait for what the request causes first.
"""

import dataclasses
from collections import Counter
from typing import Literal

Kind = Literal["create", "query", "list", "tasks", "solutions", "cdn", "unknown"]


@dataclasses.dataclass(slots=True)
class LoggedRequest:
    """One request. `status` is None until answered, and stays None when it never was."""

    kind: Kind
    method: str
    path: str
    query: str
    at: float
    """The simulator's clock, Unix seconds."""
    status: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class SeenCreate:
    """A create as it arrived, refused or not."""

    path: str
    prompt: str | None
    external_task_id: str | None
    callback_url: object
    """None where the body has none."""


class RequestLog:
    """Counts per endpoint and path, the requests in order, and the complaints."""

    def __init__(self) -> None:
        self.requests: Counter[str] = Counter()
        self.paths: Counter[str] = Counter()
        self.log: list[LoggedRequest] = []
        self.creates: list[SeenCreate] = []
        self.complaints: list[str] = []

    def note(self, entry: LoggedRequest) -> None:
        self.requests[entry.kind] += 1
        self.paths[entry.path] += 1
        self.log.append(entry)

    def complain(self, text: str) -> None:
        """Something that the real account would never have expected."""
        self.complaints.append(text)
