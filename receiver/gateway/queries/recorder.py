"""Records what Kling says of tasks, before the client gets it with links. Blocking.

The order is the guarantee: an answer gets links only once its tasks are committed. So every link that a client has ever
seen leads to a task that is followed. A crash in between has told the client nothing.
"""

import dataclasses
from collections.abc import Mapping, Sequence

from archiver.families import PLACES
from archiver.kling.new_standard import roles_of
from archiver.ledger.registrations import Registrations
from archiver.ledger.views import Views
from archiver.model import RETENTION_MS, TASK_ID, DiscoveredBy, Status
from archiver.record import ROWS_MAX
from receiver.gateway.queries.account_tasks import AccountTasks
from receiver.gateway.queries.answers import AnsweredTask, AnswerOrigin, RecordedAnswer, UnrecordedAnswer
from receiver.gateway.queries.linking import CALLBACKS, AnswerLinker
from receiver.gateway.queries.reading import AnswerReader, placed_rows


class AnswerRecorder:
    """Records answers. Thread-safe."""

    def __init__(
        self, accounts: Mapping[str, AccountTasks], views: Views, registrations: Registrations
    ) -> None:
        self._accounts = accounts
        self._registrations = registrations
        self._reader = AnswerReader(accounts, views)
        self._linker = AnswerLinker(accounts)

    def read(self, body: bytes, origin: AnswerOrigin) -> RecordedAnswer | UnrecordedAnswer:
        """What an answer says, beside what the ledger knows of it. Writes nothing: where nothing is to be recorded, no
        lock is waited for. Raises LedgerUnavailable, and what else the ledger may raise."""
        placed = placed_rows(body)
        if placed is None:
            return self._linker.refused(body)
        rows = list(self._reader.rows(placed, origin, self._reader.known))
        news = [row for row in rows if row.is_recordable and _is_news(row)]
        unverified = self._unverified(rows, origin)
        if news or unverified:
            return UnrecordedAnswer(body, origin, placed, rows, news, unverified)
        return self._linker.linked(body, rows, placed, origin)

    def record(self, answer: UnrecordedAnswer) -> RecordedAnswer:
        """Raises LedgerUnavailable, and what else the ledger may raise."""
        self._record(answer)
        self._enrol(answer.unverified, answer.origin.account)
        return self._linker.linked(answer.body, answer.rows, answer.placed, answer.origin)

    def unrecorded(self, answer: UnrecordedAnswer) -> RecordedAnswer:
        """The answer, where the ledger cannot take it: links for the files that it knew before."""
        linked = self._linker.linked(answer.body, answer.rows, answer.placed, answer.origin)
        return dataclasses.replace(linked, is_recorded=False)

    def unread(self, body: bytes, origin: AnswerOrigin) -> RecordedAnswer:
        """The answer, where the ledger cannot be read. Asks nothing."""
        placed = placed_rows(body)
        if placed is None:
            return self._linker.refused(body)
        rows = list(self._reader.rows(placed, origin, lambda *_: {}))
        return dataclasses.replace(self._linker.linked(body, rows, placed, origin), is_recorded=False)

    def refused(self, body: bytes) -> RecordedAnswer:
        """An answer that says nothing of tasks."""
        return self._linker.refused(body)

    def knows(self, account: str, name: str) -> bool:
        """Whether it is the id of a task. Raises LedgerUnavailable, and what else the ledger may raise."""
        return TASK_ID.fullmatch(name) is not None and bool(self._reader.known(account, [name]))

    # --- recording --------------------------------------------------------------------------------------

    def _record(self, answer: UnrecordedAnswer) -> None:
        if not answer.news:
            return
        origin = answer.origin
        recorder = self._accounts[origin.account].recorder
        tasks = [row.task for row in answer.news]
        if origin.is_list or len(tasks) > ROWS_MAX:
            recorder.record_page(tasks)
        else:
            recorder.record(tasks, discovered_by=DiscoveredBy.REGISTRATION, asked_as=origin.identifier)
        if CALLBACKS not in answer.body and not any(task.assets for task in tasks):
            return  # the answer has neither a file to link nor a callback URL to replace
        known = self._reader.known(origin.account, [task.task_id for task in tasks])
        for row in answer.rows:
            row.known = known.get(row.task.task_id, row.known)

    def _unverified(self, rows: Sequence[AnsweredTask], origin: AnswerOrigin) -> dict[str, list[str]]:
        """Succeeded tasks that only a collection has shown: verification finds their families. Those of a list that
        Kling has deleted are left out, as in the sweep: their files are gone."""
        recorder = self._accounts[origin.account].recorder
        deleted_before = recorder.ledger.now() - RETENTION_MS if origin.is_list else 0
        return {
            row.task.task_id: sorted(
                PLACES[role].array for role in roles_of(row.document) if role in PLACES
            )
            for row in rows
            if row.known is None
            and not row.is_recordable
            and row.task.status is Status.SUCCEEDED
            and row.task.assets
            and (row.task.created_at or deleted_before) >= deleted_before
        }  # fmt: skip

    def _enrol(self, unverified: Mapping[str, Sequence[str]], account: str) -> None:
        wanted = list(unverified.items())
        for start in range(0, len(wanted), ROWS_MAX):
            self._registrations.enrol(dict(wanted[start : start + ROWS_MAX]), account=account)


def _is_news(row: AnsweredTask) -> bool:
    """A client that polls ten times a second must not write as often: callbacks wait for each transaction."""
    return row.known is None or row.known.is_changed_by(row.task)
