"""A gateway on a real socket, in front of whatever answers at a URL."""

import contextlib
import os
import pathlib
import time
from collections.abc import Iterator
from typing import Any

from archiver.fetch.proxy import Proxy
from archiver.fetch.spool import Spool
from archiver.kling.client_credentials import AccountCredentials
from archiver.kling.credentials import ApiKey, KeyPair
from archiver.metrics import Metrics
from receiver.gateway.gateway import CreateParts, Gateway, GatewayAccount, QueryParts
from receiver.gateway.upstream import KlingAccess
from tests.harness.edge import Edge
from tests.simulator.server import ACCESS_KEY, API_KEY, SECRET_KEY

ACCOUNT = "default"
APPLICATION = "shop"
GATEWAY_KEY = "gateway-key-of-the-shop-0123456789"
CLIENT_API_KEY = "api-key-of-a-client-0123456789"
BEARER = {"Authorization": f"Bearer {API_KEY}"}


def account_at(base_url: str, *, name: str = ACCOUNT, with_api_key: bool = True) -> GatewayAccount:
    """The simulator's account, with every kind of client."""
    credential = ApiKey(API_KEY) if with_api_key else KeyPair(ACCESS_KEY, SECRET_KEY)
    return GatewayAccount(
        KlingAccess(base_url, credential),
        AccountCredentials(
            name,
            key_pairs={ACCESS_KEY: SECRET_KEY},
            api_keys=(API_KEY, CLIENT_API_KEY),
            gateway_keys={APPLICATION: GATEWAY_KEY},
        ),
    )


@contextlib.contextmanager
def gateway_to(
    base_url: str,
    folder: pathlib.Path,
    *,
    with_api_key: bool = True,
    creates: CreateParts | None = None,
    queries: QueryParts | None = None,
    **edge: Any,
) -> Iterator[Edge]:
    """A receiver with a gateway whose account is at `base_url`; creates, queries and lists go on as they came,
    unless told otherwise."""
    metrics = Metrics()
    account = account_at(base_url, with_api_key=with_api_key)
    gateway = Gateway(
        [account],
        creates=creates,
        queries=queries,
        spool=Spool(folder / "spool"),
        metrics=metrics,
        now=time.time,
        proxy=Proxy.from_environment(os.environ),
    )
    with Edge(gateway=gateway, metrics=metrics, **edge) as running:
        yield running
