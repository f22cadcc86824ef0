"""What a task object has that no table knows, for `Task.unknown_fields`."""

from collections.abc import Sequence

from archiver.kling.results.arrays import rows_of
from archiver.kling.results.names import safe, short
from archiver.kling.results.urls import FoundUrl, is_web, strings_in
from archiver.model import Role, Status

UNKNOWN_FIELDS_MAX = 20


def unknown_in_row(name: str, number: int, *, found: Sequence[FoundUrl], role: Role) -> set[str]:
    """The unknown fields and arrays of one row, and whether its URL is missing."""
    label = safe(name)
    unknown = {f"{label}[].{short(safe(url.path))}" for url in found if not url.known}
    if role is Role.OTHER:
        unknown.add(f"{label}[]")
    if not any(url.known for url in found) and role is not Role.OTHER:
        unknown.add(f"{label}[{number}] without a URL")
    return unknown


def unfetched_links(name: str, row: object, *, found: Sequence[FoundUrl]) -> set[str]:
    """Links that no field name marks as results: reported, not fetched. A help page among a task's files would keep it
    from its manifest."""
    results = {url.path for url in found}
    paths = [".".join(map(str, steps)) for steps, value in strings_in(row) if steps and is_web(value)]
    return {f"{safe(name)}[].{short(safe(path))} not fetched" for path in paths if path not in results}


def scalars_of(result: object) -> object:
    """The strings of `task_result` that `rows_of` does not take for results."""
    if not isinstance(result, dict):
        return {}
    return {
        name: value for name, value in result.items() if isinstance(value, str) and not rows_of(name, value)
    }


def reported(unknown: set[str], *, status: Status) -> tuple[str, ...]:
    """What to log: a missing URL only once the task has succeeded."""
    names = sorted(
        name for name in unknown if status is Status.SUCCEEDED or not name.endswith("without a URL")
    )
    return tuple(names[:UNKNOWN_FIELDS_MAX])
