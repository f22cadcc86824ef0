"""The gateway's parts, put together."""

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence

from archiver.fetch.spool import Spool
from archiver.fetch.urls import ConsumerPolicy
from archiver.kling.client_credentials import AccountCredentials, ClientCredentials
from archiver.ledger.gateway_creates.creates import GatewayCreates
from archiver.metrics import Metrics
from receiver.gateway.blocking import BlockingCalls
from receiver.gateway.bodies import BodyReader
from receiver.gateway.creates import CallbackAddress, Creates
from receiver.gateway.endpoint import REQUESTS_MAX, GatewayEndpoint, Handlers
from receiver.gateway.upstream import KlingAccess, KlingUpstream, Relay

FILE_THREADS = 4
"""For the spool: a disk that hangs takes these, and no thread of the ledger's."""
LEDGER_THREADS = 4
"""For references and registrations of creates."""


@dataclasses.dataclass(frozen=True, slots=True)
class GatewayAccount:
    """What the gateway knows of an account."""

    access: KlingAccess
    credentials: AccountCredentials


@dataclasses.dataclass(frozen=True, slots=True)
class CreateParts:
    """What creates need beside Kling; see `Creates`."""

    ledger: GatewayCreates
    addresses: Mapping[str, CallbackAddress]
    policy: ConsumerPolicy
    on_registered: Callable[[str], None]
    refusing: Collection[str] = ()


class Gateway:
    """Kling's own paths. Close it when its last request has ended."""

    def __init__(
        self,
        accounts: Sequence[GatewayAccount],
        *,
        creates: CreateParts | None,
        spool: Spool,
        metrics: Metrics,
        now: Callable[[], float],
    ) -> None:
        """`now` is in Unix seconds. Without `creates`, they are passed on as they came. Raises ThreadsRefused."""
        self._files = BlockingCalls(FILE_THREADS, name="gateway-files")
        self._ledger_calls = BlockingCalls(LEDGER_THREADS, name="gateway-ledger")
        self._upstream = KlingUpstream(
            {account.credentials.account: account.access for account in accounts},
            connections_max=REQUESTS_MAX,
            decoder=self._files,
            now=now,
        )
        relay = Relay(self._upstream)
        self._creates = None if creates is None else self._build_creates(creates, metrics)
        self.endpoint = GatewayEndpoint(
            ClientCredentials([account.credentials for account in accounts], now=now),
            Handlers(creates=self._creates or relay, queries=relay, others=relay),
            BodyReader(spool, self._files),
            metrics,
        )

    def _build_creates(self, parts: CreateParts, metrics: Metrics) -> Creates:
        return Creates(
            self._upstream,
            parts.ledger,
            self._ledger_calls,
            addresses=parts.addresses,
            policy=parts.policy,
            metrics=metrics,
            on_registered=parts.on_registered,
            refusing=parts.refusing,
        )

    async def close(self) -> None:
        if self._creates is not None:
            await self._creates.close()
        await self._upstream.close()
        self._ledger_calls.close()
        self._files.close()
