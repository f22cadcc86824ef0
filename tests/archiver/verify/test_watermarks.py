"""Watermarked files that only list rows name (images/editing/expand) are in the ledger before anything is archived."""

import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from archiver.failures import Failure
from archiver.kling.client import KlingClient
from archiver.kling.credentials import KeyPair
from archiver.kling.limiter import RateLimiter
from archiver.ledger import Ledger
from archiver.metrics import Metrics
from archiver.model import Callback, State, Status
from archiver.verify.availability import Availability
from archiver.verify.stage import DELAY_ATTEMPTS_MAX, Verifier
from tests.harness.ledgers import ACCOUNT
from tests.simulator import KlingSimulator, faults

FAMILY = "images/editing/expand"
MINUTE_MS = 60_000


class Desk:
    """A verifier, its ledger and the account it asks; time is the test's."""

    def __init__(self, sim: KlingSimulator, folder: Path) -> None:
        self.sim = sim
        self.now_ms = time.time_ns() // 1_000_000
        self.ledger = Ledger.open(f"sqlite:///{folder}/ledger.db", daemon=True, now=lambda: self.now_ms)
        self.client = KlingClient(
            sim.base_url,
            KeyPair(access_key=sim.access_key, secret_key=sim.secret_key),
            RateLimiter(1000, wait=threading.Event().wait),
        )
        self.verifier = Verifier(
            account="default",
            families=(FAMILY,),
            client=self.client,
            ledger=self.ledger,
            offers=Availability(account="default", ledger=self.ledger, now=lambda: self.now_ms),
            metrics=Metrics(),
            now=lambda: self.now_ms,
            rand=random.Random(0).random,
        )

    def hear_of(self, task_id: str) -> None:
        callback = Callback(account="default", task_id=task_id, status=Status.SUCCEEDED, family_hint=FAMILY)
        self.ledger.record_callbacks([callback])

    def ask(self) -> State:
        """One try to verify the one task that waits; time enough passes before it for any earlier try to be over."""
        self.now_ms += 20 * MINUTE_MS
        (lease,) = self.ledger.claim_verify(count=1, offset=0, account=ACCOUNT)
        return self.verifier.ask(lease)

    def stems_to_archive(self) -> list[str]:
        (lease,) = self.ledger.claim_archive(count=1, offset=0, account=ACCOUNT)
        return [leased.asset.stem for leased in lease.assets]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with KlingSimulator() as sim:
        made = Desk(sim, tmp_path)
        yield made
        made.client.close()
        made.ledger.close()
        assert sim.complaints == []


def test_the_watermarked_file_that_only_the_list_names_is_archived_too(desk: Desk) -> None:
    desk.hear_of(desk.sim.create_task(family=FAMILY, images=2, watermark=True, status="succeed"))

    state = desk.ask()

    assert state is State.SUCCEEDED
    assert desk.stems_to_archive() == ["0", "0.watermark", "1", "1.watermark"]


def test_without_a_watermark_the_list_is_not_asked(desk: Desk) -> None:
    desk.hear_of(desk.sim.create_task(family=FAMILY, images=2, status="succeed"))

    desk.ask()

    assert desk.stems_to_archive() == ["0", "1"]
    assert desk.sim.requests["list"] == 0


def test_a_list_that_cannot_be_read_delays_the_task_and_does_not_stop_it(desk: Desk) -> None:
    desk.hear_of(desk.sim.create_task(family=FAMILY, watermark=True, status="succeed"))
    desk.sim.fault("list", faults.server_error())

    for _ in range(DELAY_ATTEMPTS_MAX):
        with pytest.raises(Failure):
            desk.ask()
    state = desk.ask()

    assert state is State.SUCCEEDED
    assert desk.stems_to_archive() == ["0"]
