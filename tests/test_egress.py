"""The address table, the URL gate, and the backend that connects to vetted addresses only."""

import ipaddress
import socket
import threading
import time
from collections.abc import Iterator, Sequence

import httpcore2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver.egress import (
    URL_CHARACTERS_MAX,
    Allowance,
    Cause,
    EgressPolicy,
    PinnedBackend,
    Refused,
    Verdict,
    classify,
    redirected,
)
from archiver.failures import UrlRefused

V = Verdict

ADDRESSES = [
    # ordinary
    ("1.1.1.1", V.PUBLIC),
    ("8.8.8.8", V.PUBLIC),
    ("103.102.202.1", V.PUBLIC),
    ("9.255.255.255", V.PUBLIC),
    ("11.0.0.0", V.PUBLIC),
    ("100.63.255.255", V.PUBLIC),
    ("100.128.0.0", V.PUBLIC),
    ("126.255.255.255", V.PUBLIC),
    ("128.0.0.0", V.PUBLIC),
    ("169.253.255.255", V.PUBLIC),
    ("169.255.0.0", V.PUBLIC),
    ("172.15.255.255", V.PUBLIC),
    ("172.32.0.0", V.PUBLIC),
    ("192.0.1.0", V.PUBLIC),
    ("192.0.3.0", V.PUBLIC),
    ("192.88.98.255", V.PUBLIC),
    ("192.167.255.255", V.PUBLIC),
    ("192.169.0.0", V.PUBLIC),
    ("198.17.255.255", V.PUBLIC),
    ("198.20.0.0", V.PUBLIC),
    ("223.255.255.255", V.PUBLIC),
    ("2606:4700:4700::1111", V.PUBLIC),
    ("2a00:1450:4001:80b::200e", V.PUBLIC),
    ("2400:3200::1", V.PUBLIC),
    ("2001:4860:4860::8888", V.PUBLIC),
    ("2001:200::1", V.PUBLIC),
    # this host, this network
    ("0.0.0.0", V.UNSPECIFIED),  # noqa: S104 -- judged, not bound
    ("0.0.0.1", V.RESERVED),
    ("0.255.255.255", V.RESERVED),
    ("::", V.UNSPECIFIED),
    ("127.0.0.1", V.LOOPBACK),
    ("127.0.0.53", V.LOOPBACK),
    ("127.255.255.255", V.LOOPBACK),
    ("::1", V.LOOPBACK),
    # private
    ("10.0.0.0", V.PRIVATE),
    ("10.255.255.255", V.PRIVATE),
    ("172.16.0.0", V.PRIVATE),
    ("172.17.0.1", V.PRIVATE),
    ("172.31.255.255", V.PRIVATE),
    ("192.168.0.0", V.PRIVATE),
    ("192.168.255.255", V.PRIVATE),
    ("fc00::", V.PRIVATE),
    ("fd12:3456:789a::1", V.PRIVATE),
    ("fdff:ffff::1", V.PRIVATE),
    ("fec0::1", V.SITE_LOCAL),
    ("feff::1", V.SITE_LOCAL),
    ("100.64.0.0", V.CGNAT),
    ("100.127.255.255", V.CGNAT),
    ("169.254.0.1", V.LINK_LOCAL),
    ("169.254.255.255", V.LINK_LOCAL),
    ("fe80::1", V.LINK_LOCAL),
    ("fe80::1%eth0", V.LINK_LOCAL),
    ("febf::1", V.LINK_LOCAL),
    # cloud metadata
    ("169.254.169.254", V.METADATA),
    ("169.254.170.2", V.METADATA),
    ("169.254.170.23", V.METADATA),
    ("100.100.100.200", V.METADATA),
    ("168.63.129.16", V.METADATA),
    ("192.0.0.192", V.METADATA),
    ("fd00:ec2::254", V.METADATA),
    ("fd00:ec2::23", V.METADATA),
    ("fd20:ce::254", V.METADATA),
    # multicast and broadcast
    ("224.0.0.1", V.MULTICAST),
    ("239.255.255.255", V.MULTICAST),
    ("ff00::", V.MULTICAST),
    ("ff02::1", V.MULTICAST),
    ("ff0e::1", V.MULTICAST),
    ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", V.MULTICAST),
    ("255.255.255.255", V.BROADCAST),
    # set aside by the registries
    ("192.0.0.0", V.PROTOCOL),
    ("192.0.0.9", V.PROTOCOL),
    ("192.31.196.1", V.PROTOCOL),
    ("192.52.193.1", V.PROTOCOL),
    ("192.175.48.1", V.PROTOCOL),
    ("192.88.99.1", V.TUNNEL),
    ("198.18.0.1", V.BENCHMARKING),
    ("198.19.255.255", V.BENCHMARKING),
    ("192.0.2.1", V.DOCUMENTATION),
    ("198.51.100.255", V.DOCUMENTATION),
    ("203.0.113.7", V.DOCUMENTATION),
    ("233.252.0.1", V.DOCUMENTATION),
    ("240.0.0.0", V.RESERVED),
    ("254.255.255.255", V.RESERVED),
    ("100::1", V.RESERVED),
    ("100:0:0:1::1", V.RESERVED),
    ("2001:2::1", V.BENCHMARKING),
    ("2001:10::1", V.PROTOCOL),
    ("2001:20::1", V.PROTOCOL),
    ("2001:1::1", V.PROTOCOL),
    ("2001:1ff::1", V.PROTOCOL),
    ("2001:db8::1", V.DOCUMENTATION),
    ("3fff::1", V.DOCUMENTATION),
    ("3fff:fff::1", V.DOCUMENTATION),
    ("2620:4f:8000::1", V.PROTOCOL),
    ("5f00::1", V.PROTOCOL),
    ("4000::1", V.RESERVED),
    ("1fff::1", V.RESERVED),
    ("8000::1", V.RESERVED),
    ("fe00::1", V.RESERVED),
    # IPv4 inside IPv6: mapped
    ("::ffff:8.8.8.8", V.PUBLIC),
    ("::ffff:127.0.0.1", V.LOOPBACK),
    ("::ffff:10.0.0.1", V.PRIVATE),
    ("::ffff:169.254.169.254", V.METADATA),
    ("::ffff:0.0.0.0", V.UNSPECIFIED),
    ("::ffff:240.0.0.1", V.RESERVED),
    # compatible
    ("::8.8.8.8", V.RESERVED),
    ("::127.0.0.1", V.LOOPBACK),
    ("::192.168.1.1", V.PRIVATE),
    ("::ffff:0:8.8.8.8", V.RESERVED),
    # NAT64
    ("64:ff9b::8.8.8.8", V.PUBLIC),
    ("64:ff9b::127.0.0.1", V.LOOPBACK),
    ("64:ff9b::10.1.2.3", V.PRIVATE),
    ("64:ff9b::169.254.169.254", V.METADATA),
    ("64:ff9b:1::8.8.8.8", V.TUNNEL),
    ("64:ff9b:1::10.0.0.1", V.PRIVATE),
    ("64:ff9b:1:ffff::169.254.169.254", V.METADATA),
    ("64:ff9b:2::8.8.8.8", V.RESERVED),
    # 6to4
    ("2002:808:808::1", V.TUNNEL),
    ("2002:7f00:1::1", V.LOOPBACK),
    ("2002:a00:1::1", V.PRIVATE),
    ("2002:a9fe:a9fe::1", V.METADATA),
    # Teredo: server in bits 32 to 63, the client's address inverted in the last 32
    ("2001:0:808:808:0:0:f7f7:f7f7", V.TUNNEL),
    ("2001:0:808:808:0:0:80ff:fffe", V.LOOPBACK),
    ("2001:0:a00:1:0:0:f7f7:f7f7", V.PRIVATE),
    ("2001:0:808:808:0:0:5601:5601", V.METADATA),
    # ISATAP
    ("2606:4700::5efe:8.8.8.8", V.PUBLIC),
    ("2606:4700::5efe:10.0.0.1", V.PRIVATE),
    ("2606:4700::200:5efe:127.0.0.1", V.LOOPBACK),
    ("fe80::5efe:10.0.0.1", V.PRIVATE),
]


