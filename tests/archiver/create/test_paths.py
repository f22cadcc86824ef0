"""Which paths are creates, and the tokens of callbacks that come by the gateway."""

import pytest

from archiver.create.callback_tokens import (
    GATEWAY_TOKEN_CHARACTERS,
    REFERENCE,
    gateway_token,
    new_reference,
)
from archiver.create.paths import LEGACY_PLACE, NEW_STANDARD_PLACE, create_path
from archiver.families import FAMILIES, collection_of
from archiver.model import FAMILY


@pytest.mark.parametrize(
    ("path", "family", "place"),
    [
        *[(f"/v1/{family}", family, LEGACY_PLACE) for family in FAMILIES if collection_of(family) is None],
        ("/v1/images/generations/", "images/generations", LEGACY_PLACE),
        ("/v1/images/%67enerations", "images/generations", LEGACY_PLACE),
        ("/text-to-video/kling-3.0-turbo", "tasks/video", NEW_STANDARD_PLACE),
        ("/motion-control/kling-2.6", "tasks/video", NEW_STANDARD_PLACE),
    ],
)
def test_a_path_whose_page_documents_the_callback_field_is_a_create(
    path: str, family: str, place: tuple[str, ...]
) -> None:
    found = create_path(path.encode())

    assert found is not None
    assert (found.family, found.place) == (family, place)
    assert FAMILY.fullmatch(found.family)


@pytest.mark.parametrize(
    "path",
    [
        "/tasks",
        "/solutions",
        "/solutions/virtual_try_on",
        "/v1/audio/tts",
        "/v1/videos/image-recognize",
        "/v1/videos/identify-face",
        "/v1/videos/multi-elements/init-selection",
        "/v1/images/generations/831768251064815642",
        "/images/generations",
        "/text-to-video",
        "/text-to-image/kling-image-4.0",
        "/v1/tasks/video",
    ],
)
def test_a_query_and_a_synchronous_path_are_no_creates(path: str) -> None:
    assert create_path(path.encode()) is None


def test_the_gateways_token_follows_from_a_callback_token_alone() -> None:
    token = gateway_token("a" * 32)

    assert token == gateway_token("a" * 32) != gateway_token("b" * 32)
    assert len(token) == GATEWAY_TOKEN_CHARACTERS
    assert "a" * 8 not in token
    assert REFERENCE.fullmatch(new_reference())
