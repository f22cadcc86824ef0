"""The logged events, and a way to wait for one; and a stop event whose wait returns at once."""

import io
import json
import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from archiver import log

PATIENCE_SECONDS = 60


class Journal(io.StringIO):
    """What was logged, and a way to wait for it. A stream for `log.configure`."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[dict[str, Any]] = []
        self._news = threading.Condition()

    def write(self, text: str) -> int:
        with self._news:
            self.lines.append(json.loads(text))
            self._news.notify_all()
        return len(text)

    def find(self, event: str, **fields: object) -> list[dict[str, Any]]:
        return [line for line in list(self.lines) if line.items() >= {"event": event, **fields}.items()]

    def wait(self, event: str, *, times: int = 1, **fields: object) -> None:
        with self._news:
            came = self._news.wait_for(lambda: len(self.find(event, **fields)) >= times, PATIENCE_SECONDS)
        assert came, (event, fields, self.lines)


@pytest.fixture
def journal() -> Iterator[Journal]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    written = Journal()
    log.configure(format="json", level="debug", stream=written, strict=True)
    yield written
    logging.captureWarnings(False)
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()


class Impatient(threading.Event):
    """A stop event whose wait is over at once, so that a step takes no time."""

    def wait(self, timeout: float | None = None) -> bool:  # noqa: ARG002 -- as in Event
        return self.is_set()
