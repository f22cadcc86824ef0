"""How long a claim takes beside half a million tasks: every piece of work begins with one."""

import contextlib
import dataclasses
import statistics
import time
from collections.abc import Callable, Iterator

import sqlalchemy as sa

from archiver.failures import HostRefusing
from archiver.ledger import Ledger
from archiver.ledger.tables import schema
from archiver.model import Stage
from tests.deadlines.simulation import in_memory
from tests.harness.ledgers import ACCOUNT, DAY, FAMILY, START, Desk, claim_archive

HOST = "s15-kling.klingai.com"
TIMES = 20


@dataclasses.dataclass(frozen=True)
class ClaimFigures:
    """Median CPU milliseconds of one call, with `rows` tasks in the queue."""

    rows: int
    single_ms: float
    """One slot, all tasks due."""
    sixteen_ms: float
    """Sixteen slots at once, all tasks due."""
    none_due_ms: float
    """One slot, no task due: the claim examines all."""
    held_ms: float
    """One slot, every task of a held host: the claim examines all."""


def measure_claims(rows: int) -> ClaimFigures:
    """Fill a ledger with `rows` succeeded tasks and claim from it."""
    with in_memory() as folder, contextlib.closing(Desk(folder)) as desk:
        _fill(desk, rows, due_at=START)
        single = _median(lambda: claim_archive(desk.ledger, count=1, account=ACCOUNT))
        sixteen = _median(lambda: claim_archive(desk.ledger, count=16, account=ACCOUNT))
        refused = HostRefusing("refused", host=HOST)
        desk.ledger.holds.set(refused, account=ACCOUNT, stage=Stage.ARCHIVE)
        held = _median(lambda: claim_archive(desk.ledger, count=1, account=ACCOUNT))
        _release(desk.ledger)
        _fill(desk, rows, due_at=START + DAY)
        none_due = _median(lambda: claim_archive(desk.ledger, count=1, account=ACCOUNT))
    return ClaimFigures(rows, single, sixteen, none_due, held)


def _release(ledger: Ledger) -> None:
    ledger.holds.release_host(account=ACCOUNT, host=HOST, reasons=[HostRefusing.reason])


def _median(call: Callable[[], object]) -> float:
    took = []
    for _ in range(TIMES):
        began = time.thread_time()
        call()
        took.append((time.thread_time() - began) * 1000)
    return statistics.median(took)


def _fill(desk: Desk, rows: int, *, due_at: int) -> None:
    """Write rows directly: recording half a million answers of the API would take an hour."""
    desk.is_forged = True
    engine = sa.create_engine(f"sqlite:///{desk.path}")
    with engine.begin() as connection:
        connection.execute(sa.delete(schema.tasks))
        connection.execute(sa.insert(schema.tasks), list(_rows(rows, due_at=due_at)))
    engine.dispose()


def _rows(count: int, *, due_at: int) -> Iterator[dict[str, object]]:
    for number in range(count):
        created_at = START - number * 5000
        yield {
            "account": ACCOUNT,
            "task_id": f"t{number}",
            "family": FAMILY,
            "family_hint": FAMILY,
            "result_arrays": "",
            "state": "succeeded",
            "queue": schema.QUEUE_ARCHIVE,
            "attempts": number % 5,
            "held": 0,
            "due_at": due_at,
            "created_at": created_at,
            "deadline_at": created_at + 30 * DAY,
            "first_seen_at": START,
            "confirmed_at": START,
            "document": "{}",
            "asked": 0,
            "query_individually": False,
            "discovered_by": "sweep",
            "callbacks": 0,
            "asset_host": HOST,
        }
