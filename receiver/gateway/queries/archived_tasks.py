"""Archived tasks in the API's format, from their manifests and amendments, with links in place of URLs.

The ledger knows which tasks are archived, under which keys, and the names of their files. The API's own object is only
in the bucket (`ledger/tables/archived.py`). Without the ledger nothing can be answered here: the keys contain a day
that a client does not name.
"""

import asyncio
import collections
import copy
import dataclasses
import functools
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from archiver import log
from archiver.archive import manifest
from archiver.archive.manifest import Manifest
from archiver.failures import Failure, LedgerUnavailable
from archiver.kling.dialects import Dialect, Document, in_dialect, with_strings
from archiver.kling.results import read_task
from archiver.ledger.views import KnownTask, Views
from archiver.model import Asset, Place, State
from archiver.store import Store
from archiver.store.links import LinkSigner, links_of
from receiver.gateway.blocking import BlockingCalls

LEDGER_SECONDS_MAX = 1.0
STORE_SECONDS_MAX = 5.0
"""The limit for reading a task's manifest and all its amendments."""
KEPT_BYTES_MAX = 16 * 1024 * 1024
"""How many bytes of documents stay in memory. The document under a key never changes."""

_log = log.get()
_NAMES_MAX = 500


class ArchiveUnread(Exception):
    """The ledger or the documents of an archived task cannot be read now."""


@dataclasses.dataclass(frozen=True, slots=True)
class ArchivedTask:
    """One task, complete in the bucket."""

    task_id: str
    external_task_id: str | None
    family: str
    document: Document
    """The task as its own path would show it."""

    def is_called(self, name: str) -> bool:
        return name in (self.task_id, self.external_task_id)

    def as_json(self, dialect: Dialect | None) -> bytes:
        """None: in its own dialect."""
        return json.dumps(in_dialect(self.document, dialect), separators=(",", ":")).encode()


@dataclasses.dataclass(frozen=True, slots=True)
class _Documents:
    """The documents of a task in the bucket."""

    manifest: Manifest
    amendments: tuple[Manifest, ...]
    bytes: int


class ArchivedTasks:
    """Finds archived tasks. For one event loop; `ledger_calls` and `store_calls` run what blocks. `signers` are those
    of the accounts."""

    def __init__(
        self,
        views: Views,
        store: Store,
        *,
        signers: Mapping[str, LinkSigner],
        ledger_calls: BlockingCalls,
        store_calls: BlockingCalls,
        ledger_seconds: float = LEDGER_SECONDS_MAX,
        store_seconds: float = STORE_SECONDS_MAX,
    ) -> None:
        self._views = views
        self._store = store
        self._signers = signers
        self._ledger_calls = ledger_calls
        self._store_calls = store_calls
        self._ledger_seconds = ledger_seconds
        self._store_seconds = store_seconds
        self._kept: collections.OrderedDict[tuple[str, ...], _Documents] = collections.OrderedDict()
        self._kept_bytes = 0

    async def find(
        self,
        *,
        account: str,
        task_ids: Sequence[str] = (),
        external_task_ids: Sequence[str] = (),
        belongs: Callable[[str], bool],
    ) -> list[ArchivedTask]:
        """The account's archived tasks of the families that `belongs` accepts. An external id means the newest task
        that has it, archived or not; an id goes before an external id. Raises ArchiveUnread, which is logged."""
        read = functools.partial(
            self._views.known_tasks,
            account=account,
            task_ids=task_ids[:_NAMES_MAX],
            external_task_ids=external_task_ids[:_NAMES_MAX],
        )
        try:
            known = await self._ledger_calls.run(read, seconds=self._ledger_seconds)
        except (LedgerUnavailable, TimeoutError) as error:
            _log.warning("gateway.ledger_unread", account=account, cause=str(error) or type(error).__name__)
            raise ArchiveUnread from None
        meant = _meant([task for task in known if _may_belong(task, belongs)], task_ids)
        archived = [task for task in meant if task.state is State.ARCHIVED]
        found = await asyncio.gather(*(self._task(task, account) for task in archived))
        return [task for task in found if task is not None]

    async def _task(self, known: KnownTask, account: str) -> ArchivedTask | None:
        if known.family is None or known.created_at is None or known.manifest_key is None:
            return None
        try:
            documents = await self._documents((known.manifest_key, *known.amendment_keys))
            document = self._with_links(documents, known, account, family=known.family)
        except (Failure, TimeoutError) as error:
            _log.warning(
                "gateway.manifest_unread",
                account=account,
                task_id=known.task_id,
                cause=str(error) or type(error).__name__,
            )
            raise ArchiveUnread from None
        return ArchivedTask(known.task_id, known.external_task_id, known.family, document)

    async def _documents(self, keys: tuple[str, ...]) -> _Documents:
        if keys in self._kept:
            self._kept.move_to_end(keys)
            return self._kept[keys]
        read = functools.partial(_read, self._store, keys)
        documents = await self._store_calls.run(read, seconds=self._store_seconds)
        self._keep(keys, documents)
        return documents

    def _keep(self, keys: tuple[str, ...], documents: _Documents) -> None:
        if keys in self._kept or documents.bytes > KEPT_BYTES_MAX:
            return
        self._kept[keys] = documents
        self._kept_bytes += documents.bytes
        while self._kept_bytes > KEPT_BYTES_MAX:
            _, oldest = self._kept.popitem(last=False)
            self._kept_bytes -= oldest.bytes

    def _with_links(self, documents: _Documents, known: KnownTask, account: str, *, family: str) -> Document:
        """Raises ApiAnswerUnreadable."""
        document, assets = _united(documents, family=family)
        stored = {
            leased.asset.stem: leased.stored.name for leased in known.assets if leased.stored is not None
        }
        links = links_of(
            self._signers[account],
            [asset for asset in assets if asset.stem in stored],
            account=account,
            family=family,
            created_at=known.created_at,
            task_id=known.task_id,
            names=stored,
        )
        return with_strings(
            document, {asset.place: links[asset.stem] for asset in assets if asset.stem in links}
        )


