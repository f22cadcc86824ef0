"""A flood of made-up ids, the small one; `tests.torture_flood` has the large one."""

import pathlib

import pytest

from tests.torture_flood import flood


@pytest.mark.parametrize("seed", [1, 2])
def test_a_flood_of_forged_ids_spends_no_more_than_the_budget_and_delays_no_genuine_callback_by_5_s(
    tmp_path: pathlib.Path, seed: int
) -> None:
    figures = flood(tmp_path, ids=4000, seed=seed)

    assert figures.unanswered == 0
    assert figures.genuine >= 10
    assert figures.delay_most_seconds <= 5
    assert figures.calls <= figures.calls_allowed
    assert figures.calls_in_background <= figures.calls_in_background_allowed
    assert 2000 <= figures.rows_most <= figures.rows_allowed
