"""`manifest.json`, written last: a task with a manifest is complete.

1. `FIELDS` and `ASSET_FIELDS` are the format. The published JSON schema is made from them, and readers validate
   against them. Readers ignore unknown fields, which a later version may add.
2. Writing never fails because of what the API sent, and is deterministic. A lone surrogate becomes a JSON escape, NaN
   and infinities become null, and a deeply nested document is written without line breaks.
"""

import dataclasses
import datetime
import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Self

from archiver.failures import Failure
from archiver.model import RETENTION_MS, DiscoveredBy, Role, StoredAsset, folder_day, rfc3339

SCHEMA_VERSION = 1
STATUS = "succeed"
FILE_NAME = "manifest.json"
INCOMPLETE_NAME = "incomplete.json"
CONTENT_TYPE = "application/json"
BYTES_MAX = 16 * 1024 * 1024
"""Readers refuse a larger document."""

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MOMENT_PATTERN = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z$"
_SHA256_PATTERN = "^[0-9a-f]{64}$"


class ManifestUnreadable(Failure):
    """The object under a manifest's key is no manifest. Retried and never overwritten: an operator must look at it."""

    reason = "manifest_unreadable"
    what_to_do = (
        "Something else has written the manifest that the message names. Of an archived task, put back what was there "
        "before; of any other, remove it: the task's files are checked again and it is written anew."
    )


# --- the format ----------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class Field:
    """A field's JSON schema, and the same rule as a predicate."""

    schema: Mapping[str, object]
    holds: Callable[[object], bool]


def _milliseconds(moment: str) -> int:
    """Raises `ValueError` for an impossible time."""
    return (datetime.datetime.fromisoformat(moment) - _EPOCH) // datetime.timedelta(milliseconds=1)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _whole(least: int, most: int) -> Field:
    return Field(
        {"type": "integer", "minimum": least, "maximum": most},
        lambda value: isinstance(value, int) and _is_whole(value) and least <= value <= most,
    )


def _is_storable(value: object) -> bool:
    """Whether every database can store the text: PostgreSQL refuses NUL, and a lone surrogate has no UTF-8."""
    if not isinstance(value, str) or "\0" in value:
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_moment(value: object) -> bool:
    if not isinstance(value, str) or not re.search(_MOMENT_PATTERN, value):
        return False
    try:
        return _milliseconds(value) >= 0
    except ValueError:  # the 31st of February
        return False


def _nullable(field: Field) -> Field:
    return Field(
        {"anyOf": [field.schema, {"type": "null"}]}, lambda value: value is None or field.holds(value)
    )


def _one_of(*words: str) -> Field:
    return Field({"enum": list(words)}, lambda value: isinstance(value, str) and value in words)


_ANY_TEXT = Field({"type": "string"}, lambda value: isinstance(value, str))
_TEXT = Field({"type": "string"}, _is_storable)
_FLAG = Field({"type": "boolean"}, lambda value: isinstance(value, bool))
_OBJECT = Field({"type": "object"}, lambda value: isinstance(value, dict))
_ARRAY = Field({"type": "array"}, lambda value: isinstance(value, list))
# The range that a ledger can hold; our manifests stay within it.
_WHOLE = _whole(-(2**31), 2**31 - 1)
_PIXELS = _whole(0, 2**31 - 1)
_COUNT = _whole(0, 2**63 - 1)
_SHA256 = Field(
    {"type": "string", "pattern": _SHA256_PATTERN},
    lambda value: isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None,
)
_MOMENT = Field({"type": "string", "format": "date-time", "pattern": _MOMENT_PATTERN}, _is_moment)
_VERSION = Field({"const": SCHEMA_VERSION}, lambda value: _is_whole(value) and value == SCHEMA_VERSION)

