"""A flood of made-up ids, the small one; `tests.torture.flood` has the large one."""

import dataclasses

import pytest
import structlog.testing

from tests.torture.flood import Figures, flood


@pytest.fixture(scope="module", params=[1, 2])
def figures(request: pytest.FixtureRequest) -> Figures:
    with structlog.testing.capture_logs():
        return flood(4000, seed=request.param)


def test_a_flood_of_forged_ids_spends_no_more_than_the_budget_and_delays_no_genuine_callback_by_5_s(
    figures: Figures,
) -> None:
    assert figures.genuine >= 10
    assert figures.rows_max >= 2000
    assert figures.broken() == []


@pytest.mark.parametrize(
    "changes",
    [
        {"unanswered": 1},
        {"delay_max_seconds": 5.1},
        {"calls": 10_000},
        {"calls_in_background": 10_000},
        {"rows_max": 100_000},
    ],
)
def test_a_broken_promise_is_reported(figures: Figures, changes: dict[str, float]) -> None:
    assert len(dataclasses.replace(figures, **changes).broken()) == 1  # type: ignore[arg-type]  # by name
