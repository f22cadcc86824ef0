"""What is known of an answer of Kling's: before the ledger has recorded it, and afterwards."""

import dataclasses
from collections.abc import Mapping, Sequence

from archiver.ledger.views import KnownTask
from archiver.metrics import GatewayKind
from archiver.model import Place, Task
from receiver.gateway.exchange import GatewayRequest


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


def origin_of(request: GatewayRequest) -> AnswerOrigin:
    collection = request.path[1:].partition(b"/")[0].decode("latin-1") if request.family is None else None
    is_list = request.kind is GatewayKind.LIST
    return AnswerOrigin(request.client.account, request.family, collection, request.identifier, is_list)


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
    """(id, families) of those of `unlinked` that one of these families can show at its own path, with more than this
    answer does."""
    is_recorded: bool = True


@dataclasses.dataclass(slots=True)
class AnsweredTask:
    """One task of an answer."""

    place: Place
    document: Mapping[str, object]
    task: Task
    known: KnownTask | None
    is_recordable: bool = True
    own_paths: tuple[str, ...] = ()
    """Families one of which shows more of the task at its own path."""


@dataclasses.dataclass(frozen=True, slots=True)
class UnrecordedAnswer:
    """An answer that contains something that the ledger has yet to record."""

    body: bytes
    origin: AnswerOrigin
    placed: Sequence[tuple[Place, object]]
    rows: Sequence[AnsweredTask]
    news: Sequence[AnsweredTask]
    """The rows to record."""
    unverified: Mapping[str, Sequence[str]]
    """Ids to enrol, with the arrays that say what they have made."""