ASSET_FIELDS: Mapping[str, Field] = {
    "name": _TEXT,
    "key": _TEXT,
    "index": _nullable(_WHOLE),
    "role": _one_of(*Role),
    "watermarked": _FLAG,
    "bytes": _COUNT,
    "sha256": _SHA256,
    "content_type": _TEXT,
    "width": _nullable(_PIXELS),
    "height": _nullable(_PIXELS),
    "source_url": _ANY_TEXT,
    "suspect": _nullable(_TEXT),
}
OPTIONAL_ASSET_FIELDS: Mapping[str, Field] = {"stem": _TEXT}
"""Fields that earlier versions did not write."""
FIELDS: Mapping[str, Field] = {
    "schema_version": _VERSION,
    "account": _TEXT,
    "family": _TEXT,
    "task_id": _TEXT,
    "external_task_id": _nullable(_TEXT),
    "status": _one_of(STATUS),
    "created_at": _MOMENT,
    "updated_at": _nullable(_MOMENT),
    "archived_at": _MOMENT,
    "expires_at": _MOMENT,
    "discovered_by": _one_of(*DiscoveredBy),
    "assets": _ARRAY,
    "request": _nullable(_OBJECT),
    "task": _OBJECT,
}
MISSING_FIELDS: Mapping[str, Field] = {"name": _TEXT, "reason": _TEXT}
OPTIONAL_FIELDS: Mapping[str, Field] = {
    # in amendments and in `incomplete.json`
    "amends": _one_of(FILE_NAME),
    "missing": _ARRAY,
}


def amendment_name(number: int) -> str:
    """The name of the amendment with this number; numbers begin at 1."""
    return f"amendment-{number}.json"


def is_amendment(name: str) -> bool:
    """Whether an amendment has this name."""
    return re.fullmatch(r"amendment-[1-9][0-9]*\.json", name) is not None


def _schema_of(fields: Mapping[str, Field]) -> dict[str, Any]:
    return {
        "type": "object",
        "required": list(fields),
        "properties": {name: dict(field.schema) for name, field in fields.items()},
    }


def schema() -> dict[str, object]:
    """JSON schema 2020-12, published as `deploy/manifest.schema.json`."""
    asset = _schema_of(ASSET_FIELDS)
    asset["properties"] |= {
        name: {
            **field.schema,
            "description": "The name without the extension of its bytes: what links are signed for.",
        }
        for name, field in OPTIONAL_ASSET_FIELDS.items()
    }
    whole = _schema_of(FIELDS)
    whole["properties"] |= {"assets": {"type": "array", "items": asset}}
    whole["properties"] |= {
        "amends": {
            **OPTIONAL_FIELDS["amends"].schema,
            "description": "In amendment-1.json, …: `assets` are those that the API named after the manifest was put.",
        },
        "missing": {
            "type": "array",
            "items": _schema_of(MISSING_FIELDS),
            "description": "In incomplete.json: what could not be had of a lost task. `name` has no extension.",
        },
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "kling-archiver manifest.json",
        "description": "One complete Kling AI task: every file named here is in the bucket, checked and final.",
        **whole,
    }


def _check(
    document: object, fields: Mapping[str, Field], what: str, optional: Mapping[str, Field] | None = None
) -> None:
    if not isinstance(document, dict):
        raise ManifestUnreadable(f"{what} is not an object")
    for name, field in fields.items():
        if name not in document:
            raise ManifestUnreadable(f"{what} has no {name}")
        if not field.holds(document[name]):
            raise ManifestUnreadable(f"{what} has an invalid {name}")
    for name, field in (optional or {}).items():
        if name in document and not field.holds(document[name]):
            raise ManifestUnreadable(f"{what} has an invalid {name}")


# --- one manifest --------------------------------------------------------------------------------------


def _asset(row: Mapping[str, Any]) -> StoredAsset:
    """An asset of a manifest. If the name does not begin with a stem, the stem is the name without its extension."""
    values = {name: row[name] for name in ASSET_FIELDS} | {"role": Role(row["role"])}
    stem, name = row.get("stem"), row["name"]
    if not stem or name not in (stem, f"{stem}.{name.rpartition('.')[2]}"):
        stem = name.rpartition(".")[0] or name
    return StoredAsset(stem=stem, **values)


def _only(fields: Mapping[str, Field], row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in fields}


def _carried(document: Mapping[str, object]) -> object:
    """The value without NaN and infinities: Python reads them from JSON, but JSON has no such numbers."""
    return json.loads(json.dumps(dict(document)), parse_constant=lambda _: None)


def _encoded(document: dict[str, object]) -> bytes:
    try:
        text = json.dumps(document, ensure_ascii=False, indent=2)
    except RecursionError:  # the plain encoder goes deeper than the indenting one
        text = json.dumps(document, ensure_ascii=False)
    # A lone surrogate has no UTF-8. The API sent it as `\udXXX` in a JSON string, and the manifest has it in the same
    # form.
    return (text + "\n").encode("utf-8", "backslashreplace")


