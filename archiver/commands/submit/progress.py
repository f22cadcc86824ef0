"""The progress of `submit` on standard error: one live line at a terminal, a line for each change in a pipe.

Standard output is for the result.
"""

import math
from collections.abc import Callable, Mapping

from rich.progress import SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from archiver.commands.terminal.live import LiveDisplay
from archiver.commands.terminal.printing import clean as printable
from archiver.commands.terminal.printing import print_note
from archiver.failures import ApiConcurrencyExceeded, CreateOutcomeUnknown, Failure
from archiver.ledger import TaskView
from archiver.model import State
from archiver.phrases import count_of

TICK_SECONDS = 1.0
POLL_SECONDS = 0.5


class TimeUp(Exception):
    """`--timeout` has passed."""


class SubmitProgress(LiveDisplay):
    """Waits, and prints why.

    `slots` is how many of the account's slots the task takes. `redact` removes secrets from messages of the API, which
    may repeat the callback URL and the token in it.
    """

    def __init__(
        self,
        *,
        now: Callable[[], int],
        wait: Callable[[float], object],
        timeout_seconds: float | None,
        slots: int,
        redact: Callable[[str], str],
    ) -> None:
        super().__init__(
            SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), is_transient=True
        )
        self._now = now
        self._wait = wait
        self._ends_at = math.inf if timeout_seconds is None else now() + timeout_seconds * 1000
        self._slots = slots
        self.redact = redact
        self._line: TaskID | None = None
        self._last_text = ""

    def print_note(self, sentence: str) -> None:
        print_note(self.redact(sentence), screen=self._progress.console if self.is_shown else None)

    def pause(self, failure: Failure, seconds: float) -> None:
        """Wait before the next create, or before the next query for a task whose create was not answered.

        Raises TimeUp instead of waiting for slots past the timeout. Queries for a task that may exist go on past it.
        """
        if isinstance(failure, CreateOutcomeUnknown):
            if seconds == 0:
                self.print_note(f"{str(failure).rstrip('.')}. Asking for the task by its external id.")
            self._count_down("asking for the task by its external id", seconds)
            return
        if self._now() + seconds * 1000 > self._ends_at:
            raise TimeUp
        why = "the API receives too many requests"
        if isinstance(failure, ApiConcurrencyExceeded):
            why = f"the account does not have {count_of(self._slots, 'slot')} free (1303)"
        if not self.is_shown:
            self.print_note(f"{why}: trying again in {seconds:.0f} s.")
        self._count_down(f"{why}: trying again", seconds)

    def _count_down(self, what: str, seconds: float) -> None:
        left = seconds
        while left > 0:
            self._show(f"{what} in {math.ceil(left)} s")
            step = min(left, TICK_SECONDS) if self.is_shown else left
            self._wait(step)
            left -= step
        self._show(f"{what} now")

    def follow(self, name: str, task: TaskView | None) -> None:
        """Print the state if it changed, and wait. Raises TimeUp."""
        if self._now() > self._ends_at:
            raise TimeUp
        text = f"{task.task_id} {_state_of(task)}" if task else f"{name} is registered"
        if not self.is_shown and text != self._last_text:
            self.print_note(text)
        self._last_text = text
        self._show(text)
        self._wait(POLL_SECONDS)

    def _show(self, text: str) -> None:
        if self._line is None:
            self._line = self._progress.add_task("", total=None)
        self._progress.update(self._line, description=printable(text))


def _state_of(task: TaskView) -> str:
    files = len(task.assets)
    if task.state == State.SUCCEEDED and files:
        stored = sum(asset.is_stored for asset in task.assets)
        return f"has succeeded: {stored} of {count_of(files, 'file')} in the bucket"
    words: Mapping[str, str] = {
        State.REPORTED: "is registered",
        State.RUNNING: "is being generated",
        State.UNKNOWN: "is not known to the API yet",
        State.SUCCEEDED: "has succeeded",
    }
    return words.get(task.state, f"is {task.state}")
