"""Decides which families' paths to query for an id. No I/O."""

from collections.abc import Sequence

from archiver.families import FAMILIES


def is_known(family: str, families: Sequence[str]) -> bool:
    """Whether `family` is configured or known to this version; otherwise a callback may have invented it."""
    return family in families or family in FAMILIES
