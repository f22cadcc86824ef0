"""The fake store keeps the promises that the real ones are held to, and complains of what must never happen."""

import hashlib
import json

import pytest

from archiver.failures import StoreUnreachable
from archiver.store import ConditionalPut, PutOutcome, Store
from tests.archiver.store.conformance import put
from tests.harness.fake_store import FakeStore

FOLDER = "images/generations/2026/11/20/881/"


@pytest.fixture
def store() -> Store:
    """What the borrowed tests are run against."""
    return FakeStore()


def manifest_of(content: bytes, *, name: str = "0.png") -> bytes:
    asset = {
        "key": FOLDER + name,
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    return json.dumps({"assets": [asset]}).encode()


def test_a_manifest_that_is_true_is_no_reason_to_complain() -> None:
    fake = FakeStore()
    put(fake, b"bytes", key=FOLDER + "0.png")
    put(fake, manifest_of(b"bytes"), key=FOLDER + "manifest.json")

    assert fake.complaints == []


@pytest.mark.parametrize(
    ("stored", "described", "complaint"),
    [
        (None, b"bytes", "came before"),
        (b"other", b"bytes", "wrongly"),
        (b"longer bytes", b"bytes", "wrongly"),
    ],
)
def test_it_complains_of_a_manifest_that_is_not_true(
    stored: bytes | None, described: bytes, complaint: str
) -> None:
    fake = FakeStore()
    if stored is not None:
        put(fake, stored, key=FOLDER + "0.png")
    put(fake, manifest_of(described), key=FOLDER + "manifest.json")

    assert [complaint in found for found in fake.complaints] == [True]


def test_it_complains_of_an_object_that_changes() -> None:
    fake = FakeStore(conditional=ConditionalPut.IGNORED)
    put(fake, b"bytes", key=FOLDER + "0.png")
    put(fake, b"other", key=FOLDER + "0.png")

    assert [("immutable" in found) for found in fake.complaints] == [True]


def test_it_complains_of_an_object_that_comes_after_its_manifest() -> None:
    fake = FakeStore()
    put(fake, b"bytes", key=FOLDER + "0.png")
    put(fake, manifest_of(b"bytes"), key=FOLDER + "manifest.json")
    put(fake, b"late", key=FOLDER + "1.png")

    assert [("after its manifest" in found) for found in fake.complaints] == [True]


@pytest.mark.parametrize("happens", [False, True])
def test_a_put_fails_with_or_without_happening(happens: bool) -> None:
    fake = FakeStore(
        lambda operation, _key: (happens, StoreUnreachable("cut") if operation == "put" else None)
    )

    with pytest.raises(StoreUnreachable):
        put(fake, b"x", key=FOLDER + "0.png")

    assert (FOLDER + "0.png" in fake.objects) is happens


def test_it_answers_a_create_only_put_that_is_ignored_like_such_a_store() -> None:
    fake = FakeStore(conditional=ConditionalPut.IGNORED)
    put(fake, b"bytes", key=FOLDER + "0.png")

    assert put(fake, b"bytes", key=FOLDER + "0.png").outcome is PutOutcome.CREATED