@pytest.mark.parametrize(("address", "verdict"), ADDRESSES)
def test_every_address_has_its_verdict(address: str, verdict: Verdict) -> None:
    assert classify(ipaddress.ip_address(address)) is verdict


@given(
    st.integers(0, 2**128 - 1).map(ipaddress.IPv6Address)
    | st.integers(0, 2**32 - 1).map(ipaddress.IPv4Address)
)
def test_nothing_is_public_that_the_standard_library_calls_private(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    verdict = classify(address)

    mapped = getattr(address, "ipv4_mapped", None)
    assert verdict is not V.PUBLIC or (mapped or address).is_global


# --- the gate -------------------------------------------------------------------------------------------

POLICY = EgressPolicy.parse(
    ["klingai.com", "Kwimgs.com.", "http://127.0.0.1:9000", "https://gateway.example:8443", "http://[::1]:80"]
)


@pytest.mark.parametrize(
    ("url", "host", "port", "target"),
    [
        ("https://klingai.com/a.png", "klingai.com", 443, b"/a.png"),
        ("https://cdn.klingai.com/a.png", "cdn.klingai.com", 443, b"/a.png"),
        ("HTTPS://CDN.KlingAI.com:443/A.png", "cdn.klingai.com", 443, b"/A.png"),
        ("https://p1.a.kwimgs.com./x", "p1.a.kwimgs.com", 443, b"/x"),
        ("https://cdn.klingai.com", "cdn.klingai.com", 443, b"/"),
        ("https://cdn.klingai.com:/", "cdn.klingai.com", 443, b"/"),
        ("https://cdn.klingai.com?a=b", "cdn.klingai.com", 443, b"/?a=b"),
        ("https://cdn.klingai.com/a#fragment", "cdn.klingai.com", 443, b"/a"),
        ("https://s15_kling.klingai.com/", "s15_kling.klingai.com", 443, b"/"),
        ("https://xn--bcher-kva.klingai.com/", "xn--bcher-kva.klingai.com", 443, b"/"),
        ("https://1.2.3.4.klingai.com/", "1.2.3.4.klingai.com", 443, b"/"),
        (
            "https://cdn.klingai.com/a%2Fb/../c//d;e?ksSecret=%7e%7E&x=[]|'\"{}&y=a+b%20c&&=",
            "cdn.klingai.com",
            443,
            b"/a%2Fb/../c//d;e?ksSecret=%7e%7E&x=[]|'\"{}&y=a+b%20c&&=",
        ),
        ("https://cdn.klingai.com/@a:b?c=http://d@e/f?g", "cdn.klingai.com", 443, b"/@a:b?c=http://d@e/f?g"),
        ("https://cdn.klingai.com/图.png?名=é", "cdn.klingai.com", 443, b"/%E5%9B%BE.png?%E5%90%8D=%C3%A9"),
    ],
)
def test_a_good_url_passes_with_its_target_byte_for_byte(
    url: str, host: str, port: int, target: bytes
) -> None:
    vetted = POLICY.vet(url)

    assert (vetted.origin.scheme, vetted.origin.host, vetted.origin.port) == ("https", host, port)
    assert vetted.target == target
    assert not vetted.listed


@pytest.mark.parametrize(
    ("url", "host_header"),
    [
        ("http://127.0.0.1:9000/a", b"127.0.0.1:9000"),
        ("https://gateway.example:8443/a", b"gateway.example:8443"),
        ("http://[::1]/a", b"[::1]"),
        ("http://[0:0:0:0:0:0:0:1]:80/a", b"[::1]"),
    ],
)
def test_a_listed_origin_passes_as_such(url: str, host_header: bytes) -> None:
    vetted = POLICY.vet(url)

    assert vetted.listed
    assert vetted.origin.host_header == host_header


@pytest.mark.parametrize(
    ("url", "cause"),
    [
        ("", Cause.MALFORMED),
        ("cdn.klingai.com/a", Cause.MALFORMED),
        ("/a.png", Cause.MALFORMED),
        ("//cdn.klingai.com/a", Cause.MALFORMED),
        ("https:/cdn.klingai.com/a", Cause.MALFORMED),
        ("https:cdn.klingai.com", Cause.MALFORMED),
        ("data:image/png;base64,AAAA", Cause.MALFORMED),
        ("https://", Cause.MALFORMED),
        ("https:///a", Cause.MALFORMED),
        ("https://:443/a", Cause.MALFORMED),
        ("file://cdn.klingai.com/etc/passwd", Cause.SCHEME),
        ("ftp://cdn.klingai.com/a", Cause.SCHEME),
        ("gopher://cdn.klingai.com/a", Cause.SCHEME),
        ("http://cdn.klingai.com/a", Cause.SCHEME),
        ("http://cdn.klingai.com:443/a", Cause.SCHEME),
        ("https://user@cdn.klingai.com/a", Cause.USER_INFO),
        ("https://user:password@cdn.klingai.com/a", Cause.USER_INFO),
        ("https://cdn.klingai.com@evil.example/a", Cause.USER_INFO),
        ("https://cdn.klingai.com:443@evil.example/a", Cause.USER_INFO),
        ("https://@cdn.klingai.com/a", Cause.USER_INFO),
        ("https://cdn.klingai.com:80/a", Cause.PORT),
        ("https://cdn.klingai.com:8443/a", Cause.PORT),
        ("https://cdn.klingai.com:22/a", Cause.PORT),
        ("https://cdn.klingai.com:0/a", Cause.PORT),
        ("https://cdn.klingai.com:65536/a", Cause.PORT),
        ("https://cdn.klingai.com:" + "4" * 400 + "/a", Cause.MALFORMED),
        ("https://cdn.klingai.com:44a/a", Cause.MALFORMED),
        ("https://cdn.klingai.com:-443/a", Cause.MALFORMED),
        ("https://cdn.klingai.com:443:443/a", Cause.MALFORMED),
        ("https://evil.example/a", Cause.HOST_NOT_ALLOWED),
        ("https://evilklingai.com/a", Cause.HOST_NOT_ALLOWED),
        ("https://klingai.com.evil.example/a", Cause.HOST_NOT_ALLOWED),
        ("https://klingai.co/a", Cause.HOST_NOT_ALLOWED),
        ("https://com/a", Cause.HOST_NOT_ALLOWED),
        ("https://localhost/a", Cause.HOST_NOT_ALLOWED),
        ("https://gateway.example/a", Cause.HOST_NOT_ALLOWED),
        ("http://gateway.example:8443/a", Cause.HOST_NOT_ALLOWED),
        ("https://cdn..klingai.com/a", Cause.HOST_NAME),
        ("https://.klingai.com/a", Cause.HOST_NAME),
        ("https://cdn.klingai.com../a", Cause.HOST_NAME),
        ("https://-cdn.klingai.com/a", Cause.HOST_NAME),
        ("https://" + "a" * 64 + ".klingai.com/a", Cause.HOST_NAME),
        ("https://" + "a." * 130 + "klingai.com/a", Cause.HOST_NAME),
        ("https://cdn%2eklingai.com/a", Cause.HOST_NAME),
        ("https://cdn.klingai.com%00.evil.example/a", Cause.HOST_NAME),
        ("https://cdn.klingai.com,evil.example/a", Cause.HOST_NAME),
        ("https://cdn.ｋlingai.com/a", Cause.HOST_NAME),
        ("https://cdn。klingai.com/a", Cause.HOST_NAME),
        ("https://bücher.klingai.com/a", Cause.HOST_NAME),
        ("https://127.0.0.1/a", Cause.IP_LITERAL),
        ("https://127.0.0.1:9000/a", Cause.IP_LITERAL),
        ("http://127.0.0.1/a", Cause.IP_LITERAL),
        ("http://127.0.0.1:9001/a", Cause.IP_LITERAL),
        ("http://0177.0.0.1:9000/a", Cause.IP_LITERAL),
        ("http://0x7f.0.0.1:9000/a", Cause.IP_LITERAL),
        ("http://127.1:9000/a", Cause.IP_LITERAL),
        ("http://2130706433:9000/a", Cause.IP_LITERAL),
        ("http://0x7f000001:9000/a", Cause.IP_LITERAL),
        ("http://017700000001:9000/a", Cause.IP_LITERAL),
        ("https://8.8.8.8./a", Cause.IP_LITERAL),
        ("https://[2606:4700::1111]/a", Cause.IP_LITERAL),
        ("https://[::ffff:127.0.0.1]/a", Cause.IP_LITERAL),
        ("https://[::1%25eth0]/a", Cause.MALFORMED),
        ("https://[::1/a", Cause.MALFORMED),
        ("https://[v1.a]/a", Cause.MALFORMED),
        ("https://[:::]/a", Cause.MALFORMED),
        ("https://cdn.klingai.com\\@evil.example/a", Cause.CHARACTERS),
        ("https://evil.example\\.klingai.com/a", Cause.CHARACTERS),
        ("https://cdn.klingai.com/a b", Cause.CHARACTERS),
        (" https://cdn.klingai.com/a", Cause.CHARACTERS),
        ("https://cdn.klingai.com/a\r\nHost: evil.example", Cause.CHARACTERS),
        ("https://cdn.klingai.com/a\n", Cause.CHARACTERS),
        ("https://cdn.kling\tai.com/a", Cause.CHARACTERS),
        ("https://cdn.klingai.com/\x00", Cause.CHARACTERS),
        ("https://cdn.klingai.com/\x7f", Cause.CHARACTERS),
        ("https://cdn.klingai.com/\u00a0", Cause.CHARACTERS),
        ("https://cdn.klingai.com/\u202e", Cause.CHARACTERS),
        ("https://cdn.klingai.com/\ud800", Cause.CHARACTERS),
        ("https://cdn.klingai.com/" + "a" * URL_CHARACTERS_MAX, Cause.TOO_LONG),
    ],
)
def test_a_bad_url_is_refused_for_a_named_cause(url: str, cause: Cause) -> None:
    with pytest.raises(UrlRefused) as raised:
        POLICY.vet(url)

    assert isinstance(raised.value, Refused)
    assert raised.value.cause is cause


@given(st.text(max_size=60).map(lambda tail: "https://" + tail) | st.text(max_size=60))
def test_any_text_is_vetted_or_refused_and_a_vetted_host_is_under_a_suffix_or_listed(url: str) -> None:
    try:
        vetted = POLICY.vet(url)
    except Refused:
        return
    host = vetted.origin.host
    assert vetted.listed or host in POLICY.suffixes or host.endswith((".klingai.com", ".kwimgs.com"))


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/a?Signature=SECRET",
        "https://u:SECRET@cdn.klingai.com/a?Signature=SECRET",
        "https://cdn.klingai.com:81/a?Signature=SECRET",
        "http://cdn.klingai.com/a?Signature=SECRET",
        "https://SECRET!/a?Signature=SECRET",
        "nothing?Signature=SECRET",
        "https://cdn.klingai.com/a?Signature=SECRET with space",
    ],
)
def test_a_refusal_never_quotes_the_query_or_a_password(url: str) -> None:
    with pytest.raises(Refused) as raised:
        POLICY.vet(url)

    assert "SECRET" not in str(raised.value)
    assert "SECRET" not in repr(raised.value.host)


