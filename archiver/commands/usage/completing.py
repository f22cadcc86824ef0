"""What a shell offers at TAB for a value. Any failure offers nothing: a message would stand in the operator's line.

Ids and accounts are looked up with the settings of the shell that asks, which takes half a second.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping

import typer

TASKS_MAX = 200
"""How many of the newest tasks are offered."""
_BUSY_SECONDS = 1.0


def families(incomplete: str) -> list[str]:
    """The families that this version knows."""
    from archiver.families import FAMILIES  # noqa: PLC0415 -- only at a TAB

    return [family for family in FAMILIES if family.startswith(incomplete)]


def deploy_files(context: typer.Context, incomplete: str) -> list[str]:
    """The files for `deploy show`; `list` takes none."""
    return [
        name
        for name in (_quietly(_deploy_files, context.obj) if context.params.get("action") == "show" else [])
        if name.startswith(incomplete)
    ]


def accounts(context: typer.Context, incomplete: str) -> list[str]:
    """The accounts of the settings."""
    return [name for name in _quietly(_accounts, context.obj) if name.startswith(incomplete)]


def task_ids(context: typer.Context, incomplete: str) -> list[str]:
    """Ids and external ids of the newest tasks."""
    return [name for name in _quietly(_task_ids, context.obj) if name.startswith(incomplete)]


def _quietly(find: Callable[[Mapping[str, str]], Iterator[str]], environment: Mapping[str, str]) -> list[str]:
    """Nothing if it fails: at a TAB the shell shows candidates only, and the command itself will report the reason."""
    with contextlib.suppress(Exception):
        return list(find(environment))
    return []


def _deploy_files(_environment: Mapping[str, str]) -> Iterator[str]:
    from archiver.commands import bundled  # noqa: PLC0415 -- only at a TAB

    yield from bundled.deploy_files()


def _accounts(environment: Mapping[str, str]) -> Iterator[str]:
    from archiver.config.settings import Settings  # noqa: PLC0415 -- only at a TAB

    for account in Settings.load(environment, need=()).accounts:
        yield account.name


def _task_ids(environment: Mapping[str, str]) -> Iterator[str]:
    from archiver.config.settings import Settings  # noqa: PLC0415 -- only at a TAB
    from archiver.ledger import Ledger  # noqa: PLC0415
    from archiver.ledger.views import TaskFilter  # noqa: PLC0415

    url = Settings.load(environment, need=()).ledger_url
    with contextlib.closing(Ledger.open(url, daemon=False, busy_seconds=_BUSY_SECONDS)) as ledger:
        rows = ledger.views.tasks(TaskFilter(), page=None, limit=TASKS_MAX).rows
    for row in rows:
        yield row.task_id
        if row.external_task_id:
            yield row.external_task_id
