"""What others can reach: KLING_PUBLIC_URL with the paths below it, and the URLs to which we post.

All requests come from this machine, so a firewall between the internet and us stays unnoticed.
"""

import ipaddress
import json
import socket
import time
from collections.abc import Iterator
from typing import Literal
from urllib.parse import urlsplit

from archiver.audit.doctor.asking import HttpAnswer, Unreached, Untrusted, ask
from archiver.audit.doctor.finding import Finding, failed, ok, warning
from archiver.audit.doctor.subject import PublicSide
from archiver.fetch.addresses import AddressClass, classify
from archiver.fetch.proxy import Proxy
from archiver.fetch.urls import Origin
from archiver.phrases import span

FROM_HERE = "asked from this machine"
CERTIFICATE_DAYS_MIN = 14
NOTHING_HERE = {"code": 1203, "message": "There is nothing here."}
"""Our 404, the same for a wrong token and a wrong path. A test compares it with the edge's."""
_LEFT_TO_PROXY = "{host} does not resolve here; the proxy is to resolve it"
_NOBODY = "kling-archiver-doctor"
_NO_MAC = "A" * 22
_IS_IT_US = (
    "Check that the proxy before the daemon routes {path} to it, and that KLING_PUBLIC_URL names that proxy."
)


def public_side(side: PublicSide) -> Iterator[Finding]:
    """The URL's name and certificate, whether the daemon answers, and which paths lead to it."""
    host = urlsplit(side.url).hostname or ""
    try:
        addresses = _addresses(host)
    except OSError as error:
        if not _is_left_to_proxy(side.url, side.proxy):
            what_to_do = "Correct KLING_PUBLIC_URL, or add the name to DNS."
            yield failed(f"KLING_PUBLIC_URL: {host} does not resolve: {error.strerror or error}", what_to_do)
            return
        yield ok(_LEFT_TO_PROXY.format(host=host))
    else:
        yield _judge_addresses(host, addresses)
    try:
        answer = ask(f"{side.url}/readyz", proxy=side.proxy)
    except Untrusted as error:
        what_to_do = (
            "Renew the certificate, or have the proxy send the whole chain: Kling's callbacks fail at it."
        )
        yield failed(f"{host}: {error}", what_to_do, check="certificate")
        return
    except Unreached as error:
        what_to_do = "Start the daemon and the proxy before it; look at firewall and port."
        message = f"KLING_PUBLIC_URL: {host} cannot be reached: {error} ({FROM_HERE})"
        yield failed(message, what_to_do, check="readiness")
        return
    if answer.certificate_ends_at is not None:
        yield _judge_certificate(answer.certificate_ends_at - time.time())
    yield _judge_readiness(answer)
    if side.takes_callbacks:
        yield _callback_path(side)
    if side.serves_links:
        yield _links_path(side)
    if side.serves_gateway:
        yield _gateway_path(side)


def _is_left_to_proxy(url: str, proxy: Proxy | None) -> bool:
    """Whether a name that this machine cannot resolve may be resolved all the same: some machines have no DNS for names
    outside, and every request goes through the proxy."""
    parts = urlsplit(url)
    return proxy is not None and proxy.serves(Origin(parts.scheme, parts.hostname or "", parts.port or 443))