@pytest.mark.parametrize(
    "entry",
    [
        "",
        "com",
        "*.klingai.com",
        ".klingai.com",
        "klingai..com",
        "klingai.com/images",
        "klingai.com:443",
        "127.0.0.1",
        "例え.jp",
        "ftp://klingai.com",
        "http://klingai.com/images",
        "http://klingai.com?a",
        "http://klingai.com#a",
        "http://user@klingai.com",
        "http://klingai.com:99999",
        "http://127.1:9000",
        "http://0x7f000001:9000",
        "http://",
        "http://[::1",
    ],
)
def test_an_entry_that_means_nothing_is_named_in_the_error(entry: str) -> None:
    with pytest.raises(ValueError, match=r"\w") as raised:
        EgressPolicy.parse(["klingai.com", entry])

    assert repr(entry) in str(raised.value)


def test_no_entries_allow_nothing() -> None:
    with pytest.raises(Refused):
        EgressPolicy.parse([]).vet("https://cdn.klingai.com/")


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("https://other.example/x?%7e", "https://other.example/x?%7e"),
        ("HTTPS://other.example", "HTTPS://other.example"),
        ("//other.example/x", "https://other.example/x"),
        ("/x/../y?a=%2F", "https://cdn.klingai.com/x/../y?a=%2F"),
        ("c.png", "https://cdn.klingai.com/a/c.png"),
        ("../c.png", "https://cdn.klingai.com/a/../c.png"),
        ("?q=2", "https://cdn.klingai.com/a/b.png?q=2"),
        ("#f", "https://cdn.klingai.com/a/b.png#f"),
        ("javascript:alert(1)", "javascript:alert(1)"),
    ],
)
def test_a_location_is_resolved_against_the_url_that_sent_it(location: str, expected: str) -> None:
    vetted = POLICY.vet("https://cdn.klingai.com/a/b.png?from=/x/y")

    assert redirected(vetted, location) == expected


