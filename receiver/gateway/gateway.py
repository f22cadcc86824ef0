"""The gateway's parts, put together."""

import dataclasses
from collections.abc import Callable, Sequence

from archiver.fetch.spool import Spool
from archiver.kling.client_credentials import AccountCredentials, ClientCredentials
from archiver.metrics import Metrics
from receiver.gateway.blocking import BlockingCalls
from receiver.gateway.bodies import BodyReader
from receiver.gateway.endpoint import REQUESTS_MAX, GatewayEndpoint, Handlers
from receiver.gateway.relay import Relay
from receiver.gateway.upstream import KlingAccess, KlingUpstream

FILE_THREADS = 4
"""For the spool: a disk that hangs takes these, and no thread of the ledger's."""


@dataclasses.dataclass(frozen=True, slots=True)
class GatewayAccount:
    """What the gateway knows of an account."""

    access: KlingAccess
    credentials: AccountCredentials


class Gateway:
    """Kling's own paths. Close it when its last request has ended."""

    def __init__(
        self, accounts: Sequence[GatewayAccount], *, spool: Spool, metrics: Metrics, now: Callable[[], float]
    ) -> None:
        """`now` is in Unix seconds. Raises ThreadsRefused."""
        self._files = BlockingCalls(FILE_THREADS, name="gateway-files")
        self._upstream = KlingUpstream(
            {account.credentials.account: account.access for account in accounts},
            connections_max=REQUESTS_MAX,
            decoder=self._files,
            now=now,
        )
        relay = Relay(self._upstream)
        self.endpoint = GatewayEndpoint(
            ClientCredentials([account.credentials for account in accounts], now=now),
            Handlers(creates=relay, queries=relay, others=relay),
            BodyReader(spool, self._files),
            metrics,
        )

    async def close(self) -> None:
        await self._upstream.close()
        self._files.close()
