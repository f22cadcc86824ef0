"""One run of `submit`: create, follow if wanted, and print where the task stands when the run ends.

Where it stands is known without the ledger, which may not answer then: a repeated command without the external id would
pay for a second task.
"""

import contextlib
import dataclasses
import random
import shlex
import threading

import typer

from archiver.commands.submit.progress import SubmitProgress, TimeUp
from archiver.commands.terminal.exit_status import WRONG, sentence_of
from archiver.commands.terminal.invocation import no_daemon_sentence
from archiver.commands.terminal.last_sentence import LAST_SENTENCE
from archiver.commands.terminal.printing import clean, object_url, print_json, print_line
from archiver.composition.clients import build_client
from archiver.config.settings import Settings
from archiver.create.submitter import CreateOutcome, Submission, Submitted, Submitter
from archiver.failures import CreateOutcomeUnknown, Failure, TaskForgotten
from archiver.ledger import Ledger, TaskView
from archiver.metrics import Metrics
from archiver.model import State

_FINAL = frozenset({State.ARCHIVED, State.FAILED, State.BURIED, State.LOST})
"""States in which `--wait` ends."""


@dataclasses.dataclass
class SubmitRun:
    settings: Settings
    ledger: Ledger
    progress: SubmitProgress
    submission: Submission
    _: dataclasses.KW_ONLY
    as_json: bool
    submitted: Submitted = dataclasses.field(default_factory=lambda: Submitted(CreateOutcome.UNKNOWN))
    task: TaskView | None = None
    no_daemon: bool = False
    """Whether no daemon was seen at the last look."""

    def create(self) -> None:
        """Ends the command if the task was not created."""
        client = build_client(self.settings, Metrics(), stop=threading.Event())
        submitter = Submitter(
            account=self.settings.name,
            client=client,
            ledger=self.ledger,
            pause=self._pause,
            rand=random.random,
            before_create=self._say_that_it_may_exist,
        )
        self._say_that_nothing_was_created()
        with contextlib.closing(client):
            try:
                self.submitted = submitter.submit(self.submission)
            except TimeUp:
                self.submitted = Submitted(CreateOutcome.REFUSED)
                self._end(f"no slot became free in time. {LAST_SENTENCE.text}", reason="timeout")
        outcome, failure = self.submitted.outcome, self.submitted.failure
        if outcome in (CreateOutcome.CREATED, CreateOutcome.EXISTING):
            _say_last(self._how_to_go_on())
        elif outcome is CreateOutcome.REFUSED:
            self._say_that_nothing_was_created()
        if outcome is CreateOutcome.REFUSED and failure is not None:
            self._end(f"nothing was created. {sentence_of(failure)}", reason=failure.reason)
        if outcome is CreateOutcome.UNKNOWN and failure is not None:
            why = str(failure).rstrip(".")
            self._end(
                f"it is unknown whether the task exists: {why}. {self._unknown()}", reason=failure.reason
            )
        if self._existed:
            self.progress.print_note("an earlier run created this task; nothing was created or paid now.")
        if failure is not None:
            self.progress.print_note(
                f"task {self.submitted.task_id} is created, but the ledger cannot be written ({failure}). It stays "
                f"registered as {self.submission.external_id}, which kling-receiver follows."
            )
        self._print_daemon_advice()

    def follow(self) -> None:
        try:
            while (task := self._read_task()) is None or task.state not in _FINAL:
                if task is None:
                    self._end_if_forgotten()
                self.progress.follow(self.name, task)
                self._print_daemon_advice()
        except TimeUp:
            self._end(f"the results are not there yet. {self._how_to_go_on()}", reason="timeout")

    def _end_if_forgotten(self) -> None:
        """End the command if the task was forgotten: no result would ever come."""
        names = (self.name, self.submission.external_id)
        if any(self.ledger.views.forgotten(name, account=self.settings.name) for name in names):
            self._end(f"{self.name} was forgotten meanwhile.", reason=TaskForgotten.reason)

    def _print_daemon_advice(self) -> None:
        """Print once each time that the last daemon has gone."""
        advice = no_daemon_sentence(self.ledger.daemons.alive())
        if advice and not self.no_daemon:
            self.progress.print_note(advice)
        self.no_daemon = bool(advice)

    def finish(self, *, waited: bool) -> None:
        """Ends with status 1 if the task was waited for and not archived."""
        task = self.task
        if not waited or task is None:
            self._print(self._read_task(), reason=None, message=None)
            return
        if task.state != State.ARCHIVED:
            why = " ".join(filter(None, (task.message, task.what_to_do)))
            self._end(f"{self.name} is {task.state} ({task.reason}): {why}", reason=task.reason)
        self._print(task, reason=None, message=None)

    @property
    def name(self) -> str:
        return self.submitted.task_id or self.submission.external_id

    @property
    def _existed(self) -> bool:
        return self.submitted.outcome is CreateOutcome.EXISTING

    def _read_task(self) -> TaskView | None:
        account = self.settings.name
        self.task = self.ledger.views.show(self.name, account=account) or self.ledger.views.show(
            self.submission.external_id, account=account
        )
        return self.task

    def _print(self, task: TaskView | None, *, reason: str | None, message: str | None) -> None:
        stored = [asset.key for asset in task.assets if asset.key is not None] if task else []
        manifest = task.manifest_key if task else None
        keys = [*stored, manifest] if manifest else stored
        if self.as_json:
            print_json(
                {
                    "outcome": self.submitted.outcome,
                    "task_id": self.submitted.task_id,
                    "external_task_id": self.submission.external_id,
                    "account": self.settings.name,
                    "family": self.submission.family,
                    "state": task.state if task else None,
                    "reason": reason,
                    "message": message,
                    "keys": keys,
                    "manifest_key": manifest,
                }
            )
        elif message is None:
            there = f"existed already ({task.state})" if self._existed and task else None
            sentence = f"{self.name} {there or 'is created and registered'}; see: {_show(self.name)}"
            urls = [object_url(key, bucket=self.settings.s3_bucket) or key for key in keys]
            for line in urls or [sentence]:
                print_line(line)

    def _end(self, sentence: str, *, reason: str | None) -> None:
        redacted = self.progress.redact(sentence)
        self.progress.print_note(redacted)
        self._print(self.task, reason=reason, message=redacted)
        raise typer.Exit(WRONG)

    def _unknown(self) -> str:
        answer = (
            "The API knows no task with that external id so far, so probably none was created."
            if self.submitted.is_absent
            else "The API cannot be asked now whether it was created."
        )
        return f"{answer} {self._may_exist()}"

    def _may_exist(self) -> str:
        name = self.submission.external_id
        return (
            f"It stays registered as {name}: if it exists, kling-receiver finds and archives it; see: {_show(name)}. "
            f"To try again without paying twice, repeat the command with --external-task-id {shlex.quote(name)}"
        )

    def _how_to_go_on(self) -> str:
        name = self.name if self.submitted.failure is None else self.submission.external_id
        return f"The task is created and registered, and goes on by itself; see: {_show(name)}"

    def _pause(self, failure: Failure, seconds: float) -> None:
        if not isinstance(failure, CreateOutcomeUnknown):
            self._say_that_nothing_was_created()
        self.progress.pause(failure, seconds)

    def _say_that_nothing_was_created(self) -> None:
        # Under an external id of the operator's, an earlier run may have created it.
        by_whom = "" if self.submission.has_own_id else " by this run"
        _say_last(f"Nothing was created{by_whom}.")

    def _say_that_it_may_exist(self) -> None:
        _say_last(f"The task may have been created. {self._may_exist()}")


def _say_last(sentence: str) -> None:
    LAST_SENTENCE.text = clean(sentence)


def _show(task_id: str) -> str:
    """The command, as a shell takes it."""
    return f"kling-archiver show {shlex.quote(task_id)}"
