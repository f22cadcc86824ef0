"""The policy by address and by text: every address has its class, and every URL is vetted or refused."""

import contextlib
import ipaddress
import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver.failures import UrlRefused
from archiver.fetch.addresses import AddressClass, classify
from archiver.fetch.urls import (
    ConsumerPolicy,
    EgressPolicy,
    PolicyRefusal,
    RefusalCause,
    expires_at,
    redirected,
)
from tests.archiver.fetch.address_table import ADDRESSES, RANGES, URLS

V = AddressClass


def neighbours() -> Iterator[tuple[str, AddressClass]]:
    """First and last address of every range and the ones just outside, as far as there are any."""
    for text, first, last, before, behind in RANGES:
        network = ipaddress.ip_network(text)
        yield str(network[0]), first
        yield str(network[-1]), last
        if before is not None:
            yield str(network[0] - 1), before
        if behind is not None:
            yield str(network[-1] + 1), behind


@pytest.mark.parametrize(("address", "verdict"), [*neighbours(), *ADDRESSES])
def test_every_address_has_its_verdict(address: str, verdict: AddressClass) -> None:
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
        ("https://cdn.klingai.com/a b.png?c= d", "cdn.klingai.com", 443, b"/a%20b.png?c=%20d"),
        (" https://cdn.klingai.com/a ", "cdn.klingai.com", 443, b"/a"),
        ("\r\n\thttps://cdn.klingai.com/a\r\n", "cdn.klingai.com", 443, b"/a"),
        ("https://cdn.klingai.com/a\u00a0b\u3000", "cdn.klingai.com", 443, b"/a%C2%A0b%E3%80%80"),
        ("https://cdn.klingai.com/\u202e\ufeff\u0085", "cdn.klingai.com", 443, b"/%E2%80%AE%EF%BB%BF%C2%85"),
        ("https://cdn.klingai.com/\U0001f600", "cdn.klingai.com", 443, b"/%F0%9F%98%80"),
        (
            "https://cdn.klingai.com/\U0001fae9\U0001fbff",
            "cdn.klingai.com",
            443,
            b"/%F0%9F%AB%A9%F0%9F%AF%BF",
        ),
        ("https://bücher.klingai.com/", "xn--bcher-kva.klingai.com", 443, b"/"),
        ("https://BÜCHER。klingai.com/", "xn--bcher-kva.klingai.com", 443, b"/"),
        ("https://\U0001f984.klingai.com./", "xn--3s9h.klingai.com", 443, b"/"),
        ("https://a_b.stra\u00dfe.klingai.com/", "a_b.xn--strae-oqa.klingai.com", 443, b"/"),
        ("https://x\u2044.klingai.com/", "xn--x-zjn.klingai.com", 443, b"/"),
        ("https://cdn.\u212al\u00adingai.com/", "cdn.klingai.com", 443, b"/"),
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


@pytest.mark.parametrize(("url", "cause"), URLS)
def test_a_bad_url_is_refused_for_a_named_cause(url: str, cause: RefusalCause) -> None:
    with pytest.raises(UrlRefused) as raised:
        POLICY.vet(url)

    assert isinstance(raised.value, PolicyRefusal)
    assert raised.value.cause is cause


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("https://cdn.klingai.com/a\tb", "a control character"),
        ("https://cdn.klingai.com/\x7f", "a control character"),
        ("https://cdn.klingai.com\\a", "a backslash"),
        ("https://cdn.klingai.com/\ud83d", "half a character"),
        ("https://a b.klingai.com/", "no host name"),
        ("https://\ue000.klingai.com/", "no host name may have"),
    ],
)
def test_the_reason_of_a_refusal_is_true(url: str, reason: str) -> None:
    with pytest.raises(PolicyRefusal, match=reason):
        POLICY.vet(url)


