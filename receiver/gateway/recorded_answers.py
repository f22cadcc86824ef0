"""Records what Kling says of tasks, and then puts links in place of its URLs. Blocking.

The order is the guarantee: an answer gets links only once its tasks are committed. So every link that a client has ever
seen leads to a task that is followed. A crash in between has told the client nothing.

An answer is changed in its strings only: the URL fields that the reader of results names, and our own callback URLs.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence

from archiver.create.callback_urls import CallbackUrls
from archiver.failures import ApiAnswerUnreadable
from archiver.families import PLACES, SOLUTIONS, collection_of
from archiver.kling import responses, results
from archiver.kling.dialects import Dialect, in_dialect
from archiver.kling.new_standard import NewStandardTask, guess_family, own_paths, roles_of
from archiver.kling.places import replace_strings
from archiver.ledger.registrations import Registrations
from archiver.ledger.views import KnownTask, Views
from archiver.model import RETENTION_MS, TASK_ID, DiscoveredBy, Place, Role, Status, Task
from archiver.record import ROWS_MAX, Recorder
from archiver.store.links import LinkSigner, links_of

_CALLBACKS = b"callbacks"


@dataclasses.dataclass(frozen=True, slots=True)
class AnswerOrigin:
    """The account of an answer, and the query that it answers."""

    account: str
    family: str | None
    """The family of a path below `/v1/`."""
    collection: str | None
    """`tasks` or `solutions`, for any other path."""
    identifier: str | None
    """The id that a single query below `/v1/` names: an answer about any other task does not count."""
    is_list: bool


@dataclasses.dataclass(frozen=True, slots=True)
class RecordedAnswer:
    """An answer as the client may have it."""

    body: bytes
    is_success: bool
    """Whether Kling answered with `code` 0."""
    names: frozenset[str] = frozenset()
    """The ids and external ids of the tasks that it answers for."""
    shown: frozenset[str] = frozenset()
    """With those of succeeded tasks whose results are gone."""
    rows_place: Place | None = None
    """The place of its array of tasks."""
    unlinked: tuple[str, ...] = ()
    """The ids of succeeded tasks that still have Kling's own URLs."""
    at_own_paths: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """(id, families) of those of `unlinked` that the first of these families whose own path knows them can record."""
    is_recorded: bool = True


@dataclasses.dataclass(slots=True)
class _Row:
    """One task of an answer."""

    place: Place
    document: Mapping[str, object]
    task: Task
    known: KnownTask | None
    is_recordable: bool = True
    own_paths: tuple[str, ...] = ()
    """Families one of which has a better answer."""


@dataclasses.dataclass(frozen=True, slots=True)
class UnrecordedAnswer:
    """An answer that contains something that the ledger has yet to record."""

    body: bytes
    origin: AnswerOrigin
    placed: Sequence[tuple[Place, object]]
    rows: Sequence[_Row]
    news: Sequence[_Row]
    """The rows to record."""
    unverified: Mapping[str, Sequence[str]]
    """Ids to enrol, with the arrays that say what they have made."""


@dataclasses.dataclass(frozen=True, slots=True)
class AccountTasks:
    """What is needed to record tasks of an account, and to make links to their files."""

    recorder: Recorder
    families: tuple[str, ...]
    signer: LinkSigner
    public_url: str
    """How Kling reaches our callback door."""


