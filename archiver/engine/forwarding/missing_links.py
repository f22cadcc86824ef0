"""Warns if a worker has no links although a gateway beside it has: the worker's forwards then contain `s3://` URLs."""

import dataclasses
from collections.abc import Sequence

from archiver.failures import LedgerUnavailable
from archiver.ledger import Ledger, Service
from archiver.model import Problem

_WHAT_TO_DO = (
    "Give the workers the KLING_LINK_SECRET and KLING_PUBLIC_URL that the gateway has (systemd: the drop-in links.conf "
    "for kling-work@.service). If s3:// is what you want, set KLING_FORWARD_LINKS to s3."
)


@dataclasses.dataclass(frozen=True)
class MissingLinks:
    """A gateway does not start without links, so a living gateway shows that the operator wants links."""

    ledger: Ledger
    accounts: Sequence[str]
    """The accounts for which this process has no links, although no setting says so."""

    def problems(self) -> Sequence[Problem]:
        """None while the ledger is unavailable: that is a problem of its own."""
        if not self.accounts:
            return ()
        try:
            has_gateway = any(Service.GATEWAY in daemon.serves for daemon in self.ledger.daemons.alive())
        except LedgerUnavailable:
            return ()
        if not has_gateway:
            return ()
        message = "a worker has no links, and the gateway has: forwards name s3:// URLs in their place"
        return [Problem("settings", message, _WHAT_TO_DO, stage="forward", reason="no_links")]
