"""`link`: prints the links of a task's files."""

import shlex

import typer

from archiver.commands.tasks.found_task import found_task
from archiver.commands.terminal.exit_status import WRONG
from archiver.commands.terminal.invocation import invocation_of
from archiver.commands.terminal.printing import print_json, print_line, print_note
from archiver.config.settings import Need, Settings, SettingsError
from archiver.ledger import AssetView


def link(context: typer.Context, *, task_id: str, name: str | None, account: str | None, json: bool) -> None:
    """What `usage.tasks.link` says."""
    settings = invocation_of(context).settings(Need.LINKS)
    task = found_task(context, settings, task_id=task_id, account=account)
    _require_links(task.account)
    links = task.links()
    files = [asset for asset in task.view.assets if _is_meant(asset, links.get(asset.asset.stem, ""), name)]
    if json:
        named = [
            {"name": asset.name, "stem": asset.asset.stem, "link": links.get(asset.asset.stem)}
            for asset in files
        ]
        print_json({"task_id": task.view.task_id, "account": task.view.account, "links": named})
    else:
        for asset in files:
            print_line(links[asset.asset.stem])
    if not files:
        of_this_name = "" if name is None else f" called {name}"
        print_note(
            f"the task {task.view.task_id} has no file{of_this_name}. See: kling-archiver show "
            f"{shlex.quote(task.view.task_id)}"
        )
        raise typer.Exit(WRONG)


def _require_links(account: Settings) -> None:
    """Raises SettingsError."""
    missing = [
        f"{name} is missing: links {why}"
        for name, why, is_set in (
            ("KLING_LINK_SECRET", "are signed with it.", bool(account.link_secret)),
            ("KLING_PUBLIC_URL", "begin with it.", account.public_url is not None),
        )
        if not is_set
    ]
    if missing:
        raise SettingsError(missing)


def _is_meant(asset: AssetView, link: str, name: str | None) -> bool:
    return name is None or name in (asset.name, asset.asset.stem, link.rpartition("/")[2])
