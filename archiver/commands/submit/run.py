"""One run of `submit`: create the task, follow it if that was wanted, and say how it stands wherever the run ends."""

import contextlib
import dataclasses
import random
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import typer

from archiver.commands.show import what_to_do
from archiver.commands.submit.progress import SubmitProgress, TimeUp
from archiver.commands.terminal.exit_status import INTERRUPTED, WRONG, sentence_of
from archiver.commands.terminal.invocation import no_daemon_sentence
from archiver.commands.terminal.printing import print_json, print_line
from archiver.composition import build_client
from archiver.config.settings import Settings
from archiver.create.submitter import CreateOutcome, Submission, Submitted, Submitter
from archiver.ledger import Ledger
from archiver.metrics import Metrics
from archiver.model import State

_SETTLED = frozenset({State.ARCHIVED, State.FAILED, State.BURIED, State.LOST})
"""States in which waiting any longer tells nothing new."""


@dataclasses.dataclass
class SubmitRun:
    """One run of the command, from the create to the last line."""

    settings: Settings
    ledger: Ledger
    progress: SubmitProgress
    one: Submission
    _: dataclasses.KW_ONLY
    as_json: bool
    done: Submitted = dataclasses.field(default_factory=lambda: Submitted(CreateOutcome.UNKNOWN))
    shown: dict[str, Any] | None = None
    is_alone: bool = False
    """Whether no daemon was seen the last time."""

    def create(self) -> None:
        """Create the task; ends the command where it was not."""
        client = build_client(self.settings, Metrics(), stop=threading.Event())
        submitter = Submitter(
            account=self.settings.account,
            client=client,
            ledger=self.ledger,
            pause=self.progress.pause,
            rand=random.random,
        )
        with contextlib.closing(client), self._told_when_interrupted(self._how_it_stands):
            try:
                self.done = submitter.submit(self.one)
            except TimeUp:
                self.done = Submitted(CreateOutcome.REFUSED)
                self._end(f"no slot became free in time; {self._how_it_stands()}", reason="timeout")
        outcome, failure = self.done.outcome, self.done.failure
        if outcome is CreateOutcome.REFUSED and failure is not None:
            self._end(f"nothing was created. {sentence_of(failure)}", reason=failure.reason)
        if outcome is CreateOutcome.UNKNOWN and failure is not None:
            why = str(failure).rstrip(".")
            self._end(
                f"it is not known whether the task exists: {why}. {self._unknown()}", reason=failure.reason
            )
        if self._existed:
            self.progress.say(
                "an earlier run has created this task already: nothing was created or paid now."
            )
        if failure is not None:
            self.progress.say(
                f"task {self.done.task_id} is created, but the ledger cannot be written ({failure}): it stays "
                f"registered as {self.one.external_id}, which is followed all the same."
            )
        self._say_when_alone()

    def follow(self) -> None:
        """Wait until the task is where it can go no further by itself."""
        with self._told_when_interrupted(self._how_to_go_on):
            try:
                while (shown := self._show()) is None or shown["state"] not in _SETTLED:
                    self.progress.follow(
                        shown or {"task_id": self.name, "state": State.REPORTED, "assets": []}
                    )
                    self._say_when_alone()
            except TimeUp:
                self._end(f"the results are not there yet. {self._how_to_go_on()}", reason="timeout")

    def _say_when_alone(self) -> None:
        """Once each time that nobody is there to do the work."""
        advice = no_daemon_sentence(self.ledger.daemons())
        if advice and not self.is_alone:
            self.progress.say(advice)
        self.is_alone = bool(advice)

    def finish(self, *, waited: bool) -> None:
        """Print the result; ends with status 1 where the task came to nothing."""
        shown = self.shown
        if not waited or shown is None:
            self._print(self._show(), reason=None, message=None)
            return
        if shown["state"] != State.ARCHIVED:
            advice = what_to_do(shown["reason"])
            why = " ".join(part for part in (shown["message"] or "", advice) if part)
            self._end(f"{self.name} is {shown['state']} ({shown['reason']}): {why}", reason=shown["reason"])
        self._print(shown, reason=None, message=None)

    @property
    def name(self) -> str:
        """What `show` takes."""
        return self.done.task_id or self.one.external_id

    @property
    def _existed(self) -> bool:
        return self.done.outcome is CreateOutcome.EXISTING

    def _show(self) -> dict[str, Any] | None:
        account = self.settings.account
        self.shown = self.ledger.show(self.name, account=account) or self.ledger.show(
            self.one.external_id, account=account
        )
        return self.shown

    def _print(self, shown: Mapping[str, Any] | None, *, reason: str | None, message: str | None) -> None:
        stored = [asset["key"] for asset in shown["assets"] if asset["stored"]] if shown else []
        manifest = shown["manifest_key"] if shown else None
        keys = [*stored, manifest] if manifest else stored
        if self.as_json:
            print_json(
                {
                    "outcome": self.done.outcome,
                    "task_id": self.done.task_id,
                    "external_task_id": self.one.external_id,
                    "account": self.settings.account,
                    "family": self.one.family,
                    "state": shown["state"] if shown else None,
                    "reason": reason,
                    "message": message,
                    "keys": keys,
                    "manifest_key": manifest,
                }
            )
        elif message is None:
            there = f"is there already ({shown['state']})" if self._existed and shown else None
            sentence = (
                f"{self.name} {there or 'is created and registered'}; see: kling-archiver show {self.name}"
            )
            for line in keys or [sentence]:
                print_line(line)

    def _end(self, sentence: str, *, reason: str | None) -> None:
        """Nothing more can be done here: say so, and end with status 1."""
        clean = self.progress.clean(sentence)
        self.progress.say(clean)
        self._print(self.shown, reason=reason, message=clean)
        raise typer.Exit(WRONG)

    def _unknown(self) -> str:
        """What to do when nobody knows whether the task exists."""
        asked = (
            "The API knows no task of that external id so far, so probably none was created."
            if self.done.is_absent
            else "It cannot be asked now whether the task was created."
        )
        name = self.one.external_id
        return (
            f"{asked} It stays registered as {name}: if it exists, kling-receiver finds and archives it; see: "
            f"kling-archiver show {name}. To try again without paying twice, repeat the command with "
            f"--external-task-id {name}"
        )

    def _how_it_stands(self) -> str:
        known = self.ledger.known(self.one.external_id, account=self.settings.account)
        if known is None:
            return "nothing was created."
        if known.is_confirmed:
            return f"the task is created and registered; see: kling-archiver show {known.task_id}"
        return (
            f"the task may have been created. It stays registered as {self.one.external_id}: if it exists, "
            f"kling-receiver finds and archives it; see: kling-archiver show {self.one.external_id}"
        )

    def _how_to_go_on(self) -> str:
        return f"The task is created and registered, and goes on without us; see: kling-archiver show {self.name}"

    @contextlib.contextmanager
    def _told_when_interrupted(self, sentence: Callable[[], str]) -> Iterator[None]:
        """Ctrl-C and SIGTERM lose nothing, and say how to go on."""
        try:
            yield
        except KeyboardInterrupt:
            self.progress.say(f"interrupted. {sentence()}")
            raise typer.Exit(INTERRUPTED) from None
        except SystemExit:
            self.progress.say(f"told to end. {sentence()}")
            raise
