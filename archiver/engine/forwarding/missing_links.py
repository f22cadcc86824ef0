"""That a worker has no links, while a gateway beside it does: what the worker forwards has `s3://` in their place."""

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
    """A gateway does not start without links, so one that lives shows that they are wanted."""

    ledger: Ledger
    accounts: Sequence[str]
    """Those for which this process has no links, and nothing says that it should have none."""

    def problems(self) -> Sequence[Problem]:
        """While the ledger is away there is a louder one."""
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
