"""Archived tasks that have no object in the bucket: no listing of the bucket can show that they are missing.

One LIST of a day's folder shows many manifests, as for second looks (`archive/second_look.py`): there are never more
LISTs than there would be HEADs. HEAD decides about keys that it does not show.
"""

import collections
from collections.abc import Iterable, Iterator, Sequence

from archiver.audit.patience import PatientStore
from archiver.ledger import AuditedTask

PAGE_KEYS_MIN, PAGE_KEYS_MAX = 10, 1000


def by_day(tasks: Iterable[AuditedTask]) -> list[list[AuditedTask]]:
    """Archived tasks whose manifests one listing may show together."""
    days: dict[str, list[AuditedTask]] = collections.defaultdict(list)
    for task in tasks:
        days[_day(task)].append(task)
    return list(days.values())


def absent(store: PatientStore, tasks: Sequence[AuditedTask]) -> list[AuditedTask]:
    """The tasks of one day whose folders are empty. Raises Failure, Stopped."""
    of_key = {task.manifest_key: task for task in tasks if task.manifest_key is not None}
    return [of_key[key] for key in _missing(store, _day(tasks[0]), sorted(of_key)) if _is_empty(store, key)]


def _day(task: AuditedTask) -> str:
    return (task.manifest_key or "").rsplit("/", 2)[0] + "/"


def _missing(store: PatientStore, day: str, waiting: list[str]) -> Iterator[str]:
    while waiting:
        shown = _listed(store, day, waiting) or {waiting[0]: False}
        for key, is_there in shown.items():
            if not is_there and store.head(key) is None:
                yield key
        waiting = [key for key in waiting if key not in shown]


def _listed(store: PatientStore, day: str, waiting: Sequence[str]) -> dict[str, bool]:
    """For every key that one LIST shows or should show: whether it does."""
    if len(waiting) == 1:
        return {}
    keys_max = min(PAGE_KEYS_MAX, max(PAGE_KEYS_MIN, 4 * len(waiting)))
    page = store.list_after(day, after=waiting[0][:-1], keys_max=keys_max)
    last = max(page.sizes, default="")
    return {key: key in page.sizes for key in waiting if page.is_last or key <= last}


def _is_empty(store: PatientStore, manifest_key: str) -> bool:
    """Whether the folder is empty. If it is not, the listing of the bucket has shown it, and its missing manifest is
    reported already."""
    folder = manifest_key.rpartition("/")[0] + "/"
    return not store.list_after(folder, after=folder, keys_max=1).sizes