class AnswerRecorder:
    """Records answers. Thread-safe."""

    def __init__(
        self, accounts: Mapping[str, AccountTasks], views: Views, registrations: Registrations
    ) -> None:
        self._accounts = accounts
        self._views = views
        self._registrations = registrations
        self._ours = CallbackUrls({account.public_url for account in accounts.values()})

    def read(self, body: bytes, origin: AnswerOrigin) -> RecordedAnswer | UnrecordedAnswer:
        """What an answer says, beside what the ledger knows of it. Writes nothing: where nothing is to be recorded, no
        lock is waited for. Raises LedgerUnavailable, and what else the ledger may raise."""
        placed = _placed(body)
        if placed is None:
            return self.refused(body)
        rows = list(self._rows(placed, origin, self._known))
        news = [row for row in rows if row.is_recordable and _is_news(row)]
        unverified = self._unverified(rows, origin)
        if news or unverified:
            return UnrecordedAnswer(body, origin, placed, rows, news, unverified)
        return self._linked(body, rows, placed, origin)

    def record(self, answer: UnrecordedAnswer) -> RecordedAnswer:
        """Raises LedgerUnavailable, and what else the ledger may raise."""
        self._record(answer)
        self._enrol(answer.unverified, answer.origin.account)
        return self._linked(answer.body, answer.rows, answer.placed, answer.origin)

    def unrecorded(self, answer: UnrecordedAnswer) -> RecordedAnswer:
        """The answer, where the ledger cannot take it: links for the files that it knew before."""
        linked = self._linked(answer.body, answer.rows, answer.placed, answer.origin)
        return dataclasses.replace(linked, is_recorded=False)

    def unread(self, body: bytes, origin: AnswerOrigin) -> RecordedAnswer:
        """The answer, where the ledger cannot be read. Asks nothing."""
        placed = _placed(body)
        if placed is None:
            return self.refused(body)
        rows = list(self._rows(placed, origin, lambda *_: {}))
        return dataclasses.replace(self._linked(body, rows, placed, origin), is_recorded=False)

    def refused(self, body: bytes) -> RecordedAnswer:
        """An answer that says nothing of tasks."""
        return RecordedAnswer(self._without_our_urls(body), is_success=False)

    def knows(self, account: str, name: str) -> bool:
        """Whether it is the id of a task. Raises LedgerUnavailable, and what else the ledger may raise."""
        return TASK_ID.fullmatch(name) is not None and bool(self._known(account, [name]))

    # --- reading ----------------------------------------------------------------------------------------

    def _rows(
        self,
        placed: Sequence[tuple[Place, object]],
        origin: AnswerOrigin,
        known_of: Callable[[str, Sequence[str]], Mapping[str, KnownTask]],
    ) -> Iterator[_Row]:
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

    def _known(self, account: str, task_ids: Sequence[str]) -> dict[str, KnownTask]:
        found: dict[str, KnownTask] = {}
        for start in range(0, len(task_ids), ROWS_MAX):
            part = self._views.known_tasks(account=account, task_ids=task_ids[start : start + ROWS_MAX])
            found |= {task.task_id: task for task in part}
        return found

    def _row(
        self, place: Place, document: Mapping[str, object], known: KnownTask | None, origin: AnswerOrigin
    ) -> _Row:
        if origin.collection is None:
            return _Row(place, document, results.read_task(document, family=origin.family or ""), known)
        shown = NewStandardTask(origin.collection, document)
        family = None if known is None else known.family or known.family_hint
        families = self._accounts[origin.account].families
        if family is None:
            task = results.read_task(document, family=guess_family(shown, families))
            paths = own_paths(None, families, roles_of(document)) if origin.collection != SOLUTIONS else []
            row = _Row(place, document, task, known, is_recordable=not paths, own_paths=tuple(paths))
        elif collection_of(family) == origin.collection:
            task = results.read_task(document, family=guess_family(shown, [family]))
            row = _Row(place, document, task, known)
        else:
            task = _as_own_path_names(document, family, known)
            paths = [family] if collection_of(family) is None else []
            row = _Row(place, document, task, known, is_recordable=False, own_paths=tuple(paths))
        return row

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
        if _CALLBACKS not in answer.body and not any(task.assets for task in tasks):
            return  # nothing of what is known now would be told
        known = self._known(origin.account, [task.task_id for task in tasks])
        for row in answer.rows:
            row.known = known.get(row.task.task_id, row.known)

    def _unverified(self, rows: Sequence[_Row], origin: AnswerOrigin) -> dict[str, list[str]]:
        """What only a collection has shown: verification finds its family. Of a list, not what Kling has deleted: as in
        the sweep, its files are gone."""
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

    # --- linking ----------------------------------------------------------------------------------------

    def _linked(
        self, body: bytes, rows: Sequence[_Row], placed: Sequence[tuple[Place, object]], origin: AnswerOrigin
    ) -> RecordedAnswer:
        strings: dict[Place, str] = {}
        unlinked = []
        has_our_url = _CALLBACKS in body
        for row in rows:
            links = self._links(row, origin.account)
            strings |= {(*row.place, *place): link for place, link in links.items()}
            if row.task.status is Status.SUCCEEDED and len(links) < len(row.task.assets):
                unlinked.append(row)
            if has_our_url:
                strings |= self._clients_urls(row)
        body = replace_strings(body, strings) if strings else body
        return RecordedAnswer(
            self._without_our_urls(body),
            is_success=True,
            names=frozenset(name for row in rows if _says_something(row) for name in _names(row.task)),
            shown=frozenset(name for row in rows for name in _names(row.task)),
            rows_place=_array_place(placed),
            unlinked=tuple(row.task.task_id for row in unlinked),
            at_own_paths=tuple((row.task.task_id, row.own_paths) for row in unlinked if row.own_paths),
        )

    def _links(self, row: _Row, account: str) -> dict[Place, str]:
        """Place in the task object → link, of each URL whose file the ledger knows."""
        if row.known is None:
            return {}
        names = {
            leased.asset.stem: leased.stored.name if leased.stored is not None else None
            for leased in row.known.assets
        }
        assets = [asset for asset in row.task.assets if asset.stem in names]
        links = links_of(
            self._accounts[account].signer,
            assets,
            account=account,
            family=row.known.family,
            created_at=row.known.created_at,
            task_id=row.known.task_id,
            names={stem: name for stem, name in names.items() if name is not None},
        )
        return {asset.place: links[asset.stem] for asset in assets if asset.stem in links}

    def _clients_urls(self, row: _Row) -> dict[Place, str]:
        """Where our callback URL stands in a task, the client's own is put back."""
        clients = (row.known.client_callback_url if row.known is not None else None) or ""
        return {
            (*row.place, *place): self._ours.replaced(text, clients)
            for place, text in results.strings_in(row.document)
            if self._ours.stand_in(text)
        }

    def _without_our_urls(self, body: bytes) -> bytes:
        """Wherever else it stands, in a message for one, nothing is left of it."""
        return self._ours.replaced_in(body, "")


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


def _placed(body: bytes) -> list[tuple[Place, object]] | None:
    """The rows of an answer; None where Kling did not answer with `code` 0."""
    try:
        answer = responses.read_answer(body)
        return responses.placed_rows(answer) if answer.code == 0 else None
    except ApiAnswerUnreadable:
        return None


def _is_news(row: _Row) -> bool:
    """A client that polls ten times a second must not write as often: callbacks wait for each transaction."""
    return row.known is None or row.known.is_changed_by(row.task)


def _says_something(row: _Row) -> bool:
    """Not a succeeded task whose results are gone."""
    return row.task.status is not Status.SUCCEEDED or bool(row.task.assets)


def _names(task: Task) -> Iterator[str]:
    yield task.task_id
    if task.external_task_id is not None:
        yield task.external_task_id


def _array_place(placed: Sequence[tuple[Place, object]]) -> Place | None:
    place = placed[0][0] if placed else responses.DATA
    return place[:-1] if placed and isinstance(place[-1], int) else place