def _may_belong(task: KnownTask, belongs: Callable[[str], bool]) -> bool:
    """Whether the task may belong to the path; a task whose family is not known yet may."""
    family = task.family or task.family_hint
    return family is None or belongs(family)


def _meant(known: Sequence[KnownTask], task_ids: Sequence[str]) -> list[KnownTask]:
    """The tasks with these ids, then the newest of each other external id: Kling lets an application use one again once
    its first task is deleted."""
    by_id = [task for task in known if task.task_id in task_ids]
    taken = {task.task_id for task in by_id}
    newest: dict[str, KnownTask] = {}
    for task in sorted((task for task in known if task.task_id not in taken), key=_age):
        if task.external_task_id is not None and task.external_task_id not in taken:
            newest[task.external_task_id] = task
    return [*by_id, *newest.values()]


def _age(task: KnownTask) -> tuple[bool, int, str]:
    """The order of age: older tasks come first, and a task without a known creation time counts as new."""
    return task.created_at is None, task.created_at or 0, task.task_id


def _read(store: Store, keys: Sequence[str]) -> _Documents:
    contents = [store.read(key, bytes_max=manifest.BYTES_MAX) for key in keys]
    first, *amendments = [Manifest.from_bytes(content) for content in contents]
    return _Documents(first, tuple(amendments), sum(map(len, contents)))


def _united(documents: _Documents, *, family: str) -> tuple[Document, list[Asset]]:
    """The manifest's task with what the amendments name beyond it, and all files with their names and places. Raises
    ApiAnswerUnreadable."""
    document: dict[str, Any] = copy.deepcopy(dict(documents.manifest.task))
    assets = list(read_task(document, family=family).assets)
    for amendment in documents.amendments:
        named = read_task(amendment.task, family=family).assets
        known = {asset.stem for asset in assets}
        for asset in named:
            if asset.stem not in known:
                _graft(document, amendment.task, asset.place)
        of_url = {asset.url: asset.stem for asset in (*named, *assets)}
        placed = read_task(document, family=family).assets
        assets = [
            dataclasses.replace(asset, stem=of_url.get(asset.url, asset.stem)) for asset in placed
        ]  # fmt: skip
    return document, assets


def _graft(document: Any, other: Any, place: Place) -> None:
    """Give `document` what `other` has at a place: the value, or its outermost container that `document` lacks."""
    for step in place:
        if isinstance(document, list) and isinstance(other, list) and isinstance(step, int):
            if step >= len(document):
                document.append(copy.deepcopy(other[step]))
                return
        elif isinstance(document, dict) and isinstance(other, dict):
            if not isinstance(document.get(step), type(other[step])):
                document[step] = copy.deepcopy(other[step])
                return
        else:
            return
        if not isinstance(document[step], dict | list):
            document[step] = copy.deepcopy(other[step])
            return
        document, other = document[step], other[step]
