"""One file of a task, for the reader of its link."""

from archiver.ledger.files.files import Files, FileView

__all__ = ["FileView", "Files"]
