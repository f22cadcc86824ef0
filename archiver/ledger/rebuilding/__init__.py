"""What the bucket's documents say becomes rows again."""

from archiver.ledger.rebuilding.rebuilding import (
    TASKS_MAX,
    Added,
    FolderContents,
    KnownTasks,
    Rebuilding,
    RebuiltTask,
)

__all__ = ["TASKS_MAX", "Added", "FolderContents", "KnownTasks", "Rebuilding", "RebuiltTask"]
