"""The roles of a process, and what each role needs.

SQLite allows one process that does everything. On PostgreSQL any number of processes of each role work on one ledger.
"""

import enum
from collections.abc import Collection

from archiver.config.settings import EVERYTHING, Need, Settings
from archiver.ledger import Service


class ProcessRole(enum.Enum):
    """Each value is the command that an operator types to start the process."""

    WHOLE = "kling-receiver"
    DOOR = "kling-receiver --edge-only"
    """Takes callbacks. It knows no key of Kling's and no bucket."""
    GATEWAY = "kling-receiver --gateway-only"
    """Serves Kling's paths and links. It takes no callbacks."""
    WORK = "kling-archiver work"
    """Verifies, archives, sweeps and forwards. It knows no callback token."""

    def serves(self, settings: Settings) -> tuple[Service, ...]:
        """The services, as `status` shows them."""
        services = {
            Service.DOOR: self.takes_callbacks,
            Service.GATEWAY: self.relays(settings),
            Service.WORK: self.works,
        }
        return tuple(service for service, is_served in services.items() if is_served)

    @property
    def works(self) -> bool:
        """Whether it verifies, archives and sweeps."""
        return self in {ProcessRole.WHOLE, ProcessRole.WORK}

    @property
    def takes_callbacks(self) -> bool:
        return self in {ProcessRole.WHOLE, ProcessRole.DOOR}

    def relays(self, settings: Settings) -> bool:
        """Whether it serves Kling's own paths."""
        return self in {ProcessRole.WHOLE, ProcessRole.GATEWAY} and settings.gateway == "on"

    @property
    def serves_links(self) -> bool:
        """Whether it serves `/files`, where the settings want links."""
        return self in {ProcessRole.WHOLE, ProcessRole.GATEWAY}

    @property
    def uses_kling(self) -> bool:
        """Whether it has credentials of Kling and a bucket."""
        return self is not ProcessRole.DOOR

    @property
    def need(self) -> Collection[Need]:
        """The settings that the role requires. Other secrets are not even read."""
        return _NEED[self]


_NEED = {
    ProcessRole.WHOLE: EVERYTHING,
    ProcessRole.DOOR: frozenset({Need.CALLBACKS}),
    ProcessRole.GATEWAY: frozenset(
        {Need.KLING, Need.STORE, Need.LINKS, Need.CALLBACK_URL, Need.GATEWAY, Need.GATEWAY_ALONE}
    ),
    ProcessRole.WORK: frozenset({Need.KLING, Need.STORE, Need.ALERTS, Need.LINKS, Need.FORWARDS}),
}
