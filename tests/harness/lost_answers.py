"""Creates of the gateway whose answers are lost, and the words in which their tests speak."""

from typing import Any

from archiver.ledger.gateway_creates.by_time import (
    MATCHED_MS,
    MatchDoubt,
)
from archiver.ledger.gateway_creates.joining import JoinedBy
from archiver.ledger.gateway_creates.registering import GatewayCreate
from archiver.model import DiscoveredBy, Status
from tests.harness.ledgers import ACCOUNT, FAMILY, SECOND, START, Desk, answer

URL = "https://app.example.com/cb"
OTHER_URL = "https://other.example.com/cb"


def create(reference: str = "r-1", url: str | None = URL, **fields: Any) -> GatewayCreate:
    known: dict[str, Any] = {"external_task_id": None, "request": {"prompt": "a fox"}} | fields
    return GatewayCreate(reference, ACCOUNT, FAMILY, client_callback_url=url, **known)


def begin(desk: Desk, *creates: GatewayCreate) -> None:
    desk.ledger.gateway_creates.commit(begun=creates or [create()])


def found(desk: Desk, task_id: str = "t", status: Status = Status.SUCCEEDED, **fields: Any) -> None:
    """The sweep finds this task."""
    fields = {"created_at": START + SECOND} | fields
    desk.say(answer(task_id, status, **fields), by=DiscoveredBy.SWEEP)


def swept(desk: Desk, family: str = FAMILY) -> None:
    """A sweep that begins now reads the whole list."""
    sweeps = desk.ledger.sweeps
    token = sweeps.begin(account=ACCOUNT, family=family)
    assert token is not None
    sweeps.end(token, succeeded_at=desk.clock(), full=False, oldest_first=False, last_page=None)


def pass_by(desk: Desk) -> None:
    """So long that another application would have shown itself, and then a sweep."""
    desk.clock.advance(MATCHED_MS)
    swept(desk)


def joined(desk: Desk) -> list[str]:
    matches, _ = desk.ledger.gateway_creates.match_by_time()
    assert {match.by for match in matches} <= {JoinedBy.TIME}
    return [match.task_id for match in matches]


def doubted(desk: Desk) -> list[tuple[MatchDoubt, int, tuple[str, ...]]]:
    matches, doubted_creates = desk.ledger.gateway_creates.match_by_time()
    assert matches == []
    return [(doubt.reason, doubt.count, doubt.task_ids) for doubt in doubted_creates]


def nothing_comes(desk: Desk) -> bool:
    return desk.ledger.gateway_creates.match_by_time() == ([], [])


def told(desk: Desk, task_id: str = "t") -> tuple[str | None, str | None]:
    row = desk.row(task_id)
    return row["client_callback_url"], row["request"]


def references(desk: Desk) -> dict[str, str]:
    rows = desk.rows("SELECT reference, state FROM gateway_creates ORDER BY reference")
    return {row["reference"]: row["state"] for row in rows}


def lose_answers(desk: Desk, *urls: str) -> None:
    """Creates of these clients get no answer; a sweep that begins later shows one task."""
    begin(desk, *(create(f"r-{number}", url, request={}) for number, url in enumerate(urls)))
    found(desk, created_at=desk.clock())
    pass_by(desk)
