"""What people, scripts and the gateway read of tasks: one of them (`views`), or a page of many (`pages`)."""

from archiver.ledger.views.filters import FilterProblem, TaskFilter
from archiver.ledger.views.pages import ListedFile, ListedTask, TaskPage
from archiver.ledger.views.views import AssetView, HistoryLine, KnownTask, TaskView, Views

__all__ = [
    "AssetView",
    "FilterProblem",
    "HistoryLine",
    "KnownTask",
    "ListedFile",
    "ListedTask",
    "TaskFilter",
    "TaskPage",
    "TaskView",
    "Views",
]
