"""Reads which tasks an answer of Kling's shows, and what the ledger knows of them. Writes nothing."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence

from archiver.failures import ApiAnswerUnreadable
from archiver.families import SOLUTIONS, collection_of
from archiver.kling import responses, results
from archiver.kling.dialects import Dialect, in_dialect
from archiver.kling.new_standard import NewStandardTask, guess_family, own_paths, roles_of
from archiver.ledger.views import KnownTask, Views
from archiver.model import Place, Role, Task
from archiver.record import ROWS_MAX
from receiver.gateway.queries.account_tasks import AccountTasks
from receiver.gateway.queries.answers import AnsweredTask, AnswerOrigin


class AnswerReader:
    """Reads answers. Thread-safe."""

    def __init__(self, accounts: Mapping[str, AccountTasks], views: Views) -> None:
        self._accounts = accounts
        self._views = views

    def rows(
        self,
        placed: Sequence[tuple[Place, object]],
        origin: AnswerOrigin,
        known_of: Callable[[str, Sequence[str]], Mapping[str, KnownTask]],
    ) -> Iterator[AnsweredTask]:
        documents = []
        for place, row in placed:
            try:
                document = responses.sound(row)
            except ApiAnswerUnreadable:
                continue
            task_id = results.readable_id(document)
            is_asked_for = origin.identifier in (None, task_id, results.readable_external_id(document))
            if isinstance(document, dict) and task_id is not None and is_asked_for:
                documents.append((place, document, task_id))
        known = known_of(origin.account, [task_id for *_, task_id in documents])
        for place, document, task_id in documents:
            try:
                yield self._row(place, document, known.get(task_id), origin)
            except ApiAnswerUnreadable:
                continue

    def known(self, account: str, task_ids: Sequence[str]) -> dict[str, KnownTask]:
        """Those that the ledger has, by id. Raises LedgerUnavailable, and what else the ledger may raise."""
        found: dict[str, KnownTask] = {}
        for start in range(0, len(task_ids), ROWS_MAX):
            part = self._views.known_tasks(account=account, task_ids=task_ids[start : start + ROWS_MAX])
            found |= {task.task_id: task for task in part}
        return found

    def _row(
        self, place: Place, document: Mapping[str, object], known: KnownTask | None, origin: AnswerOrigin
    ) -> AnsweredTask:
        if origin.collection is None:
            return AnsweredTask(
                place, document, results.read_task(document, family=origin.family or ""), known
            )
        shown = NewStandardTask(origin.collection, document)
        family = None if known is None else known.family or known.family_hint
        families = self._accounts[origin.account].families
        if family is None:
            task = results.read_task(document, family=guess_family(shown, families))
            paths = own_paths(None, families, roles_of(document)) if origin.collection != SOLUTIONS else []
            row = AnsweredTask(place, document, task, known, is_recordable=not paths, own_paths=tuple(paths))
        elif collection_of(family) == origin.collection:
            task = results.read_task(document, family=guess_family(shown, [family]))
            row = AnsweredTask(place, document, task, known)
        else:
            task = _as_own_path_names(document, family, known)
            paths = [family] if collection_of(family) is None else []
            row = AnsweredTask(place, document, task, known, is_recordable=False, own_paths=tuple(paths))
        return row


def placed_rows(body: bytes) -> list[tuple[Place, object]] | None:
    """The rows of an answer; None where Kling did not answer with `code` 0."""
    try:
        answer = responses.read_answer(body)
        return responses.placed_rows(answer) if answer.code == 0 else None
    except ApiAnswerUnreadable:
        return None


def _as_own_path_names(document: Mapping[str, object], family: str, known: KnownTask | None) -> Task:
    """The task of a collection with the names that its files have at its family's own path."""
    task = results.read_task(document, family=family)
    if collection_of(family) is not None:
        return task
    roles = {leased.asset.role for leased in known.assets} if known is not None else set()
    is_series = Role.SERIES_IMAGE in roles and Role.IMAGE not in roles
    legacy = in_dialect(document, Dialect.LEGACY, is_series=is_series)
    stems = {asset.url: asset.stem for asset in results.read_task(legacy, family=family).assets}
    assets = [
        dataclasses.replace(asset, stem=stems[asset.url]) for asset in task.assets if asset.url in stems
    ]
    return dataclasses.replace(task, assets=tuple(assets))
