"""Turns the documents in the bucket into rows again."""

from archiver.ledger.rebuilding.rebuilding import (
    ROWS_MAX,
    TASKS_MAX,
    Added,
    FolderContents,
    KnownTasks,
    Rebuilding,
    RebuiltTask,
)

__all__ = ["ROWS_MAX", "TASKS_MAX", "Added", "FolderContents", "KnownTasks", "Rebuilding", "RebuiltTask"]
