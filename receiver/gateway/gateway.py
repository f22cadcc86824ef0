"""Builds the gateway from its parts."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

from archiver.fetch.proxy import Proxy
from archiver.fetch.spool import Spool
from archiver.fetch.urls import ConsumerPolicy
from archiver.kling.client_credentials import AccountCredentials, ClientCredentials
from archiver.ledger.gateway_creates.creates import GatewayCreates
from archiver.ledger.registrations import Registrations
from archiver.ledger.views import Views
from archiver.metrics import Metrics
from archiver.store import Store
from receiver.gateway.blocking import BlockingCalls
from receiver.gateway.creates.handler import Creates
from receiver.gateway.creates.reading import CallbackAddress
from receiver.gateway.creates.refused_urls import RefusedUrls
from receiver.gateway.front.bodies import BodyReader
from receiver.gateway.front.endpoint import REQUESTS_MAX, GatewayEndpoint, Handlers
from receiver.gateway.queries.account_tasks import AccountTasks
from receiver.gateway.queries.archived_tasks import ArchivedTasks
from receiver.gateway.queries.handler import Queries
from receiver.gateway.queries.recorder import AnswerRecorder
from receiver.gateway.upstream import KlingAccess, KlingUpstream, Relay

FILE_THREADS = 4
"""Threads for the spool: a hanging disk blocks these, and no thread of the ledger."""
LEDGER_THREADS = 4
"""Threads for references and registrations of creates."""
QUERY_THREADS = 4
"""Threads that record what queries and lists show: creates must not wait for that."""
READ_THREADS = 4
"""Threads that read tasks from the ledger: a read must not wait behind a write that waits for a lock."""
STORE_THREADS = 8
"""Threads that read manifests."""
CLOSE_SECONDS = 1.0
"""How long closing waits for each pool: a transaction of the ledger may be under way."""


@dataclasses.dataclass(frozen=True, slots=True)
class GatewayAccount:
    """What the gateway knows of an account."""

    access: KlingAccess
    credentials: AccountCredentials


@dataclasses.dataclass(frozen=True, slots=True)
class CreateParts:
    """What creates need besides Kling; see `Creates`."""

    ledger: GatewayCreates
    addresses: Mapping[str, CallbackAddress]
    policy: ConsumerPolicy
    on_registered: Callable[[str], None]
    refused_urls: RefusedUrls = dataclasses.field(default_factory=lambda: RefusedUrls({}))


@dataclasses.dataclass(frozen=True, slots=True)
class QueryParts:
    """What queries and lists need besides Kling; see `Queries`."""

    accounts: Mapping[str, AccountTasks]
    views: Views
    registrations: Registrations
    store: Store


class Gateway:
    """Kling's own paths. Close it when its last request has ended."""

    def __init__(
        self,
        accounts: Sequence[GatewayAccount],
        *,
        creates: CreateParts | None,
        queries: QueryParts | None,
        spool: Spool,
        metrics: Metrics,
        now: Callable[[], float],
        proxy: Proxy | None = None,
        is_door_busy: Callable[[], bool] = lambda: False,
    ) -> None:
        """`now` is in Unix seconds; `proxy` is the one of the environment. Without `creates` or `queries`, these are
        passed on as they came. Raises ThreadsRefused."""
        self._files = BlockingCalls(FILE_THREADS, name="gateway-files")
        self._ledger_calls = BlockingCalls(LEDGER_THREADS, name="gateway-ledger")
        self._query_calls = BlockingCalls(QUERY_THREADS, name="gateway-queries")
        self._read_calls = BlockingCalls(READ_THREADS, name="gateway-reads")
        self._store_calls = BlockingCalls(STORE_THREADS, name="gateway-store")
        self._upstream = KlingUpstream(
            {account.credentials.account: account.access for account in accounts},
            connections_max=REQUESTS_MAX,
            decoder=self._files,
            proxy=proxy,
            now=now,
        )
        relay = Relay(self._upstream)
        self._creates = None if creates is None else self._build_creates(creates, metrics)
        self.endpoint = GatewayEndpoint(
            ClientCredentials([account.credentials for account in accounts], now=now),
            Handlers(
                creates=self._creates or relay,
                queries=relay if queries is None else self._build_queries(queries, metrics),
                others=relay,
            ),
            BodyReader(spool, self._files),
            metrics,
            is_door_busy=is_door_busy,
        )

    def _build_creates(self, parts: CreateParts, metrics: Metrics) -> Creates:
        return Creates(
            self._upstream,
            parts.ledger,
            self._ledger_calls,
            self._files,
            addresses=parts.addresses,
            policy=parts.policy,
            metrics=metrics,
            on_registered=parts.on_registered,
            refused_urls=parts.refused_urls,
        )

    def _build_queries(self, parts: QueryParts, metrics: Metrics) -> Queries:
        archived = ArchivedTasks(
            parts.views,
            parts.store,
            signers={name: account.signer for name, account in parts.accounts.items()},
            ledger_calls=self._read_calls,
            store_calls=self._store_calls,
        )
        recorder = AnswerRecorder(parts.accounts, parts.views, parts.registrations)
        return Queries(
            self._upstream, recorder, archived, metrics, reads=self._read_calls, writes=self._query_calls
        )

    async def close(self) -> None:
        if self._creates is not None:
            await self._creates.close()
        await self._upstream.close()
        pools = (self._ledger_calls, self._query_calls, self._read_calls, self._store_calls, self._files)
        for calls in pools:
            calls.close()
        for calls in pools:
            await calls.wait_closed(seconds=CLOSE_SECONDS)
