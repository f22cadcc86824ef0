"""Puts links in place of Kling's URLs, and clients' callback URLs in place of ours.

An answer is changed in its strings only: the URL fields that the reader of results names, and our own callback URLs.
"""

from collections.abc import Iterator, Mapping, Sequence

from archiver.create.callback_urls import CallbackUrls
from archiver.kling import responses, results
from archiver.kling.places import replace_strings
from archiver.model import Place, Status, Task
from archiver.store.links import links_of
from receiver.gateway.queries.account_tasks import AccountTasks
from receiver.gateway.queries.answers import AnsweredTask, AnswerOrigin, RecordedAnswer

CALLBACKS = b"callbacks"
"""In each of our callback URLs."""


class AnswerLinker:
    """Makes the answers that clients get. Thread-safe."""

    def __init__(self, accounts: Mapping[str, AccountTasks]) -> None:
        self._accounts = accounts
        self._ours = CallbackUrls({account.public_url for account in accounts.values()})

    def linked(
        self,
        body: bytes,
        rows: Sequence[AnsweredTask],
        placed: Sequence[tuple[Place, object]],
        origin: AnswerOrigin,
    ) -> RecordedAnswer:
        """The answer, with a link for each URL whose file the ledger knows."""
        strings: dict[Place, str] = {}
        unlinked = []
        has_our_url = CALLBACKS in body
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

    def refused(self, body: bytes) -> RecordedAnswer:
        """An answer that says nothing of tasks."""
        return RecordedAnswer(self._without_our_urls(body), is_success=False)

    def _links(self, row: AnsweredTask, account: str) -> dict[Place, str]:
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

    def _clients_urls(self, row: AnsweredTask) -> dict[Place, str]:
        """Each place of our callback URL in a task, with the client's own URL."""
        clients = (row.known.client_callback_url if row.known is not None else None) or ""
        return {
            (*row.place, *place): self._ours.replaced(text, clients)
            for place, text in results.strings_in(row.document)
            if self._ours.stand_in(text)
        }

    def _without_our_urls(self, body: bytes) -> bytes:
        """Elsewhere, for example in a message, our callback URL is cut out."""
        return self._ours.replaced_in(body, "")


def _says_something(row: AnsweredTask) -> bool:
    """False for a succeeded task whose results are gone."""
    return row.task.status is not Status.SUCCEEDED or bool(row.task.assets)


def _names(task: Task) -> Iterator[str]:
    yield task.task_id
    if task.external_task_id is not None:
        yield task.external_task_id


def _array_place(placed: Sequence[tuple[Place, object]]) -> Place | None:
    place = placed[0][0] if placed else responses.DATA
    return place[:-1] if placed and isinstance(place[-1], int) else place
