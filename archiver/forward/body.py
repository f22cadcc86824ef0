"""The body of a forward: the task as in Kling's own callback, with URLs that stay valid, and `archive`.

Pure. Like a callback of Kling's, it has the task object at its top, in the dialect of the task's family.
"""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from archiver.failures import ApiAnswerUnreadable
from archiver.kling.dialects import dialect_of_family, in_dialect, with_strings
from archiver.kling.results import read_task
from archiver.ledger import PASSED_ON, ForwardContent, ForwardEvent, ForwardLease
from archiver.model import Role, Status, StoredAsset

AMENDED_FILE = "manifest.json"
_MESSAGES = {"task_status": "task_status_msg", "status": "message"}
"""Field of the status → field of its message, in both dialects."""


def body_of(
    lease: ForwardLease,
    content: ForwardContent,
    document: str,
    urls: Mapping[str, str],
    *,
    bucket: str,
) -> str:
    """JSON in ASCII. `document` is the API's own object as JSON, `{}` where it is lost; `urls` are the lasting ones,
    by stem."""
    own = json.loads(document, parse_constant=lambda _: None)
    task = _shown(own, content, urls) if own else _bare(lease, content)
    if lease.event is ForwardEvent.FAILED:
        task |= _failed(task, content)
    return json.dumps(task | {"archive": _archive(lease, content, urls, bucket=bucket)})


@dataclasses.dataclass(frozen=True, slots=True)
class Kept:
    """The contents of a manifest or an amendment."""

    document: str
    """The API's object, as JSON."""
    names: frozenset[str]
    """The names of its files."""


def kept_in(data: bytes) -> Kept | None:
    """The contents of a document; None if it is neither a manifest nor an amendment."""
    try:
        manifest = json.loads(data)
        task, names = manifest["task"], frozenset(asset["name"] for asset in manifest["assets"])
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    return Kept(json.dumps(task), names) if isinstance(task, dict) else None


def key_of(lease: ForwardLease, content: ForwardContent) -> str | None:
    """The key of the manifest or amendment that the forward is about."""
    if lease.event is ForwardEvent.AMENDED:
        known = lease.number <= len(content.amendment_keys)
        return content.amendment_keys[lease.number - 1] if known else None
    return content.manifest_key if lease.event is ForwardEvent.ARCHIVED else None


def _shown(document: Mapping[str, Any], content: ForwardContent, urls: Mapping[str, str]) -> dict[str, Any]:
    """The API's object with lasting URLs, in the dialect of the family."""
    try:
        assets = read_task(document, family=content.family).assets
    except ApiAnswerUnreadable:
        return dict(document)
    lasting = with_strings(
        document, {asset.place: urls[asset.stem] for asset in assets if asset.stem in urls}
    )
    is_series = any(asset.role is Role.SERIES_IMAGE for asset in assets)
    return dict(in_dialect(lasting, dialect_of_family(content.family), is_series=is_series))


def _bare(lease: ForwardLease, content: ForwardContent) -> dict[str, Any]:
    """The task object, made from what is known without the API's object."""
    has_ended_well = lease.event not in {*PASSED_ON, ForwardEvent.FAILED}
    legacy = {"task_id": content.task_id, "task_status": "succeed" if has_ended_well else lease.event}
    if lease.event is ForwardEvent.FAILED:
        legacy["task_status_msg"] = content.message or content.reason or ""
    return dict(in_dialect(legacy, dialect_of_family(content.family)))


def _failed(task: Mapping[str, Any], content: ForwardContent) -> dict[str, str]:
    """The object of a failed task. The API may never have said so: a task that never finished counts as failed."""
    status = next((name for name in _MESSAGES if name in task), "task_status")
    if task.get(status) == Status.FAILED:
        return {}
    return {status: Status.FAILED, _MESSAGES[status]: content.message or content.reason or ""}


def _archive(
    lease: ForwardLease, content: ForwardContent, urls: Mapping[str, str], *, bucket: str
) -> dict[str, object]:
    files = [leased for leased in content.assets if leased.asset.stem in content.told_stems]
    stored = [leased.stored for leased in files if leased.stored is not None]
    return {
        "account": content.account,
        "family": content.family,
        "task_id": content.task_id,
        "state": "running" if lease.event in PASSED_ON else lease.event,
        "reason": content.reason if lease.event in (ForwardEvent.FAILED, ForwardEvent.LOST) else None,
        "manifest_key": key_of(lease, content),
        "amends": AMENDED_FILE if lease.event is ForwardEvent.AMENDED else None,
        "bucket": bucket,
        "objects": [_object(asset, urls) for asset in stored],
    }


def _object(asset: StoredAsset, urls: Mapping[str, str]) -> dict[str, object]:
    return {
        "name": asset.name,
        "key": asset.key,
        "url": urls.get(asset.stem),
        "sha256": asset.sha256,
        "bytes": asset.bytes,
        "content_type": asset.content_type,
    }
