"""Which family a task belongs to that `/tasks` or `/solutions` shows, and whose paths are asked for it."""

from collections.abc import Sequence

import pytest

from archiver.families import (
    FAMILIES,
    PLACES,
    ROLE_OF_OUTPUT_TYPE,
    SOLUTIONS,
    TASKS,
    arrays_shown_as,
    collection_of,
    is_provisional,
    roles_shown,
    shown_as,
)
from archiver.kling.new_standard import NewStandardTask, covers, guess_family, own_paths, roles_of
from archiver.model import Role, State


def outputs(*types: object) -> dict[str, object]:
    return {"outputs": [{"type": each} for each in types]}


@pytest.mark.parametrize(
    ("document", "roles"),
    [
        ({}, set()),
        ({"outputs": None}, set()),
        (outputs(), set()),
        (outputs("image", "image"), {Role.IMAGE}),
        (outputs("video", "audio"), {Role.VIDEO, Role.AUDIO}),
        (outputs("hologram"), {Role.OTHER}),
        (outputs(7), {Role.OTHER}),
        ({"outputs": ["https://host/a.png"]}, {Role.OTHER}),
        ({"images": [{"url": "u"}]}, {Role.IMAGE}),
        ({"task_result": {"series_images": [{"url": "u"}], "videos": []}}, {Role.IMAGE}),
    ],
)
def test_what_a_task_has_made_is_read_from_its_outputs(document: dict[str, object], roles: set[Role]) -> None:
    assert roles_of(document) == roles


def test_every_role_is_shown_as_one_that_has_an_output_type() -> None:
    assert set(PLACES) == set(Role) - {Role.OTHER}
    assert {shown_as(role) for role in PLACES} == set(ROLE_OF_OUTPUT_TYPE.values())
    assert Role.SERIES_IMAGE not in ROLE_OF_OUTPUT_TYPE.values()
    assert arrays_shown_as({Role.IMAGE}) == ["images", "series_images"]


@pytest.mark.parametrize(
    ("family", "roles"),
    [
        ("images/omni-image", {Role.IMAGE}),
        ("audio/video-to-audio", {Role.VIDEO, Role.AUDIO}),
        ("tasks/try_on", {Role.IMAGE}),
        ("tasks/audio", set()),
        ("solutions/virtual_try_on", set()),
        ("solutions/new", set()),
        ("videos/new", {Role.VIDEO}),
        ("general/new", None),
    ],
)
def test_what_tasks_shows_of_a_family(family: str, roles: set[Role] | None) -> None:
    assert roles_shown(family) == roles


@pytest.mark.parametrize(
    ("families", "roles", "covered"),
    [
        (["images/generations"], set(), True),
        (["images/generations"], {Role.OTHER}, True),
        (["images/generations"], {Role.IMAGE}, True),
        (["tasks/try_on"], {Role.IMAGE}, True),
        (["images/generations"], {Role.VIDEO}, False),
        (["images/generations"], {Role.VIDEO, Role.IMAGE}, True),
        (["solutions/virtual_try_on"], {Role.IMAGE}, False),
        (["general/new"], {Role.VOICE}, False),
    ],
)
def test_what_is_archived_of_tasks(families: Sequence[str], roles: set[Role], covered: bool) -> None:
    assert covers(families, frozenset(roles)) is covered


@pytest.mark.parametrize(
    ("hint", "families", "roles", "asked"),
    [
        ("tasks/image", ["images/generations"], {Role.IMAGE}, []),
        (None, ["videos/text2video", "images/generations"], {Role.IMAGE}, ["images/generations"]),
        (
            None,
            ["images/generations", "images/omni-image"],
            {Role.IMAGE},
            ["images/omni-image", "images/generations"],
        ),
        ("images/made-up", ["images/generations"], {Role.IMAGE}, ["images/made-up", "images/generations"]),
        ("videos/effects", [], {Role.IMAGE}, ["videos/effects"]),
        (None, ["images/generations", "general/new"], {Role.VOICE}, ["general/new", "general/custom-voices"]),
        (None, ["tasks/image", "images/generations"], set(), ["images/generations"]),
        (None, ["images/generations"], {Role.OTHER}, ["images/generations"]),
    ],
)
def test_whose_own_paths_are_asked(
    hint: str | None, families: Sequence[str], roles: set[Role], asked: Sequence[str]
) -> None:
    assert own_paths(hint, families, frozenset(roles)) == asked


@pytest.mark.parametrize(
    ("collection", "document", "preferred", "family"),
    [
        (TASKS, outputs(), [], "tasks/video"),
        (TASKS, outputs(), ["tasks/image"], "tasks/image"),
        (TASKS, outputs("image"), [], "tasks/image"),
        (TASKS, outputs("image"), ["tasks/video", "tasks/try_on"], "tasks/try_on"),
        (TASKS, outputs("image"), [None, "images/generations"], "tasks/image"),
        (TASKS, outputs("video", "image"), [], "tasks/video"),
        (TASKS, outputs("voice", "audio"), [], "tasks/audio"),
        (TASKS, outputs("hologram"), ["tasks/video"], "tasks/other"),
        (TASKS, outputs("element"), ["tasks/element"], "tasks/element"),
        (SOLUTIONS, outputs("video"), [], "solutions/virtual_try_on"),
        (SOLUTIONS, outputs("video"), ["tasks/video", "solutions/new"], "solutions/new"),
    ],
)
def test_the_family_is_guessed_from_the_preferred_ones_then_from_what_was_made(
    collection: str, document: dict[str, object], preferred: Sequence[str | None], family: str
) -> None:
    assert guess_family(NewStandardTask(collection, document), preferred) == family


def test_only_a_running_task_of_tasks_may_still_change_its_family() -> None:
    provisional = {(family, state) for family in FAMILIES for state in State if is_provisional(family, state)}

    assert provisional == {(family, State.RUNNING) for family in FAMILIES if collection_of(family) == TASKS}
