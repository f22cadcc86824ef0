"""Where an id is looked for, and what it means that it is nowhere: tables, no questions asked."""

from typing import Any

import pytest

from archiver.failures import ApiForbidden, ApiServerError, Failure, NeedsApiKey, NotOffered
from archiver.model import DiscoveredBy, Lease, Stage, State
from archiver.verify.places import SEARCH_ALL_EVERY, NotThere, ends_search, places, verdict
from tests.harness.ledgers import ACCOUNT, DAY, FAMILY, START

EXPAND, OMNI = "images/editing/expand", "images/omni-image"
VIDEO, CONFIGURED = "tasks/video", (FAMILY, EXPAND, "tasks/image")
FORBIDDEN, AWAY = ApiForbidden("1103"), ApiServerError("500")


def lease(**named: Any) -> Lease:
    """An id that a callback named, asked for the first time."""
    values: dict[str, Any] = {
        "row_id": 1,
        "token": "token",
        "stage": Stage.VERIFY,
        "account": ACCOUNT,
        "task_id": "t",
        "external_task_id": None,
        "state": State.REPORTED,
        "attempt": 1,
        "asked": 0,
        "family": None,
        "family_hint": None,
        "result_arrays": (),
        "confirmed": False,
        "created_at": None,
        "updated_at": None,
        "deadline_at": START + DAY,
        "discovered_by": DiscoveredBy.CALLBACK,
        "asset_host": None,
        "document": {},
        "request": None,
    }
    return Lease(**values | named)


@pytest.mark.parametrize(
    ("asked_for", "expected"),
    [
        (lease(), [*CONFIGURED]),
        (lease(family_hint=EXPAND), [EXPAND, FAMILY, "tasks/image"]),
        (lease(family_hint=OMNI), [OMNI, *CONFIGURED]),
        (lease(family_hint="made/up"), ["made/up", *CONFIGURED]),
        (lease(family=OMNI, family_hint=FAMILY, confirmed=True), [OMNI]),
    ],
)
def test_the_settled_family_alone_else_the_hint_and_then_every_configured_one(
    asked_for: Lease, expected: list[str]
) -> None:
    assert places(asked_for, CONFIGURED, omitted_by_batch=False) == expected


def test_the_arrays_of_a_callback_tell_which_families_come_first() -> None:
    found = places(lease(result_arrays=("series_images",)), (FAMILY, OMNI), omitted_by_batch=False)

    assert found[0] == OMNI


@pytest.mark.parametrize("asked", range(2 * SEARCH_ALL_EVERY))
@pytest.mark.parametrize("confirmed", [False, True])
def test_an_id_that_tasks_omits_is_looked_for_elsewhere_every_third_time(asked: int, confirmed: bool) -> None:
    asked_for = lease(asked=asked, confirmed=confirmed, family_hint=VIDEO)
    expected = [FAMILY, EXPAND] if asked in (2, 5) and not confirmed else []

    assert places(asked_for, CONFIGURED, omitted_by_batch=True) == expected


@pytest.mark.parametrize(
    ("asked_for", "family", "expected"),
    [
        (lease(family_hint=FAMILY), FAMILY, True),
        (lease(family_hint=OMNI), OMNI, True),  # known, though not configured
        (lease(family_hint=FAMILY, asked=1), FAMILY, False),
        (lease(family_hint=FAMILY), EXPAND, False),
        (lease(family_hint="made/up"), "made/up", False),
        (lease(), FAMILY, False),
    ],
)
def test_only_a_known_hint_and_only_the_first_time_ends_the_search(
    asked_for: Lease, family: str, expected: bool
) -> None:
    assert ends_search(asked_for, family, CONFIGURED) is expected


OF_NEW_STANDARD = lease(result_arrays=("outputs",))
CONSOLE_TEST = lease(is_console_test=True)
NO_KEY, NO_PATH = NeedsApiKey("no key"), NotOffered("404")


@pytest.mark.parametrize(
    ("asked_for", "found", "has_api_key", "expected"),
    [
        (lease(), NotThere(), False, None),
        (lease(), NotThere(), True, None),
        # Found nowhere, but one family refused: the task may be there.
        (lease(), NotThere(FORBIDDEN), False, FORBIDDEN),
        (lease(), NotThere(NO_KEY), False, NO_KEY),
        (lease(), NotThere(NO_PATH), True, NO_PATH),
        (OF_NEW_STANDARD, NotThere(FORBIDDEN), False, FORBIDDEN),
        # The console's test is of no task, so what we cannot ask is no reason to bury it.
        (CONSOLE_TEST, NotThere(NO_KEY), False, None),
        (CONSOLE_TEST, NotThere(NO_PATH), True, None),
        (CONSOLE_TEST, NotThere(FORBIDDEN), False, FORBIDDEN),
        (CONSOLE_TEST, NotThere(AWAY), True, AWAY),
        # The new standard without an API Key, unless the search has not been through, or the API has confirmed it.
        (OF_NEW_STANDARD, NotThere(), True, None),
        (OF_NEW_STANDARD, NotThere(searched_all=False), False, None),
        (lease(result_arrays=("outputs",), confirmed=True), NotThere(), False, None),
    ],
)
def test_the_verdict_when_no_family_knows_an_id(
    asked_for: Lease, found: NotThere, has_api_key: bool, expected: Failure | None
) -> None:
    assert verdict(asked_for, found, has_api_key=has_api_key) is expected


def test_a_callback_of_the_new_standard_that_no_family_knows_needs_an_api_key() -> None:
    failure = verdict(OF_NEW_STANDARD, NotThere(), has_api_key=False)

    assert isinstance(failure, NeedsApiKey)
    assert "The callback of t is of the new standard" in str(failure)