# --- connecting -----------------------------------------------------------------------------------------


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def _backend(*answers: str, private_allowed: bool = False) -> PinnedBackend:
    return PinnedBackend(resolver=lambda _host, _port: answers, private_allowed=private_allowed)


def _allowance(seconds: float) -> Allowance:
    return Allowance(until=time.monotonic() + seconds, idle_seconds=seconds, clock=time.monotonic)


@pytest.mark.parametrize(
    "answers",
    [
        ["127.0.0.1"],
        ["8.8.8.8", "10.0.0.1"],
        ["8.8.8.8", "2606:4700::1111", "::ffff:169.254.169.254"],
        ["fe80::1%lo"],
        ["not an address"],
    ],
)
def test_one_answer_that_is_not_public_refuses_the_name(answers: list[str], listener: socket.socket) -> None:
    with pytest.raises(Refused) as raised:
        _backend(*answers).connect_tcp("cdn.klingai.com", listener.getsockname()[1], timeout=5.0)

    assert raised.value.cause is Cause.ADDRESS
    assert raised.value.host == "cdn.klingai.com"


def test_a_name_is_resolved_once_and_the_connection_goes_to_that_answer(listener: socket.socket) -> None:
    asked: list[str] = []

    def resolver(host: str, _port: int) -> Sequence[str]:
        asked.append(host)
        return ["127.0.0.1"]

    backend = PinnedBackend(resolver=resolver, private_allowed=True)
    stream = backend.connect_tcp("name.that.exists.nowhere.example", listener.getsockname()[1], timeout=5.0)

    assert stream.get_extra_info("server_addr") == listener.getsockname()
    assert asked == ["name.that.exists.nowhere.example"]
    stream.close()


