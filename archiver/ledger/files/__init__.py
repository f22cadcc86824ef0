"""Looks up one file of a task when its link is opened."""

from archiver.ledger.files.files import Files, FileView

__all__ = ["FileView", "Files"]
