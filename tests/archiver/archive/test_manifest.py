"""The manifest: what is written is what the published schema says, and what is read back is what was written."""

import dataclasses
import json
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver.archive import manifest
from archiver.archive.manifest import Manifest, ManifestUnreadable
from archiver.model import DAY_MS, DiscoveredBy, Role, StoredAsset
from tests.harness.repository import DEPLOY

PUBLISHED = json.loads((DEPLOY / "manifest.schema.json").read_text())
CREATED_AT = 1_790_000_000_123

TEXTS = st.text(st.characters(exclude_categories=[]), max_size=20)
"""Any code point, lone surrogates included."""
STORED_TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
"""What a ledger can hold."""
MOMENTS = st.integers(1_577_836_800_000, 4_102_444_799_999)
COUNTS = st.integers(0, 10**18)
DOCUMENTS = st.dictionaries(
    TEXTS,
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
        lambda values: st.lists(values, max_size=3) | st.dictionaries(TEXTS, values, max_size=3),
        max_leaves=10,
    ),
    max_size=5,
)


def an_asset(**changed: Any) -> StoredAsset:
    values: dict[str, Any] = {
        "stem": "0.watermark",
        "name": "0.watermark.png",
        "key": "images/generations/2026/09/21/881/0.watermark.png",
        "role": Role.IMAGE,
        "index": 0,
        "watermarked": True,
        "bytes": 1_500_000,
        "sha256": "ab" * 32,
        "content_type": "image/png",
        "width": 1024,
        "height": 768,
        "source_url": "https://cdn.example/0.png?x=1",
        "suspect": None,
    }
    return StoredAsset(**values | changed)


def a_manifest(**changed: Any) -> Manifest:
    values: dict[str, Any] = {
        "account": "default",
        "family": "images/generations",
        "task_id": "881",
        "external_task_id": None,
        "created_at": CREATED_AT,
        "updated_at": CREATED_AT + 5_000,
        "archived_at": CREATED_AT + 9_000,
        "discovered_by": DiscoveredBy.CALLBACK,
        "assets": (an_asset(),),
        "request": None,
        "task": {"task_id": "881", "task_status": "succeed"},
    }
    return Manifest(**values | changed)


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    assets = st.builds(
        an_asset,
        stem=st.just("0"),
        name=st.sampled_from(["0.png", "0.mp4"]),
        role=st.sampled_from(Role),
        index=st.none() | st.integers(-(2**31), 2**31 - 1),
        watermarked=st.booleans(),
        bytes=COUNTS,
        width=st.none() | st.integers(0, 2**31 - 1),
        source_url=TEXTS,
        suspect=st.none() | STORED_TEXTS,
    )
    return a_manifest(
        external_task_id=draw(st.none() | STORED_TEXTS),
        created_at=draw(MOMENTS),
        updated_at=draw(st.none() | MOMENTS),
        archived_at=draw(MOMENTS),
        discovered_by=draw(st.sampled_from(DiscoveredBy)),
        assets=tuple(draw(st.lists(assets, max_size=3))),
        request=draw(st.none() | DOCUMENTS),
        task=draw(DOCUMENTS),
    )


def test_the_published_schema_is_the_one_that_the_code_makes() -> None:
    jsonschema.Draft202012Validator.check_schema(PUBLISHED)

    assert manifest.schema() == PUBLISHED


@given(manifests())
def test_every_manifest_fits_the_published_schema_and_reads_back(written: Manifest) -> None:
    data = written.to_bytes()
    jsonschema.validate(json.loads(data), PUBLISHED)

    assert Manifest.from_bytes(data) == _with_pairs_joined(written)


def _with_pairs_joined(written: Manifest) -> Manifest:
    """Two halves of a surrogate pair that stand side by side are one character to every JSON reader."""

    def joined(value: Any) -> Any:
        return json.loads(json.dumps(value))

    return dataclasses.replace(
        written,
        external_task_id=joined(written.external_task_id),
        assets=tuple(
            dataclasses.replace(asset, source_url=joined(asset.source_url), suspect=joined(asset.suspect))
            for asset in written.assets
        ),
        request=joined(written.request),
        task=joined(written.task),
    )


def test_a_manifest_has_exactly_the_fields_of_the_contract_in_their_order() -> None:
    document = json.loads(a_manifest().to_bytes())

    assert list(document) == [
        "schema_version",
        "account",
        "family",
        "task_id",
        "external_task_id",
        "status",
        "created_at",
        "updated_at",
        "archived_at",
        "expires_at",
        "discovered_by",
        "assets",
        "request",
        "task",
    ]
    assert list(document["assets"][0]) == [
        "name",
        "key",
        "index",
        "role",
        "watermarked",
        "bytes",
        "sha256",
        "content_type",
        "width",
        "height",
        "source_url",
        "suspect",
        "stem",
    ]


@pytest.mark.parametrize(
    ("name", "stem", "read"),
    [
        ("0.watermark.png", "0.watermark", "0.watermark"),
        ("audio-0.mp3", "audio-0.mp3", "audio-0.mp3"),
        ("audio-0.mp3", "audio-0", "audio-0"),
        ("audio-0.mp3.wav", "audio-0.mp3", "audio-0.mp3"),
        ("0.png", None, "0"),
        ("0.png", "1", "0"),
        ("0.png", "", "0"),
    ],
)
def test_the_stem_of_a_file_is_kept_and_made_from_its_name_where_it_is_missing_or_another_files(
    name: str, stem: str | None, read: str
) -> None:
    document = json.loads(a_manifest(assets=(an_asset(name=name),)).to_bytes())
    document["assets"][0] |= {"stem": stem}
    if stem is None:
        del document["assets"][0]["stem"]
    (asset,) = Manifest.from_bytes(json.dumps(document).encode()).assets

    assert asset.stem == read


