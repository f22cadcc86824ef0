"""What one process does of the whole, and so what it needs.

SQLite takes one whole daemon. On PostgreSQL any number of processes of each role work on one ledger.
"""

import enum
from collections.abc import Collection

from archiver.config.settings import Need
from archiver.ledger import Service


class ProcessRole(enum.Enum):
    """A process is called by what an operator types to start it."""

    WHOLE = "kling-receiver"
    DOOR = "kling-receiver --edge-only"
    """Takes callbacks. It knows no key of Kling's and no bucket."""
    WORK = "kling-archiver work"
    """Verifies, archives and sweeps. It knows no callback token."""

    @property
    def serves(self) -> tuple[Service, ...]:
        """As `status` shows it."""
        return _SERVES[self]

    @property
    def works(self) -> bool:
        """Whether it asks the API and fills the bucket."""
        return Service.WORK in self.serves

    @property
    def takes_callbacks(self) -> bool:
        return Service.DOOR in self.serves

    @property
    def need(self) -> Collection[Need]:
        """What must be set; secrets beyond it are not even read."""
        return _NEED[self]


_SERVES = {
    ProcessRole.WHOLE: (Service.DOOR, Service.WORK),
    ProcessRole.DOOR: (Service.DOOR,),
    ProcessRole.WORK: (Service.WORK,),
}
_NEED = {
    ProcessRole.WHOLE: frozenset(Need),
    ProcessRole.DOOR: frozenset({Need.CALLBACKS}),
    ProcessRole.WORK: frozenset({Need.KLING, Need.STORE, Need.ALERTS}),
}