def _addresses(host: str) -> set[str]:
    """Raises OSError."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return {str(entry[4][0]).partition("%")[0] for entry in found}


def _judge_addresses(host: str, addresses: set[str]) -> Finding:
    classes = {address: classify(ipaddress.ip_address(address)) for address in addresses}
    hidden = sorted(address for address, kind in classes.items() if kind is not AddressClass.PUBLIC)
    if not hidden:
        return ok(_named(host, addresses))
    named = f"names {host}" if hidden == [host] else f"names {host}, which is {', '.join(hidden)} here"
    return warning(
        f"KLING_PUBLIC_URL {named}: Kling cannot reach that address",
        "Use a public name or address, unless the name has another address outside (split DNS).",
    )


def _named(host: str, addresses: set[str]) -> str:
    return host if addresses == {host} else f"{host} is {', '.join(sorted(addresses))}"


def _judge_certificate(seconds_left: float) -> Finding:
    left = span(int(seconds_left * 1000))
    if seconds_left < CERTIFICATE_DAYS_MIN * 86_400:
        return warning(
            f"the certificate ends in {left}", "Renew it, or see why it is not renewed.", check="certificate"
        )
    return ok(f"the certificate is good for {left}", check="certificate")


def _judge_readiness(answer: HttpAnswer) -> Finding:
    """A proxy may rightly keep `/readyz` to itself."""
    ready = _json_of(answer).get("ready")
    if ready is True or (answer.status == 200 and ready is not False):
        return ok(f"/readyz answers {answer.status} ({FROM_HERE})", check="readiness")
    if ready is False:
        what_to_do = "The daemon takes no callbacks now: see kling-archiver status --check."
        return failed("/readyz says that the daemon is not ready", what_to_do, check="readiness")
    if answer.status in {502, 503, 504}:
        return failed(
            f"the proxy answers {answer.status}: it does not reach the daemon",
            "Start kling-receiver, and check the address to which the proxy passes requests (KLING_HOST, KLING_PORT).",
            check="readiness",
        )
    return ok(f"/readyz is not routed from outside (HTTP {answer.status})", check="readiness")


def _callback_path(side: PublicSide) -> Finding:
    """A POST with a wrong token gets our 404, which no other program answers."""
    path = f"/callbacks/{_NOBODY}/images/generations"
    return _routed(side, "/callbacks/", path, method="POST", check="callback_path")


def _links_path(side: PublicSide) -> Finding:
    """A link with a wrong mac gets our 404."""
    return _routed(side, "/files/", f"/files/{_NO_MAC}/default/none/0.png", method="GET", check="links_path")


def _gateway_path(side: PublicSide) -> Finding:
    """A question without credentials gets the gateway's own 401."""
    return _routed(side, "/v1/", "/v1/images/generations/0", method="GET", check="gateway_path")


def _routed(
    side: PublicSide, path: str, asked: str, *, method: Literal["GET", "POST"], check: str
) -> Finding:
    what_to_do = _IS_IT_US.format(path=path)
    try:
        answer = ask(
            side.url + asked, method=method, body=b"{}" if method == "POST" else None, proxy=side.proxy
        )
    except Unreached as error:
        return failed(f"{path} cannot be reached: {error} ({FROM_HERE})", what_to_do, check=check)
    is_ours = answer.status == 404 and _json_of(answer) == NOTHING_HERE
    is_gateways = answer.status == 401 and answer.headers.get("kling-archiver-source") == "gateway"
    if is_gateways if check == "gateway_path" else is_ours:
        return ok(f"{path} leads to this program ({FROM_HERE})", check=check)
    said = f"HTTP {answer.status}"
    if location := answer.headers.get("location"):
        said += f", which sends to {urlsplit(location).hostname or 'another path'}"
    message = f"{path} does not lead to this program: it answers {said} to {method} ({FROM_HERE})"
    return failed(message, what_to_do, check=check)


def hook(name: str, url: str, *, proxy: Proxy | None = None) -> Iterator[Finding]:
    """Check only that the host has an address, or that `proxy` will resolve it: nothing is sent."""
    host = urlsplit(url).hostname or ""
    try:
        addresses = _addresses(host)
    except OSError as error:
        if _is_left_to_proxy(url, proxy):
            yield ok(f"{name}: {_LEFT_TO_PROXY.format(host=host)}")
            return
        what_to_do = f"Correct {name}, or add the name to DNS."
        yield failed(f"{name}: {host} does not resolve: {error.strerror or error}", what_to_do)
    else:
        yield ok(f"{name}: {_named(host, addresses)}")


def _json_of(answer: HttpAnswer) -> dict[str, object]:
    try:
        found = json.loads(answer.body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
