"""What came of a site's tasks: counted by ids, object by object, against what the simulated account has made."""

import dataclasses
import enum
import json
from collections.abc import Collection

from archiver.model import State
from tests.harness.daemons import Site, until

PATIENCE_SECONDS = 300.0
"""A task that met several outages in a row waits minutes for its next try."""


@dataclasses.dataclass(slots=True)
class Found:
    """What lies in the bucket."""

    objects: int = 0
    """Compared with what they should be."""
    incomplete: set[str] = dataclasses.field(default_factory=set)
    """Tasks of which anything is missing."""
    wrong: int = 0
    """Objects with other bytes than upstream's, and manifests that name other files."""
    extra: int = 0
    """Objects that belong to none of the tasks."""


def compare(site: Site, task_ids: Collection[str]) -> Found:
    """Read every object of these tasks, and list the bucket for others. Each is asked for by its name: a store that was
    killed may never list all that it has."""
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
    told = (manifest["task_id"], sorted(asset["name"] for asset in manifest["assets"]))
    return _Seen.RIGHT if told == (task_id, names) else _Seen.WRONG


def _content(site: Site, key: str) -> bytes | None:
    try:
        return site.content(key)
    except site.s3.client.exceptions.NoSuchKey:
        return None


def not_archived(site: Site, task_ids: Collection[str]) -> set[str]:
    """Those that the ledger does not call archived."""
    found: dict[str, State] = {}
    ids = sorted(task_ids)
    with site.ledger() as ledger:
        for start in range(0, len(ids), 500):
            found |= ledger.records.states(account="default", task_ids=ids[start : start + 500])
    return {task_id for task_id in ids if found.get(task_id) is not State.ARCHIVED}


def wait_archived(site: Site, task_ids: Collection[str]) -> None:
    """Return once the ledger calls all of them archived; or when they had time enough, whatever then is missing."""
    try:
        until(lambda: not not_archived(site, task_ids), seconds=PATIENCE_SECONDS)
    except AssertionError:
        return  # to be counted
