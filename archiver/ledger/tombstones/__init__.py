"""Forgets tasks for good. `tables/tombstones.py` has what other parts need of it."""

from archiver.ledger.tables.tombstones import Tombstone
from archiver.ledger.tombstones.tombstones import Forgotten, Tombstones

__all__ = ["Forgotten", "Tombstone", "Tombstones"]
