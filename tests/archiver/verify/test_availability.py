"""What each event makes of an endpoint, row by row. With ledger and log: tests/pipeline/test_gateway.py."""

import pytest

from archiver.verify.availability import (
    BACK_OFF_MS_MAX,
    BACK_OFF_MS_MIN,
    PAUSE_MS_MAX,
    PAUSE_MS_MIN,
    STRIKE_MS_MIN,
    EndpointStatus,
    Event,
    after,
)

NOW = 1_790_000_000_000
LONG_AGO = NOW - STRIKE_MS_MIN
JUST_NOW = NOW - STRIKE_MS_MIN + 1

NEW = EndpointStatus()
OFFERED = EndpointStatus(has_answered=True)
STRUCK = EndpointStatus(strikes=1, struck_at=NOW)
STRUCK_TWICE = EndpointStatus(strikes=2, struck_at=LONG_AGO)
UNAVAILABLE = EndpointStatus(refused_at=LONG_AGO)
BACKED_OFF = EndpointStatus(backed_off_until=NOW + BACK_OFF_MS_MIN, back_off_ms=BACK_OFF_MS_MIN)

TABLE = [
    # An answer forgets every refusal.
    (NEW, Event.ANSWERED, OFFERED),
    (STRUCK_TWICE, Event.ANSWERED, OFFERED),
    (UNAVAILABLE, Event.ANSWERED, OFFERED),
    (BACKED_OFF, Event.ANSWERED, OFFERED),
    # A sweep of long ago only tells that it can answer.
    (NEW, Event.SWEPT, OFFERED),
    (STRUCK, Event.SWEPT, EndpointStatus(has_answered=True, strikes=1, struck_at=NOW)),
    (UNAVAILABLE, Event.SWEPT, EndpointStatus(has_answered=True, refused_at=LONG_AGO)),
    # 404: proof where it has never answered, else a strike.
    (NEW, Event.NOT_OFFERED, EndpointStatus(refused_at=NOW)),
    (STRUCK, Event.NOT_OFFERED, EndpointStatus(strikes=1, struck_at=NOW, refused_at=NOW)),
    (OFFERED, Event.NOT_OFFERED, EndpointStatus(has_answered=True, strikes=1, struck_at=NOW)),
    (
        EndpointStatus(has_answered=True, strikes=2, struck_at=LONG_AGO),
        Event.NOT_OFFERED,
        EndpointStatus(has_answered=True, strikes=3, struck_at=NOW, refused_at=NOW),
    ),
    (
        EndpointStatus(has_answered=True, strikes=2, struck_at=JUST_NOW),
        Event.NOT_OFFERED,
        EndpointStatus(has_answered=True, strikes=2, struck_at=JUST_NOW),
    ),
    # HTML: a strike where it has never answered, else nothing.
    (NEW, Event.NOT_UNDERSTOOD, STRUCK),
    (STRUCK, Event.NOT_UNDERSTOOD, STRUCK),
    (STRUCK_TWICE, Event.NOT_UNDERSTOOD, EndpointStatus(strikes=3, struck_at=NOW, refused_at=NOW)),
    (OFFERED, Event.NOT_UNDERSTOOD, OFFERED),
    # Unavailable: each further refusal doubles the pause, up to a day.
    (UNAVAILABLE, Event.NOT_OFFERED, EndpointStatus(refused_at=NOW, pause_ms=2 * PAUSE_MS_MIN)),
    (UNAVAILABLE, Event.NOT_UNDERSTOOD, EndpointStatus(refused_at=NOW, pause_ms=2 * PAUSE_MS_MIN)),
    (
        EndpointStatus(has_answered=True, refused_at=LONG_AGO),
        Event.NOT_UNDERSTOOD,
        EndpointStatus(has_answered=True, refused_at=LONG_AGO),
    ),
    (
        EndpointStatus(refused_at=LONG_AGO, pause_ms=PAUSE_MS_MAX - 1),
        Event.NOT_OFFERED,
        EndpointStatus(refused_at=NOW, pause_ms=PAUSE_MS_MAX),
    ),
    # Any other refusal: back off, 30 s, doubling up to ten minutes; nothing is concluded from it.
    (NEW, Event.REFUSED_OTHERWISE, BACKED_OFF),
    (
        BACKED_OFF,
        Event.REFUSED_OTHERWISE,
        EndpointStatus(backed_off_until=NOW + 2 * BACK_OFF_MS_MIN, back_off_ms=2 * BACK_OFF_MS_MIN),
    ),
    (
        EndpointStatus(back_off_ms=BACK_OFF_MS_MAX),
        Event.REFUSED_OTHERWISE,
        EndpointStatus(backed_off_until=NOW + BACK_OFF_MS_MAX, back_off_ms=BACK_OFF_MS_MAX),
    ),
]


@pytest.mark.parametrize(("endpoint", "event", "expected"), TABLE)
def test_what_an_event_makes_of_an_endpoint(
    endpoint: EndpointStatus, event: Event, expected: EndpointStatus
) -> None:
    assert after(endpoint, event, now=NOW) == expected


@pytest.mark.parametrize(
    ("endpoint", "is_unavailable", "may_be_asked"),
    [
        (NEW, False, True),
        (OFFERED, False, True),
        (STRUCK_TWICE, False, True),
        (BACKED_OFF, False, False),
        (EndpointStatus(backed_off_until=NOW), False, True),
        (EndpointStatus(refused_at=NOW), True, False),
        (EndpointStatus(refused_at=NOW - PAUSE_MS_MIN + 1), True, False),
        (EndpointStatus(refused_at=NOW - PAUSE_MS_MIN), False, True),
        (EndpointStatus(refused_at=NOW + 1), False, True),  # a clock that ran ahead wrote it
        (EndpointStatus(refused_at=NOW - PAUSE_MS_MIN, backed_off_until=NOW + 1), False, False),
    ],
)
def test_whether_an_endpoint_may_be_asked(
    endpoint: EndpointStatus, is_unavailable: bool, may_be_asked: bool
) -> None:
    assert (endpoint.is_unavailable(NOW), endpoint.may_be_asked(NOW)) == (is_unavailable, may_be_asked)
