"""The proxy that the environment names (HTTPS_PROXY): it opens tunnels (CONNECT) to CDN hosts.

The address policy also applies here. Every host name must be on the list. Where this machine can resolve the name, the
policy judges each address, and refuses the URL before the proxy hears of it. Behind such a proxy there is often no DNS
for outside names: then the proxy resolves. We always send the name, because proxies filter by names. A proxy that
connects to another host gains nothing: TLS runs end to end and checks the certificate of that name.

Plain http does not use the proxy: only origins that the settings name are fetched without TLS.
"""

import base64
import contextlib
import dataclasses
import ipaddress
import re
from collections.abc import Mapping
from typing import Self
from urllib.parse import SplitResult, unquote, urlsplit

import httpcore2

from archiver.fetch.connecting import BoundedStream
from archiver.fetch.pace import Allowance
from archiver.fetch.urls import Origin
from archiver.version import USER_AGENT

VARIABLES = ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")
"""The first of them that is set counts, as for the API's client."""
PLAIN_VARIABLES = ("http_proxy", "HTTP_PROXY")
"""Variables for plain http, which is fetched without a proxy. But the API's client reads them all, and fails at a
malformed one."""
HEAD_BYTES_MAX = 64 * 1024
_STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3})(?: [^\r\n]*)?\r?\n")
_PORTS = {"http": 80, "https": 443}


@dataclasses.dataclass(frozen=True, slots=True)
class Proxy:
    """The address of the proxy, and the hosts that bypass it."""

    origin: Origin
    authorization: str | None = dataclasses.field(default=None, repr=False)
    """The value of Proxy-Authorization. Secret."""
    bypassed: tuple[str, ...] = ()
    """The entries of NO_PROXY."""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Self | None:
        """The proxy that the environment names, or None. Raises ValueError with a sentence for the operator that quotes
        no value."""
        for name in (*VARIABLES, *PLAIN_VARIABLES):
            if environ.get(name, "").strip():
                _split(name, environ[name].strip())
        variable = next((name for name in VARIABLES if name in environ), None)
        written = environ[variable].strip() if variable else ""
        entries = environ.get("no_proxy", environ.get("NO_PROXY", "")).lower().split(",")
        bypassed = tuple(filter(None, (entry.strip() for entry in entries)))
        if variable is None or not written or "*" in bypassed:
            return None
        parts = _split(variable, written)
        authorization = None
        if parts.username is not None:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            authorization = "Basic " + base64.b64encode(pair.encode()).decode("ascii")
        return cls(
            Origin(parts.scheme, parts.hostname or "", parts.port or _PORTS[parts.scheme]),
            authorization,
            bypassed,
        )

    def serves(self, origin: Origin) -> bool:
        """Whether a connection to `origin` goes through it."""
        if origin.scheme != "https" or _is_loopback(origin.host):
            return False
        return not any(_covers(entry, origin) for entry in self.bypassed)

    def open_tunnel(self, stream: BoundedStream, target: Origin, allowed: Allowance) -> None:
        """CONNECT over `stream`, which leads to the proxy. Raises httpcore2.ProxyError where the proxy refuses, and
        other exceptions of httpcore2."""
        host = f"[{target.host}]" if ":" in target.host else target.host
        lines = [
            f"CONNECT {host}:{target.port} HTTP/1.1",
            f"Host: {host}:{target.port}",
            f"User-Agent: {USER_AGENT}",
        ]
        if self.authorization is not None:
            lines.append(f"Proxy-Authorization: {self.authorization}")
        stream.write("\r\n".join([*lines, "", ""]).encode("ascii"), allowed)
        status = _status(_read_head(stream, allowed))
        if not 200 <= status < 300:
            wants_login = " (it wants a user name and password in the URL)" if status == 407 else ""
            raise httpcore2.ProxyError(
                f"the proxy refuses a way to {target.host}: HTTP {status}{wants_login}"
            )


def _split(variable: str, written: str) -> SplitResult:
    refused = ValueError(
        f"{variable} must be the URL of an HTTP proxy, such as http://proxy.example:3128 (SOCKS is not supported)."
    )
    try:
        parts = urlsplit(written if "://" in written else f"http://{written}")
        is_sound = parts.scheme in _PORTS and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        raise refused from None
    if not is_sound:
        raise refused
    return parts


def _read_head(stream: BoundedStream, allowed: Allowance) -> bytes:
    head = b""
    while b"\r\n\r\n" not in head and b"\n\n" not in head:
        piece = stream.read(4096, allowed)
        head += piece
        if not piece or len(head) > HEAD_BYTES_MAX:
            raise httpcore2.ProxyError("the proxy gives no answer that can be read")
    if not head.endswith((b"\r\n\r\n", b"\n\n")):
        # Over TLS the client speaks first: these bytes are not the host's.
        raise httpcore2.ProxyError("the proxy sends more than an answer")
    return head


def _status(head: bytes) -> int:
    line = _STATUS.match(head)
    if line is None:
        raise httpcore2.ProxyError("the proxy gives no answer that can be read")
    return int(line[1])


def _is_loopback(host: str) -> bool:
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost" or host.endswith(".localhost")


def _covers(entry: str, origin: Origin) -> bool:
    """Whether an entry of NO_PROXY means this host: a domain with its subdomains, an address, a network."""
    bare, _, port = entry.rpartition(":")
    if port.isdigit() and ":" not in bare.strip("[]"):
        if int(port) != origin.port:
            return False
        entry = bare
    with contextlib.suppress(ValueError):
        address = ipaddress.ip_address(origin.host)
        return address in ipaddress.ip_network(entry.strip("[]"), strict=False)
    domain = entry.removeprefix("*").removeprefix(".")
    return bool(domain) and (origin.host == domain or origin.host.endswith(f".{domain}"))
