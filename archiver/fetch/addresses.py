"""The class of an IP address. Only `PUBLIC` addresses may be connected to; IPv6 outside 2000::/3 is not public."""

import enum
import ipaddress
from collections.abc import Iterator

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class AddressClass(enum.StrEnum):
    PUBLIC = "public"
    UNSPECIFIED = "unspecified"
    LOOPBACK = "loopback"
    PRIVATE = "private"
    LINK_LOCAL = "link_local"
    SITE_LOCAL = "site_local"
    METADATA = "metadata"
    CGNAT = "cgnat"
    MULTICAST = "multicast"
    BROADCAST = "broadcast"
    BENCHMARKING = "benchmarking"
    DOCUMENTATION = "documentation"
    PROTOCOL = "protocol"
    TUNNEL = "tunnel"
    RESERVED = "reserved"


# First match wins, so narrow rows stand above the wide ones that contain them.
# https://www.iana.org/assignments/iana-ipv4-special-registry
_IPV4 = tuple(
    (ipaddress.IPv4Network(network), address_class)
    for network, address_class in (
        ("169.254.169.254/32", AddressClass.METADATA),  # AWS, GCP, Azure and most others
        ("169.254.170.2/32", AddressClass.METADATA),  # AWS ECS task credentials
        ("169.254.170.23/32", AddressClass.METADATA),  # AWS EKS pod identity
        ("100.100.100.200/32", AddressClass.METADATA),  # Alibaba Cloud, inside CGNAT space
        ("168.63.129.16/32", AddressClass.METADATA),  # Azure's wire server: public by the registry
        ("192.0.0.192/32", AddressClass.METADATA),  # Oracle Cloud
        ("0.0.0.0/32", AddressClass.UNSPECIFIED),
        ("0.0.0.0/8", AddressClass.RESERVED),  # "this network"; Linux connects 0.x to itself
        ("10.0.0.0/8", AddressClass.PRIVATE),
        ("100.64.0.0/10", AddressClass.CGNAT),
        ("127.0.0.0/8", AddressClass.LOOPBACK),
        ("169.254.0.0/16", AddressClass.LINK_LOCAL),
        ("172.16.0.0/12", AddressClass.PRIVATE),
        ("192.0.0.0/24", AddressClass.PROTOCOL),
        ("192.0.2.0/24", AddressClass.DOCUMENTATION),
        ("192.31.196.0/24", AddressClass.PROTOCOL),  # AS112
        ("192.52.193.0/24", AddressClass.PROTOCOL),  # AMT
        ("192.88.99.0/24", AddressClass.TUNNEL),  # 6to4 relay anycast, withdrawn by RFC 7526
        ("192.168.0.0/16", AddressClass.PRIVATE),
        ("192.175.48.0/24", AddressClass.PROTOCOL),  # AS112
        ("198.18.0.0/15", AddressClass.BENCHMARKING),
        ("198.51.100.0/24", AddressClass.DOCUMENTATION),
        ("203.0.113.0/24", AddressClass.DOCUMENTATION),
        ("233.252.0.0/24", AddressClass.DOCUMENTATION),  # MCAST-TEST-NET
        ("224.0.0.0/4", AddressClass.MULTICAST),
        ("255.255.255.255/32", AddressClass.BROADCAST),
        ("240.0.0.0/4", AddressClass.RESERVED),
    )
)

# https://www.iana.org/assignments/iana-ipv6-special-registry
_IPV6 = tuple(
    (ipaddress.IPv6Network(network), address_class)
    for network, address_class in (
        ("::/128", AddressClass.UNSPECIFIED),
        ("::1/128", AddressClass.LOOPBACK),
        ("fd00:ec2::/32", AddressClass.METADATA),  # AWS: fd00:ec2::254 and its siblings
        ("fd20:ce::254/128", AddressClass.METADATA),  # GCP
        ("100::/64", AddressClass.RESERVED),  # discard-only
        ("100:0:0:1::/64", AddressClass.RESERVED),  # dummy prefix, RFC 9780
        ("2001:2::/48", AddressClass.BENCHMARKING),
        ("2001:10::/28", AddressClass.PROTOCOL),  # ORCHID
        ("2001:20::/28", AddressClass.PROTOCOL),  # ORCHIDv2
        ("2001::/32", AddressClass.TUNNEL),  # Teredo
        ("2001::/23", AddressClass.PROTOCOL),
        ("2001:db8::/32", AddressClass.DOCUMENTATION),
        ("2002::/16", AddressClass.TUNNEL),  # 6to4
        ("2620:4f:8000::/48", AddressClass.PROTOCOL),  # AS112
        ("3fff::/20", AddressClass.DOCUMENTATION),
        ("64:ff9b:1::/48", AddressClass.TUNNEL),  # NAT64 inside one network, RFC 8215
        ("5f00::/16", AddressClass.PROTOCOL),  # segment routing
        ("fc00::/7", AddressClass.PRIVATE),
        ("fe80::/10", AddressClass.LINK_LOCAL),
        ("fec0::/10", AddressClass.SITE_LOCAL),
        ("ff00::/8", AddressClass.MULTICAST),
        ("2000::/3", AddressClass.PUBLIC),
    )
)

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_NAT64_LOCAL = ipaddress.IPv6Network("64:ff9b:1::/48")
_IPV4_COMPATIBLE = ipaddress.IPv6Network("::/96")
_ISATAP = frozenset({0x0000_5EFE, 0x0200_5EFE})


def classify(address: Address) -> AddressClass:
    """Total: every address has a class.

    Mapped and NAT64 addresses get the class of the IPv4 address inside. Other wrappings (6to4, Teredo, ISATAP …) get
    it if it is not public. Tunnels are never public: no CDN is behind a technology that died a decade ago.
    """
    if isinstance(address, ipaddress.IPv4Address):
        return next((class_ for network, class_ in _IPV4 if address in network), AddressClass.PUBLIC)
    if address.ipv4_mapped is not None:
        return classify(address.ipv4_mapped)
    if address in _NAT64:
        return classify(_low_ipv4(address))
    outer = next((class_ for network, class_ in _IPV6 if address in network), AddressClass.RESERVED)
    if outer in (AddressClass.UNSPECIFIED, AddressClass.LOOPBACK):
        return outer
    inner = (classify(carried) for carried in _carried(address))
    return next((class_ for class_ in inner if class_ is not AddressClass.PUBLIC), outer)


def _carried(address: ipaddress.IPv6Address) -> Iterator[ipaddress.IPv4Address]:
    """The IPv4 addresses inside. Teredo has two: the relay's server and its client."""
    if address.sixtofour is not None:
        yield address.sixtofour
    if address.teredo is not None:
        yield from address.teredo
    wraps_low_bits = address in _IPV4_COMPATIBLE or address in _NAT64_LOCAL
    if wraps_low_bits or (int(address) >> 32) & 0xFFFF_FFFF in _ISATAP:
        yield _low_ipv4(address)


def _low_ipv4(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address:
    return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
