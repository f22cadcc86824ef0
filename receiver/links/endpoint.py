"""`GET`, `HEAD` and `OPTIONS /files/<mac>/<account>/<key without the prefix>`.

    stored                            302, or the file (`delivery`)
    not stored, the API's URL is ours 302 to that URL
    not stored, still tried           503
    not stored, nothing is tried      410
    anything else                     404, the same bytes for a wrong mac and a file that does not exist

1. Nothing is looked up before the mac is found to be right.
2. Neither macs nor presigned URLs are logged.
3. A waiting client costs no thread. Blocking calls to ledger and store are few, and have time limits (`finder`).
"""

from urllib.parse import parse_qs

from starlette.types import Receive, Scope, Send

from archiver.fetch.urls import EgressPolicy, PolicyRefusal
from archiver.metrics import LinkResult, Metrics
from archiver.store.links import LinkSigner
from receiver.links import answers
from receiver.links.answers import send_options, send_redirect, send_reply
from receiver.links.delivery import Delivery, LinkRequest
from receiver.links.finder import Finder, Found, NotNow, NotStored
from receiver.links.paths import read_link
from receiver.server.protocol import UNREAD_BYTES
from receiver.server.replies import Reply


class LinkEndpoint:
    """Everything at `/files`, as an ASGI application: paths are read raw."""

    def __init__(
        self,
        signer: LinkSigner,
        finder: Finder,
        delivery: Delivery,
        *,
        policy: EgressPolicy,
        metrics: Metrics,
    ) -> None:
        self._signer = signer
        self._finder = finder
        self._delivery = delivery
        self._policy = policy
        self._results = {result: metrics.links_total.labels(result=result) for result in LinkResult}

    def serves(self, scope: Scope) -> bool:
        """Whether the request is for this endpoint."""
        path: str = scope.get("path", "")
        return scope["type"] == "http" and (path.startswith("/files/") or path == "/files")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        method: str = scope["method"]
        if method == "OPTIONS":
            await send_options(send)
        elif method not in {"GET", "HEAD"}:
            await send_reply(answers.WRONG_METHOD, send)
        else:
            result = await self._lead(method, scope, receive, send)
            self._results[result].inc()

    async def _lead(self, method: str, scope: Scope, receive: Receive, send: Send) -> LinkResult:
        link = read_link(scope["raw_path"], self._signer)
        if link is None:
            return await _refuse(answers.NOT_FOUND, send)
        request = LinkRequest(
            method, scope["headers"], link, _is_download(scope["query_string"]), scope[UNREAD_BYTES]
        )
        await self._delivery.may_begin()  # not before: wrong links would take the turns of genuine ones
        try:
            found = await self._finder.find(link, self._delivery.wanted(request))
        except NotNow:
            return await _refuse(answers.NOT_NOW, send)
        if found is None:
            return await _refuse(answers.NOT_FOUND, send)
        if isinstance(found, Found):
            return await self._delivery.deliver(request, found, receive, send)
        return await self._lead_upstream(found, send)

    async def _lead_upstream(self, found: NotStored, send: Send) -> LinkResult:
        """To the API's own URL, while a file is still tried."""
        if not found.is_tried:
            await send_reply(answers.GONE, send)
            return LinkResult.GONE
        try:
            vetted = self._policy.vet(found.upstream_url)
        except PolicyRefusal:
            return await _refuse(answers.NOT_NOW, send)
        url = f"{vetted.origin.scheme}://{vetted.origin.host_header.decode()}{vetted.target.decode('ascii')}"
        await send_redirect(send, url, answers.NO_STORE)
        return LinkResult.UPSTREAM


async def _refuse(reply: Reply, send: Send) -> LinkResult:
    await send_reply(reply, send)
    return LinkResult.REFUSED


def _is_download(query: bytes) -> bool:
    """`?download`, with any value or none."""
    return "download" in parse_qs(query.decode("latin-1"), keep_blank_values=True, max_num_fields=None)
