"""Reads a create of a client: its body, its callback URLs, and the parts of both that we keep.

Bodies of megabytes arrive in steps of the event loop. If the rest of a body is long even without its long strings, a
thread reads it.
"""

import asyncio
import dataclasses
import functools
import json
from collections.abc import Mapping, Sequence

from archiver.create.callback_tokens import new_reference, referring
from archiver.create.paths import CreatePath
from archiver.create.registration import REQUEST_BYTES_MAX, is_identifier
from archiver.create.request import callback_url, request_of
from archiver.fetch.urls import ConsumerPolicy, PolicyRefusal, VettedUrl, vet_own
from archiver.ledger.gateway_creates.registering import GatewayCreate
from receiver.gateway.blocking import BlockingCalls
from receiver.gateway.creates.body import CreateBody, read
from receiver.gateway.creates.skimming import LONG_STRING_BYTES, Skimmed, Skimmer, Unreadable
from receiver.gateway.exchange import GatewayRequest, RequestBody

SKIM_BYTES = 16 * 1024
"""The bytes of one step of the event loop: image data takes much less than a millisecond, the shortest strings a
few."""
READ_AT_ONCE_BYTES = 8 * 1024
"""What more is left of a body without its long strings is read in another thread, while the loop goes on."""
READ_SECONDS_MAX = 10.0


class CallbackUrlRefused(Exception):
    """A callback URL that we would not call; the message says why."""


@dataclasses.dataclass(frozen=True, slots=True)
class CallbackAddress:
    """The URL at which Kling reports an account's tasks to us."""

    public_url: str
    token: str
    """The gateway's own."""

    @property
    def door(self) -> VettedUrl:
        """Below it are all callback URLs that lead to us. Raises PolicyRefusal."""
        return vet_own(f"{self.public_url.rstrip('/')}/callbacks/")

    def of(self, create: GatewayCreate) -> str:
        """The callback URL for a create. It contains the reference if the client wants forwards."""
        token = self.token
        if create.client_callback_url is not None:
            token = referring(token, create.reference)
        return callback_url(self.public_url, token=token, family=create.family)


class CreateReader:
    """Reads creates. For one event loop."""

    def __init__(
        self, addresses: Mapping[str, CallbackAddress], policy: ConsumerPolicy, threads: BlockingCalls
    ) -> None:
        self._addresses = addresses
        self._policy = policy
        self._threads = threads

    async def read(self, request: GatewayRequest, path: CreatePath) -> tuple[CreateBody, GatewayCreate]:
        """Raises Unreadable, CallbackUrlRefused."""
        skimmed = await _skim(request.body)
        understand = functools.partial(self._understand, skimmed, path, account=request.client.account)
        if len(skimmed.text) <= READ_AT_ONCE_BYTES:
            return understand()
        try:
            return await self._threads.run(understand, seconds=READ_SECONDS_MAX)
        except TimeoutError:
            raise Unreadable("no thread has read it in time") from None

    def _understand(
        self, skimmed: Skimmed, path: CreatePath, *, account: str
    ) -> tuple[CreateBody, GatewayCreate]:
        body = read(skimmed)
        urls = self._clients_urls(body, path)
        self._vet(urls)
        return body, _create(body, path, urls, account=account)

    def _clients_urls(self, body: CreateBody, path: CreatePath) -> list[object]:
        """The callback URLs of the body, last the one that Kling reads. A URL of our own door is left out: a client
        may still send the one that it used before the gateway."""
        given = body.callback_urls
        values = [value for place in sorted(given, key=lambda at: at == path.place) for value in given[place]]
        return [value for value in values if value != "" and not self._is_our_door(value)]

    def _is_our_door(self, value: object) -> bool:
        if not isinstance(value, str):
            return False
        try:
            named = vet_own(value)
            doors = [address.door for address in self._addresses.values()]
        except PolicyRefusal:
            return False
        return any(named.origin == door.origin and named.target.startswith(door.target) for door in doors)

    def _vet(self, urls: Sequence[object]) -> None:
        """Raises CallbackUrlRefused."""
        for url in urls:
            if not isinstance(url, str):
                raise CallbackUrlRefused(f"it must be a string of at most {LONG_STRING_BYTES} bytes.")
            try:
                self._policy.vet(url)
            except PolicyRefusal as error:
                raise CallbackUrlRefused(f"{error}.") from None


async def _skim(body: RequestBody) -> Skimmed:
    """Raises Unreadable."""
    skimmer = Skimmer()
    async for chunk in body.chunks():
        for at in range(0, len(chunk), SKIM_BYTES):
            if at:
                await asyncio.sleep(0)
            skimmer.feed(chunk[at : at + SKIM_BYTES])
    return skimmer.finish()


def _create(body: CreateBody, path: CreatePath, urls: Sequence[object], *, account: str) -> GatewayCreate:
    """`urls` are the client's, and may be called."""
    external_id = body.external_task_id
    return GatewayCreate(
        reference=new_reference(),
        account=account,
        family=path.family,
        external_task_id=external_id if external_id and is_identifier(external_id) else None,
        client_callback_url=str(urls[-1]) if urls else None,
        request=_kept(body.document),
    )


def _kept(document: Mapping[str, object]) -> dict[str, object] | None:
    """What ledger and manifest keep of it; None for one that is too large or too deep."""
    try:
        kept = request_of(document)
        return kept if len(json.dumps(kept)) <= REQUEST_BYTES_MAX else None
    except RecursionError:
        return None