@dataclasses.dataclass(frozen=True, slots=True)
class MissingFile:
    """A file that could not be fetched."""

    name: str
    """Its stem: a file that was never fetched has no extension."""
    reason: str


@dataclasses.dataclass(frozen=True, slots=True)
class Manifest:
    """One complete task. With `amends`, what was added to a task; with `missing`, what was saved of a lost one.

    Times are Unix ms here, RFC 3339 in the file.
    """

    account: str
    """The account's name in the settings."""
    family: str
    task_id: str
    external_task_id: str | None
    created_at: int
    updated_at: int | None
    archived_at: int
    discovered_by: DiscoveredBy
    assets: tuple[StoredAsset, ...]
    request: Mapping[str, object] | None
    """The body of the create, if known, without image data."""
    task: Mapping[str, object]
    """The API's own object."""
    amends: str | None = None
    """`manifest.json` in an amendment."""
    missing: tuple[MissingFile, ...] | None = None
    """Set in `incomplete.json` only."""

    @property
    def expires_at(self) -> int:
        """When upstream deletes the results, Unix ms."""
        return self.created_at + RETENTION_MS

    @property
    def day(self) -> str:
        """The day of its folder: `2026/11/20`."""
        return folder_day(self.created_at)

    def matches(self, *, task_id: str, family: str, created_at: int) -> bool:
        return (self.task_id, self.family, self.created_at) == (task_id, family, created_at)

    def to_bytes(self) -> bytes:
        """Raises `ManifestUnreadable` when the API's object is nested too deeply for JSON readers."""
        try:
            return _encoded(self._document())
        except RecursionError as error:
            raise ManifestUnreadable(f"task {self.task_id}: its object is nested too deeply") from error

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Raises `ManifestUnreadable`."""
        try:
            document = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise ManifestUnreadable(f"the manifest is not JSON ({type(error).__name__})") from error
        _check(document, FIELDS, "the manifest", OPTIONAL_FIELDS)
        for place, row in enumerate(document.get("missing", [])):
            _check(row, MISSING_FIELDS, f"missing file {place} of the manifest")
        for place, row in enumerate(document["assets"]):
            _check(row, ASSET_FIELDS, f"asset {place} of the manifest", OPTIONAL_ASSET_FIELDS)
        return cls._of_document(document)

    def _document(self) -> dict[str, object]:
        amends = {} if self.amends is None else {"amends": self.amends}
        missing = {} if self.missing is None else {"missing": list(map(dataclasses.asdict, self.missing))}
        return {
            "schema_version": SCHEMA_VERSION,
            "account": self.account,
            "family": self.family,
            "task_id": self.task_id,
            "external_task_id": self.external_task_id,
            "status": STATUS,
            "created_at": rfc3339(self.created_at),
            "updated_at": None if self.updated_at is None else rfc3339(self.updated_at),
            "archived_at": rfc3339(self.archived_at),
            "expires_at": rfc3339(self.expires_at),
            "discovered_by": self.discovered_by,
            "assets": [
                {name: getattr(asset, name) for name in (*ASSET_FIELDS, *OPTIONAL_ASSET_FIELDS)}
                for asset in self.assets
            ],
            "request": None if self.request is None else _carried(self.request),
            "task": _carried(self.task),
            **amends,
            **missing,
        }

    @classmethod
    def _of_document(cls, document: dict[str, Any]) -> Self:
        updated_at = document["updated_at"]
        missing = document.get("missing")
        return cls(
            account=document["account"],
            family=document["family"],
            task_id=document["task_id"],
            external_task_id=document["external_task_id"],
            created_at=_milliseconds(document["created_at"]),
            updated_at=None if updated_at is None else _milliseconds(updated_at),
            archived_at=_milliseconds(document["archived_at"]),
            discovered_by=DiscoveredBy(document["discovered_by"]),
            assets=tuple(_asset(row) for row in document["assets"]),
            request=document["request"],
            task=document["task"],
            amends=document.get("amends"),
            missing=None
            if missing is None
            else tuple(MissingFile(**_only(MISSING_FIELDS, row)) for row in missing),
        )