def test_an_address_that_refuses_gives_way_to_the_next(listener: socket.socket) -> None:
    port = listener.getsockname()[1]  # nobody listens there on ::1

    stream = _backend("::1", "127.0.0.1", private_allowed=True).connect_tcp("a.example", port, timeout=5.0)

    assert stream.get_extra_info("server_addr")[0] == "127.0.0.1"
    stream.close()


def test_a_name_without_an_address_cannot_be_connected_to() -> None:
    with pytest.raises(httpcore2.ConnectError, match="no address"):
        _backend().connect_tcp("a.example", 443, timeout=5.0)


@pytest.mark.parametrize(
    "error", [socket.gaierror(-2, "Name or service not known"), UnicodeError("label too long")]
)
def test_a_name_that_cannot_be_resolved_is_a_connect_error(error: Exception) -> None:
    def resolver(_host: str, _port: int) -> Sequence[str]:
        raise error

    with pytest.raises(httpcore2.ConnectError, match="cannot be resolved"):
        PinnedBackend(resolver=resolver, private_allowed=False).connect_tcp("a.example", 443, timeout=5.0)


def test_a_resolver_that_never_answers_does_not_hold_the_caller() -> None:
    answer = threading.Event()

    def resolver(_host: str, _port: int) -> Sequence[str]:
        answer.wait(30)
        return []

    backend = PinnedBackend(resolver=resolver, private_allowed=False)
    with pytest.raises(httpcore2.ConnectTimeout):
        backend.connect_tcp("a.example", 443, timeout=_allowance(0.05))
    answer.set()


def test_an_allowance_that_is_used_up_allows_no_call() -> None:
    used_up = Allowance(until=10.0, idle_seconds=5.0, clock=lambda: 10.0)

    with pytest.raises(httpcore2.TimeoutException):
        used_up.seconds()


def test_an_allowance_is_the_idle_time_until_the_deadline_is_nearer() -> None:
    now = 0.0
    allowance = Allowance(until=20.0, idle_seconds=15.0, clock=lambda: now)

    assert allowance.seconds() == 15.0
    now = 12.0
    assert allowance.seconds() == 8.0
