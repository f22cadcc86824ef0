"""`/console/tasks`: tasks by filter and text, as a table or as a gallery of their pictures."""

import dataclasses
from collections.abc import Mapping
from urllib.parse import urlencode

from starlette.responses import Response
from starlette.routing import Route

from archiver.families import FAMILIES
from archiver.ledger.views import FilterProblem, ListedTask, TaskFilter, TaskPage
from archiver.model import State
from receiver.console.frame import Frame, Visit
from receiver.console.pages.files import ShownFile, ShownFiles
from receiver.console.parts import ConsoleParts

ROWS = 50
PICTURES = 24
"""Tasks of a gallery: each URL that has to be presigned takes a millisecond."""
FIELDS = ("text", "state", "family", "account", "since", "until")
_NOTHING = TaskPage((), None, None)


@dataclasses.dataclass(frozen=True, slots=True)
class Tile:
    """A task in the gallery, with its first file."""

    task: ListedTask
    file: ShownFile | None


class TaskPages:
    def __init__(self, parts: ConsoleParts) -> None:
        self._parts = parts
        self._files = ShownFiles(parts)

    def routes(self, frame: Frame) -> list[Route]:
        return [frame.page("/console/tasks", self.show)]

    def show(self, visit: Visit) -> Response:
        written = {name: visit.query.get(name, "").strip() for name in FIELDS}
        is_gallery = visit.query.get("view") == "gallery"
        page, problem = _NOTHING, ""
        try:
            page = self._read(written, visit.query.get("page"), is_gallery=is_gallery)
        except FilterProblem as error:
            problem = str(error)
        tiles = [self._tile(task) for task in page.rows] if is_gallery else []
        return visit.render(
            "tasks.html",
            status=400 if problem else 200,
            media=self._files.media([tile.file for tile in tiles if tile.file is not None]),
            written=written,
            is_filtered=any(written.values()),
            is_gallery=is_gallery,
            is_first="page" not in visit.query,
            problem=problem,
            page=page,
            tiles=tiles,
            query=_Queries(written, is_gallery=is_gallery),
            states=list(State),
            families=self._families(),
            accounts=[account.name for account in self._parts.accounts],
            several=self._parts.several,
            now=self._parts.ledger.now(),
        )

    def _read(self, written: Mapping[str, str], page: str | None, *, is_gallery: bool) -> TaskPage:
        chosen = TaskFilter.parse(written, now=self._parts.ledger.now())
        if is_gallery and chosen.state is None:
            chosen = dataclasses.replace(chosen, state=State.ARCHIVED)
        limit = PICTURES if is_gallery else ROWS
        return self._parts.ledger.views.tasks(chosen, page=page, limit=limit, with_assets=is_gallery)

    def _tile(self, task: ListedTask) -> Tile:
        files = self._files.of(task, task.assets, count_max=1)
        return Tile(task, files[0] if files else None)

    def _families(self) -> list[str]:
        configured = {family for account in self._parts.accounts for family in account.families}
        return sorted(configured | set(FAMILIES))


@dataclasses.dataclass(frozen=True, slots=True)
class _Queries:
    """The queries of links to other pages of the same tasks."""

    written: Mapping[str, str]
    is_gallery: bool

    def page(self, page: str | None) -> str:
        """Another page; the first one for None."""
        return self._encoded(self.is_gallery, page=page)

    def view(self, *, is_gallery: bool) -> str:
        """The same tasks in another form."""
        return self._encoded(is_gallery)

    def _encoded(self, is_gallery: bool, *, page: str | None = None) -> str:
        given = {**self.written, "view": "gallery" if is_gallery else "", "page": page or ""}
        query = urlencode({name: value for name, value in given.items() if value})
        return f"?{query}" if query else ""
