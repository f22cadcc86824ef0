"""What people, scripts and the gateway read of tasks: one of them (`views`), or a page of many (`pages`)."""

from archiver.ledger.views.assets import AssetView
from archiver.ledger.views.filters import FilterProblem, TaskFilter
from archiver.ledger.views.pages import ListedTask, TaskPage
from archiver.ledger.views.views import HistoryLine, KnownTask, TaskView, Views

__all__ = [
    "AssetView",
    "FilterProblem",
    "HistoryLine",
    "KnownTask",
    "ListedTask",
    "TaskFilter",
    "TaskPage",
    "TaskView",
    "Views",
]
