"""`/console/tasks/<account>/<id>`: one task, with its files, its request and its history; retry."""

import functools
import json

from starlette.responses import Response
from starlette.routing import Route

from archiver import log
from archiver.create.registration import is_identifier
from archiver.ledger import TaskView
from archiver.model import Stage
from receiver.console.frame import Frame, Visit
from receiver.console.pages.files import Medium, ShownFiles
from receiver.console.parts import ConsoleParts
from receiver.console.rendering import task_path

UNKNOWN = "No task of this account has this id or external id."
REQUEST_CHARACTERS_MAX = 256 * 1024
_RETRIED, _ARCHIVED = "1", "0"
"""The result of a retry, as the redirect names it."""

_log = log.get()


class SingleTaskPages:
    def __init__(self, parts: ConsoleParts) -> None:
        self._parts = parts
        self._files = ShownFiles(parts)

    def routes(self, frame: Frame) -> list[Route]:
        return [
            frame.page("/console/tasks/{account}/{id:path}", self.show),
            frame.action("/console/tasks/{account}/{id:path}/retry", self.retry),
        ]

    def show(self, visit: Visit) -> Response:
        account, task_id = visit.named["account"], visit.named["id"]
        if not self._is_possible(account, task_id):
            return visit.not_found(UNKNOWN)
        views = self._parts.ledger.views
        task = views.show(task_id, account=account)
        if task is None:
            tombstone = views.forgotten(task_id, account=account)
            if tombstone is None:
                return visit.not_found(UNKNOWN)
            return visit.render("forgotten.html", task=tombstone, now=self._parts.ledger.now())
        files = self._files.of(task, task.assets)
        return visit.render(
            "task.html",
            media=self._files.media(files),
            task=task,
            pictures=[file for file in files if file.url and file.medium is not Medium.OTHER],
            files=files,
            missing=[asset for asset in task.assets if not asset.is_stored],
            advice=_advice(task),
            prompt=_prompt(task),
            asked_for=_asked_for(task),
            url_in_bucket=functools.partial(_url_in_bucket, self._parts.bucket),
            retried=visit.query.get("retried", ""),
            operator_url=self._parts.operator_url,
            now=self._parts.ledger.now(),
        )

    def retry(self, visit: Visit) -> Response:
        account, task_id = visit.named["account"], visit.named["id"]
        if not self._is_possible(account, task_id):
            return visit.not_found(UNKNOWN)
        result = self._parts.ledger.registrations.retry([task_id], account=account)
        if result.not_known:
            return visit.not_found(UNKNOWN)
        if result.retried:
            for stage in (Stage.VERIFY, Stage.ARCHIVE):
                self._parts.wake(stage, [account])
            _log.info("task.retry_requested", account=account, task_id=task_id)
        return visit.redirect(task_path(account, task_id), retried=_RETRIED if result.retried else _ARCHIVED)

    def _is_possible(self, account: str, task_id: str) -> bool:
        return is_identifier(task_id) and any(account == known for known in self._accounts())

    def _accounts(self) -> set[str]:
        """All accounts, including those that the settings do not name any more."""
        return {*self._parts.ledger.accounts.names(), *(account.name for account in self._parts.accounts)}


def _advice(task: TaskView) -> str:
    return "" if task.what_to_do == task.message else task.what_to_do or ""


def _prompt(task: TaskView) -> str:
    prompt = (task.request or {}).get("prompt")
    return prompt if isinstance(prompt, str) else ""


def _asked_for(task: TaskView) -> str:
    """The request, formatted for people."""
    if task.request is None:
        return ""
    written = json.dumps(task.request, indent=2, ensure_ascii=False)
    cut = written.encode(errors="replace").decode()  # a lone surrogate is no text
    return cut if len(cut) <= REQUEST_CHARACTERS_MAX else f"{cut[:REQUEST_CHARACTERS_MAX]}…"


def _url_in_bucket(bucket: str, key: str) -> str:
    return f"s3://{bucket}/{key}"
