"""What is still to be put into the folders of tasks that no queue holds any more: amendments, and `incomplete.json`.

A table of its own: an archived task stays archived while its amendment waits, and no claim of the archive stage passes
over it.
"""

from archiver.ledger.folder_work.work import DroppedAmendment, FolderLease, FolderWork, WantedObject

__all__ = ["DroppedAmendment", "FolderLease", "FolderWork", "WantedObject"]
