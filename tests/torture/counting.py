"""Count what became of a site's tasks: by id and object by object, against what the simulated account made."""

import dataclasses
import enum
import json
from collections.abc import Collection

from archiver.model import State
from tests.harness.daemons import Site, until

PATIENCE_SECONDS = 300.0
"""After several outages in a row a task waits minutes for its next try."""


@dataclasses.dataclass(slots=True)
class Found:
    """What is in the bucket."""

    objects: int = 0
    """All that were compared."""
    incomplete: set[str] = dataclasses.field(default_factory=set)
    """Tasks of which an object is missing."""
    wrong: int = 0
    """Objects with wrong bytes, and manifests that name other files."""
    extra: int = 0
    """Objects that belong to none of the tasks."""


def compare(site: Site, task_ids: Collection[str]) -> Found:
    """Read every object of these tasks by its name, and list the bucket for others. A store that was killed may never
    list all that it has."""
    found, expected = Found(), set()
    for task_id in task_ids:
        names, folder = site.sim.expected_names(task_id), site.folder_of(task_id)
        expected |= {f"{folder}{name}" for name in [*names, "manifest.json"]}
        seen = [_compare(site, task_id, folder, name) for name in names]
        seen.append(_compare_manifest(site, task_id, folder, names))
        if _Seen.MISSING in seen:
            found.incomplete.add(task_id)
        found.wrong += seen.count(_Seen.WRONG)
        found.objects += len(seen)
    found.extra = len(site.keys() - expected)
    return found


class _Seen(enum.Enum):
    RIGHT = enum.auto()
    WRONG = enum.auto()
    MISSING = enum.auto()


def _compare(site: Site, task_id: str, folder: str, name: str) -> _Seen:
    content = _content(site, folder + name)
    if content is None:
        return _Seen.MISSING
    return _Seen.RIGHT if content == site.sim.expected_bytes(task_id, name) else _Seen.WRONG


def _compare_manifest(site: Site, task_id: str, folder: str, names: list[str]) -> _Seen:
    content = _content(site, folder + "manifest.json")
    if content is None:
        return _Seen.MISSING
    manifest = json.loads(content)
    named = (manifest["task_id"], sorted(asset["name"] for asset in manifest["assets"]))
    return _Seen.RIGHT if named == (task_id, names) else _Seen.WRONG


def _content(site: Site, key: str) -> bytes | None:
    try:
        return site.content(key)
    except site.s3.client.exceptions.NoSuchKey:
        return None


def not_archived(site: Site, task_ids: Collection[str]) -> set[str]:
    """The tasks that are not `archived` in the ledger."""
    found: dict[str, State] = {}
    ids = sorted(task_ids)
    with site.ledger() as ledger:
        for start in range(0, len(ids), 500):
            found |= ledger.records.states(account="default", task_ids=ids[start : start + 500])
    return {task_id for task_id in ids if found.get(task_id) is not State.ARCHIVED}


def wait_archived(site: Site, task_ids: Collection[str]) -> None:
    """Return when all are `archived` in the ledger, or after `PATIENCE_SECONDS`."""
    try:
        until(lambda: not not_archived(site, task_ids), seconds=PATIENCE_SECONDS)
    except AssertionError:
        return  # the caller counts what is missing