def test_no_character_passes_into_a_target_but_printable_ascii() -> None:
    for code in (*range(0x300), 0x2028, 0xFFFD, 0xFFFF, 0x10FFFF):
        with contextlib.suppress(PolicyRefusal):
            target = POLICY.vet(f"https://cdn.klingai.com/a{chr(code)}b").target
            assert all(0x21 <= byte <= 0x7E for byte in target)


@st.composite
def numeric_hosts(draw: st.DrawFn) -> str:
    """An IPv4 address as some resolvers read it: one to four numbers, each decimal, octal or hexadecimal."""
    count = draw(st.integers(1, 4))
    numbers = [draw(st.integers(0, 255)) for _ in range(count - 1)]
    numbers.append(draw(st.integers(0, 256 ** (5 - count) - 1)))
    shapes = [draw(st.sampled_from(["{}", "0{:o}", "0x{:x}", "0X{:X}", "000{:o}"])) for _ in numbers]
    return ".".join(shape.format(number) for shape, number in zip(shapes, numbers, strict=True))


@given(numeric_hosts(), st.sampled_from(["", ".", ":443", ".:443"]))
def test_a_host_that_the_system_reads_as_an_ipv4_address_is_never_taken_for_a_name(
    host: str, tail: str
) -> None:
    socket.inet_aton(host)  # the system does

    with pytest.raises(PolicyRefusal) as raised:
        POLICY.vet(f"https://{host}{tail}/a")

    assert raised.value.cause is RefusalCause.IP_LITERAL


@given(st.text(max_size=60).map(lambda tail: "https://" + tail) | st.text(max_size=60))
def test_any_text_is_vetted_or_refused_and_a_vetted_host_is_under_a_suffix_or_listed(url: str) -> None:
    try:
        vetted = POLICY.vet(url)
    except PolicyRefusal:
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
        "https://cdn.klingai.com/a?Signature=SECRET\\",
    ],
)
def test_a_refusal_never_quotes_the_query_or_a_password(url: str) -> None:
    with pytest.raises(PolicyRefusal) as raised:
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
        "例え",
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
    with pytest.raises(PolicyRefusal):
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


# --- expiry -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "expires"),
    [
        ("https://cdn.klingai.com/0.png?Expires=1768112080&Signature=x", 1_768_112_080_000),
        ("https://cdn.klingai.com/0.png?cacheKey=a&Expires=1768112080", 1_768_112_080_000),
        ("https://v1.kwimgs.com/0.mp4?pkey=x&ksTime=694fa816", 0x694FA816 * 1000),
        ("https://cdn.klingai.com/0.png", None),
        ("https://cdn.klingai.com/0.png?Expires=soon", None),
        ("https://cdn.klingai.com/0.png?Expires=17681120801768112080", None),
        ("https://cdn.klingai.com/0.png?NotExpires=1768112080", None),
        ("", None),
    ],
)
def test_a_url_tells_when_its_signature_ends(url: str, expires: int | None) -> None:
    assert expires_at(url) == expires


def test_a_consumer_may_be_any_host_by_https_but_is_refused_by_its_text_for_all_other_causes() -> None:
    policy = ConsumerPolicy.parse(["http://127.0.0.1:9000", "https://hooks.internal"])
    of_suffixes = (RefusalCause.HOST_NOT_ALLOWED, RefusalCause.PORT)
    allowed_here = {url for url, _ in URLS if "//127.0.0.1:9000/" in url and url.startswith("http:")}
    for url, cause in URLS:
        local = "localhost" in url
        if url in allowed_here or (
            cause in of_suffixes and not local and ":0/" not in url and ":65536/" not in url
        ):
            continue
        with pytest.raises(PolicyRefusal) as raised:
            policy.vet(url)
        assert raised.value.cause in (cause, RefusalCause.ADDRESS, RefusalCause.IP_LITERAL), url

    assert policy.vet("https://app.example.com:8443/cb?job=1").target == b"/cb?job=1"
    assert policy.vet("http://127.0.0.1:9000/cb").listed
    assert policy.vet("https://hooks.internal/cb").listed