def test_times_are_written_as_rfc_3339_and_results_expire_after_thirty_days() -> None:
    written = a_manifest()
    document = json.loads(written.to_bytes())

    assert written.expires_at == CREATED_AT + 30 * DAY_MS
    assert (document["created_at"], document["expires_at"]) == (
        "2026-09-21T14:13:20.123Z",
        "2026-10-21T14:13:20.123Z",
    )


def test_the_apis_own_object_is_kept_unchanged_and_readable() -> None:
    task = {"z": 1, "a": [{"提示": "éà"}], "created_at": CREATED_AT, "n": 10**400}
    data = a_manifest(task=task).to_bytes()

    assert list(json.loads(data)["task"].items()) == list(task.items())
    assert "提示" in data.decode("utf-8")


def test_a_lone_surrogate_is_written_as_the_escape_it_came_as() -> None:
    task = json.loads(r'{"prompt": "half \ud83d of a face", "\udc00": 1}')
    data = a_manifest(task=task).to_bytes()

    data.decode("utf-8")
    assert Manifest.from_bytes(data).task == task


def test_numbers_that_json_cannot_carry_become_null() -> None:
    task = json.loads('{"a": 1e999, "b": [NaN, -Infinity, 1.5]}')

    assert Manifest.from_bytes(a_manifest(task=task).to_bytes()).task == {"a": None, "b": [None, None, 1.5]}


def _nested(levels: int) -> dict[str, object]:
    value: object = 1
    for _ in range(levels):
        value = [value]
    return {"deep": value}


def test_an_object_too_deep_for_line_breaks_is_written_without_them() -> None:
    written = a_manifest(task=_nested(600))

    assert Manifest.from_bytes(written.to_bytes()) == written


def test_an_object_deeper_than_json_readers_go_is_a_failure_of_its_own() -> None:
    with pytest.raises(ManifestUnreadable, match="too deeply"):
        a_manifest(task=_nested(200_000)).to_bytes()


@pytest.mark.parametrize("field", ["task_id", "family", "created_at"])
def test_a_manifest_matches_its_own_task_only(field: str) -> None:
    written = a_manifest()
    own: dict[str, Any] = {"task_id": "881", "family": "images/generations", "created_at": CREATED_AT}
    other = own | {field: CREATED_AT + 1 if field == "created_at" else "other"}

    assert written.matches(**own)
    assert not written.matches(**other)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0",
        b"\xff\xfe\xfd",
        b"<html>",
        b"null",
        b"[]",
        b"{}",
        b'"manifest"',
        b"1" * 5000,
        b"[" * 100_000,
        b'{"schema_version": 1}',
    ],
)
def test_garbage_is_refused_by_name(data: bytes) -> None:
    with pytest.raises(ManifestUnreadable):
        Manifest.from_bytes(data)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("index", 2**31),
        ("bytes", 2**63),
        ("width", 2**31),
        ("height", 10**30),
        ("content_type", "image/png\0"),
        ("suspect", "\ud800"),
    ],
)
def test_what_no_ledger_can_hold_is_refused(name: str, value: object) -> None:
    document = json.loads(a_manifest().to_bytes())
    document["assets"][0][name] = value

    with pytest.raises(ManifestUnreadable, match=name):
        Manifest.from_bytes(json.dumps(document).encode())


@pytest.mark.parametrize("value", ["a\0b", "a\ud800"])
def test_an_external_id_that_no_ledger_can_hold_is_refused(value: str) -> None:
    document = json.loads(a_manifest().to_bytes()) | {"external_task_id": value}

    with pytest.raises(ManifestUnreadable, match="external_task_id"):
        Manifest.from_bytes(json.dumps(document).encode())


def test_fields_of_a_later_version_are_passed_over() -> None:
    document = json.loads(a_manifest().to_bytes())
    document["new"] = {"anything": 1}
    document["assets"][0]["new"] = True

    assert Manifest.from_bytes(json.dumps(document).encode()) == a_manifest()


HOSTILE_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**400), 10**400),
    st.floats(),
    TEXTS,
    st.sampled_from(["2026-02-31T00:00:00.000Z", "2026-02-01T00:00:00.000Z\n", "image", "ab" * 32, 1, 1.0]),
    st.lists(st.none() | st.dictionaries(TEXTS, st.none(), max_size=2), max_size=2),
    st.dictionaries(TEXTS, st.integers(), max_size=2),
)
WHOLE_FIELDS = sorted(manifest.FIELDS)
ASSET_FIELDS = sorted(manifest.ASSET_FIELDS)


@given(st.sampled_from(WHOLE_FIELDS), HOSTILE_VALUES, st.booleans())
def test_a_wrong_field_is_refused_and_what_is_taken_fits_the_schema(
    field: str, value: object, missing: bool
) -> None:
    document = json.loads(a_manifest().to_bytes())
    document[field] = value
    if missing:
        del document[field]

    _taken_only_if_it_fits(document)


@given(st.sampled_from(ASSET_FIELDS), HOSTILE_VALUES, st.booleans())
def test_a_wrong_field_of_an_asset_is_refused_and_what_is_taken_fits_the_schema(
    field: str, value: object, missing: bool
) -> None:
    document = json.loads(a_manifest().to_bytes())
    document["assets"][0][field] = value
    if missing:
        del document["assets"][0][field]

    _taken_only_if_it_fits(document)


def _taken_only_if_it_fits(document: dict[str, Any]) -> None:
    try:
        read = Manifest.from_bytes(json.dumps(document).encode())
    except ManifestUnreadable:
        return
    jsonschema.validate(document, PUBLISHED)
    json.loads(read.to_bytes())
