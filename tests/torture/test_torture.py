"""The frame of `make torture`: figures with bounds, one table, and the exit status."""

import math
import pathlib

import pytest

from tests.torture import __main__ as torture
from tests.torture.figures import Figure, none_of, table
from tests.torture.fleet.siege import beyond_budget
from tests.torture.options import Options
from tests.torture.parts import NOT_ON_POSTGRESQL, PARTS, PARTS_POSTGRESQL, Part


@pytest.mark.parametrize(
    ("figure", "holds", "must"),
    [
        (none_of("lost", 0), True, "0"),
        (none_of("lost", 1), False, "0"),
        (Figure("rounds", 300, minimum=300), True, "≥ 300"),
        (Figure("rounds", 299, minimum=300), False, "≥ 300"),
        (Figure("seconds", 5.5, maximum=5), False, "≤ 5"),
        (Figure("seconds", 2.25, minimum=1, maximum=5), True, "≥ 1, ≤ 5"),
        (Figure("minutes", 12), True, ""),
        (Figure("never measured", math.nan, maximum=5), False, "≤ 5"),
    ],
)
def test_a_figure_knows_its_bounds(figure: Figure, *, holds: bool, must: str) -> None:
    assert (figure.holds, figure.must) == (holds, must)


@pytest.mark.parametrize(
    ("times", "beyond"),
    [([0.0] * 4, 0), ([0.0] * 5, 1), ([0.0] * 4 + [1.0, 1.0, 1.0], 1), ([0.0] * 4 + [2.0] * 4, 0), ([], 0)],
)
def test_questions_beyond_a_budget_are_those_without_a_token(times: list[float], beyond: int) -> None:
    assert beyond_budget(times, per_second=2) == beyond


def test_the_table_marks_wrong_figures() -> None:
    text = table({"kills": [Figure("rounds", 1200, minimum=300), none_of("lost", 2)]})

    assert [line.split() for line in text.splitlines()[1:]] == [
        ["kills", "rounds", "1,200", "≥", "300"],
        ["kills", "lost", "2", "0", "WRONG"],
    ]


def broken(_options: Options) -> list[Figure]:
    raise AssertionError("the daemon did not start")


@pytest.mark.parametrize(
    ("part", "status"),
    [
        (lambda _options: [none_of("lost", 0)], 0),
        (lambda _options: [none_of("lost", 1)], 1),
        (broken, 1),
    ],
    ids=["well", "a loss", "broken"],
)
def test_a_loss_or_a_part_that_breaks_is_exit_status_1_and_the_other_parts_are_measured(
    capsys: pytest.CaptureFixture[str], part: Part, status: int
) -> None:
    parts: dict[str, Part] = {"one": part, "other": lambda _options: [Figure("other figure", 7)]}

    assert torture.main([], parts=parts) == status
    assert "other figure" in capsys.readouterr().out


def test_a_part_is_given_a_folder_of_its_own_the_rounds_and_the_seed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    seen: list[Options] = []

    def part(options: Options) -> list[Figure]:
        seen.append(options)
        assert list(options.folder.iterdir()) == []
        return []

    arguments = ["--rounds", "7", "--seed", "5", "--only", "one", "--only", "other"]

    assert torture.main(arguments, parts={"one": part, "other": part, "third": part}) == 0
    assert [(options.rounds, options.seed) for options in seen] == [(7, 5), (7, 5)]
    assert seen[0].folder != seen[1].folder
    assert not pathlib.Path(seen[0].folder).exists()
    assert capsys.readouterr().out.startswith("seed 5\n")


def test_each_part_runs_on_postgresql_or_says_why_not() -> None:
    assert {*PARTS_POSTGRESQL, *NOT_ON_POSTGRESQL} == {*PARTS, "fleet"}
    assert not PARTS_POSTGRESQL.keys() & NOT_ON_POSTGRESQL


@pytest.mark.parametrize(
    "arguments",
    [
        ["--rounds", "0"],
        ["--only", "nothing"],
        ["--ledger", "postgresql", "--only", "kills"],
        ["--only", "fleet"],
    ],
)
def test_a_mistake_in_the_options_is_exit_status_2(
    capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        torture.main(arguments)

    assert ended.value.code == 2
    assert "usage: make torture" in capsys.readouterr().err
