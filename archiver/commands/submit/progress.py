"""What is seen while a task is created and followed: one line with a countdown or a state at a terminal, and plain
lines for what changes in a pipe. All on standard error; standard output is for the result.
"""

import math
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from archiver.commands.terminal.printing import clean as printable
from archiver.commands.terminal.printing import console, count_of, say
from archiver.failures import ApiConcurrencyExceeded, CreateOutcomeUnknown, Failure
from archiver.model import State

TICK_SECONDS = 1.0
POLL_SECONDS = 0.5


class TimeUp(Exception):
    """`--timeout` has passed."""


class SubmitProgress:
    """Waits and says why. Use as a context. `now` gives Unix ms, `wait(seconds)` sleeps; `slots` is how many of the
    account's slots the task takes, and `clean` takes our secrets out of what the API says (it may repeat the callback
    URL, and with it the token)."""

    def __init__(
        self,
        *,
        now: Callable[[], int],
        wait: Callable[[float], object],
        timeout_seconds: float | None,
        slots: int,
        clean: Callable[[str], str],
    ) -> None:
        screen = console(stderr=True)
        self._is_shown = screen.is_terminal
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            console=screen,
            disable=not self._is_shown,
            transient=True,
        )
        self._now = now
        self._wait = wait
        self._ends_at = math.inf if timeout_seconds is None else now() + timeout_seconds * 1000
        self._slots = slots
        self.clean = clean
        self._line: TaskID | None = None
        self._last_said = ""

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def say(self, sentence: str) -> None:
        """Tell the operator something, above the line."""
        say(self.clean(sentence), screen=self._progress.console if self._is_shown else None)

    def pause(self, failure: Failure, seconds: float) -> None:
        """Wait between two tries of a create, or of a question for a task whose create was not answered.

        Raises TimeUp instead of waiting for slots past the timeout; what may have been created is looked for all the
        same.
        """
        if isinstance(failure, CreateOutcomeUnknown):
            if seconds == 0:
                self.say(f"{str(failure).rstrip('.')}. Asking for the task by its external id.")
            self._count_down("asking for the task by its external id", seconds)
            return
        if self._now() + seconds * 1000 > self._ends_at:
            raise TimeUp
        why = "the API is asked too fast"
        if isinstance(failure, ApiConcurrencyExceeded):
            why = f"the account has not {count_of(self._slots, 'slot')} free (1303)"
        if not self._is_shown:
            self.say(f"{why}: trying again in {seconds:.0f} s.")
        self._count_down(f"{why}: trying again", seconds)

    def _count_down(self, what: str, seconds: float) -> None:
        left = seconds
        while left > 0:
            self._show(f"{what} in {math.ceil(left)} s")
            step = min(left, TICK_SECONDS) if self._is_shown else left
            self._wait(step)
            left -= step
        self._show(f"{what} now")

    def follow(self, shown: Mapping[str, Any]) -> None:
        """Tell what the ledger says of the task, and wait a moment for it to say something else. Raises TimeUp."""
        if self._now() > self._ends_at:
            raise TimeUp
        told = _told(shown)
        if not self._is_shown and told != self._last_said:
            self.say(f"{shown['task_id']} {told}")
        self._last_said = told
        self._show(f"{shown['task_id']} {told}")
        self._wait(POLL_SECONDS)

    def _show(self, text: str) -> None:
        if self._line is None:
            self._line = self._progress.add_task("", total=None)
        self._progress.update(self._line, description=printable(text))


def _told(shown: Mapping[str, Any]) -> str:
    files = len(shown["assets"])
    if shown["state"] == State.SUCCEEDED and files:
        stored = sum(asset["stored"] for asset in shown["assets"])
        return f"has succeeded: {stored} of {count_of(files, 'file')} in the bucket"
    words: Mapping[str, str] = {
        State.REPORTED: "is registered",
        State.RUNNING: "is being generated",
        State.UNKNOWN: "is not known to the API yet",
        State.SUCCEEDED: "has succeeded",
    }
    return words.get(shown["state"], f"is {shown['state']}")
