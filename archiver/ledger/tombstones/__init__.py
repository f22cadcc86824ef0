"""Forgetting tasks for good. What the others need of it is in `tables/tombstones.py`."""

from archiver.ledger.tables.tombstones import Tombstone
from archiver.ledger.tombstones.tombstones import Forgotten, Tombstones

__all__ = ["Forgotten", "Tombstone", "Tombstones"]
