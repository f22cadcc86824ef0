"""The address that a request comes from: the peer's, or the one that a trusted proxy names."""

import ipaddress
from collections.abc import Iterable, Sequence

from starlette.types import Scope

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

UNKNOWN = "unknown"
_HEADER_BYTES_MAX = 4096


class ClientAddresses:
    """Believes `X-Forwarded-For` from trusted proxies only, because any client can send the header."""

    def __init__(self, trusted: Iterable[str]) -> None:
        """`trusted` are addresses and networks, such as `10.0.0.0/8`."""
        self._trusted: Sequence[Network] = [ipaddress.ip_network(text, strict=False) for text in trusted]

    def of(self, scope: Scope) -> str:
        """Read from the end: each proxy appends the address that it was called from. The first that is no proxy of ours
        is the client; what stands before it, the client may have invented."""
        peer = scope.get("client")
        address = _parsed(peer[0]) if peer else None
        if address is None:
            return UNKNOWN
        for entry in reversed(_forwarded_for(scope)):
            named = _parsed(entry) if self._is_trusted(address) else None
            if named is None:
                break
            address = named
        return str(address)

    def _is_trusted(self, address: Address) -> bool:
        return any(address in network for network in self._trusted if network.version == address.version)


def _forwarded_for(scope: Scope) -> list[str]:
    lines = [value for name, value in scope.get("headers", ()) if name == b"x-forwarded-for"]
    return b",".join(lines)[-_HEADER_BYTES_MAX:].decode("latin-1").split(",")


def _parsed(text: str) -> Address | None:
    """The address in `192.0.2.1`, `192.0.2.1:4711`, `2001:db8::1` or `[2001:db8::1]:4711`."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
