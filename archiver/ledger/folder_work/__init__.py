"""Work in the folders of tasks that no queue holds any more: amendments, `incomplete.json`, and missing objects.

It has a table of its own. So an archived task stays archived while its amendment waits, and no claim of the archive
stage has to skip it.
"""

from archiver.ledger.folder_work.work import DroppedAmendment, FolderLease, FolderWork, WantedObject

__all__ = ["DroppedAmendment", "FolderLease", "FolderWork", "WantedObject"]
