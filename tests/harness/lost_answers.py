"""Creates of the gateway whose answers are lost."""

from archiver.ledger.gateway_creates.by_time import MATCHED_MS
from archiver.ledger.gateway_creates.registering import GatewayCreate
from archiver.model import DiscoveredBy
from tests.harness.ledgers import ACCOUNT, FAMILY, Desk, answer


def lose_answers(desk: Desk, *urls: str) -> None:
    """Creates of these clients get no answer; a sweep that begins later shows one task."""
    creates = [
        GatewayCreate(f"r-{number}", ACCOUNT, FAMILY, None, url, {}) for number, url in enumerate(urls)
    ]
    desk.ledger.gateway_creates.commit(begun=creates)
    desk.say(answer(created_at=desk.clock()), by=DiscoveredBy.SWEEP)
    desk.clock.advance(MATCHED_MS)
    token = desk.ledger.sweeps.begin(account=ACCOUNT, family=FAMILY)
    assert token is not None
    desk.ledger.sweeps.end(token, succeeded_at=desk.clock(), full=False, oldest_first=False, last_page=None)
