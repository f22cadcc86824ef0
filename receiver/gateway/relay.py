"""What neither creates nor asks for results is passed on as it came."""

from typing import Final

from archiver.metrics import GatewayKind
from receiver.gateway.exchange import GatewayAnswer, GatewayRequest, Upstream
from receiver.gateway.upstream import CREATE_SECONDS, QUERY_SECONDS

_READING: Final = frozenset({"GET", "HEAD", "OPTIONS"})


def answer_seconds_of(request: GatewayRequest) -> float:
    """A path that this version does not know may create something, which Kling takes its time for."""
    is_quick = request.method in _READING or request.kind in {GatewayKind.QUERY, GatewayKind.LIST}
    return QUERY_SECONDS if is_quick else CREATE_SECONDS


class Relay:
    """See `Handler`."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream

    async def handle(self, request: GatewayRequest) -> GatewayAnswer:
        return await self._upstream.send(request, answer_seconds=answer_seconds_of(request))
