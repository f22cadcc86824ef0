"""Sessions of the console that a logout has ended."""

from collections.abc import Iterator

import pytest

from archiver.ledger import ended_sessions
from tests.harness.ledgers import HOUR, Desk, Place


@pytest.fixture
def desk(place: Place) -> Iterator[Desk]:
    made = Desk(place)
    yield made
    made.close()


def test_an_ended_session_is_remembered_until_it_would_have_ended(desk: Desk) -> None:
    sessions = desk.ledger.ended_sessions
    sessions.end("one", expires_at=desk.clock() + HOUR)
    sessions.end("one", expires_at=desk.clock() + HOUR)
    assert (sessions.has("one"), sessions.has("two")) == (True, False)

    desk.clock.advance(2 * HOUR)
    sessions.end("two", expires_at=desk.clock() + HOUR)
    assert (sessions.has("one"), sessions.has("two")) == (False, True)


def test_remembered_sessions_are_bounded(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ended_sessions, "ENDED_MAX", 2)
    sessions = desk.ledger.ended_sessions
    for number in range(4):
        sessions.end(str(number), expires_at=desk.clock() + HOUR + number)

    assert [sessions.has(str(number)) for number in range(4)] == [False, False, True, True]
