"""What the daemon looks like from outside: name, certificate, and the paths that a proxy must route."""

import contextlib
import dataclasses
import json
import pathlib
import ssl
from collections.abc import Iterator, Mapping

import pytest

from archiver.audit.doctor import Finding, PublicSide, Verdict
from archiver.audit.doctor.outside import NOTHING_HERE, hook, public_side
from archiver.fetch.proxy import Proxy
from receiver.server import replies
from tests.harness.edge import Edge
from tests.harness.server import write_certificate
from tests.s3_servers import FaultyProxy, faulty

OURS = json.dumps(NOTHING_HERE).encode()


def answering(status: int, body: bytes = b"", **headers: str) -> faulty.Fault:
    return lambda exchange: exchange.send(status, headers, body)


def side(url: str, *, callbacks: bool = False, links: bool = False, gateway: bool = False) -> PublicSide:
    return PublicSide(url, takes_callbacks=callbacks, serves_links=links, serves_gateway=gateway)


def look(asked: PublicSide) -> Mapping[str, Finding]:
    return {finding.check or "public_url": finding for finding in public_side(asked)}


@pytest.fixture
def proxy() -> Iterator[FaultyProxy]:
    """A proxy with nothing behind it."""
    with FaultyProxy(port=1).serving() as serving:
        yield serving


@contextlib.contextmanager
def secure(certificate: pathlib.Path, port: int) -> Iterator[FaultyProxy]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with FaultyProxy(port, tls=context).serving() as serving:
        yield serving


def test_our_404_is_the_edges() -> None:
    assert json.loads(replies.NOT_FOUND.body()) == NOTHING_HERE


def test_a_daemon_behind_a_good_certificate_is_ok(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = write_certificate(tmp_path / "good.pem", days=90)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with Edge() as edge, secure(certificate, int(edge.server.url.rpartition(":")[2])) as serving:
        found = look(side(serving.endpoint_url, callbacks=True, links=True))

    assert {name: finding.verdict for name, finding in found.items()} == {
        "public_url": Verdict.WARNING,  # an address of loopback
        "certificate": Verdict.OK,
        "readiness": Verdict.OK,
        "callback_path": Verdict.OK,
        "links_path": Verdict.OK,
    }
    assert edge.count("unauthorized") == 1


@pytest.mark.parametrize(
    ("days", "is_trusted", "verdict", "said"),
    [
        (-1.0, True, Verdict.FAILED, "expired"),
        (5.0, True, Verdict.WARNING, "ends in"),
        (90.0, False, Verdict.FAILED, "self-signed"),
    ],
    ids=["expired", "ends soon", "nobody's"],
)
def test_a_certificate_that_is_not_good_is_named(
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    days: float,
    is_trusted: bool,
    verdict: Verdict,
    said: str,
) -> None:
    certificate = write_certificate(tmp_path / "c.pem", days=days)
    if is_trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with secure(certificate, 1) as serving:
        serving.on_all(answering(200, b'{"ready": true}'))
        finding = look(side(serving.endpoint_url))["certificate"]

    assert finding.verdict is verdict
    assert said in finding.message
    assert finding.what_to_do


@pytest.mark.parametrize(
    ("fault", "verdict", "said"),
    [
        (answering(200, b'{"ready": true}'), Verdict.OK, "answers 200"),
        (answering(503, b'{"ready": false}'), Verdict.FAILED, "not ready"),
        (answering(502, b"<html>"), Verdict.FAILED, "does not reach the daemon"),
        (answering(404, b"nothing"), Verdict.OK, "not routed"),
        (answering(503, b"[]"), Verdict.FAILED, "503"),
    ],
    ids=["ready", "not ready", "bad gateway", "not routed", "another 503"],
)
def test_the_answer_of_readyz_is_reported(
    proxy: FaultyProxy, fault: faulty.Fault, verdict: Verdict, said: str
) -> None:
    proxy.on_all(fault)

    finding = look(side(proxy.endpoint_url))["readiness"]

    assert (finding.verdict, said in finding.message) == (verdict, True)


@pytest.mark.parametrize(
    ("fault", "verdict"),
    [
        (answering(404, OURS), Verdict.OK),
        (answering(404, b"404 page not found"), Verdict.FAILED),
        (answering(200, b"<html>Welcome</html>"), Verdict.FAILED),
        (answering(301, b"", Location="https://www.example.com/"), Verdict.FAILED),
        (answering(405, b""), Verdict.FAILED),
    ],
    ids=["ours", "another's 404", "a front page", "a redirect", "no POST"],
)
def test_a_callback_path_that_leads_elsewhere_is_a_failure(
    proxy: FaultyProxy, fault: faulty.Fault, verdict: Verdict
) -> None:
    proxy.on_all(fault)

    finding = look(side(proxy.endpoint_url, callbacks=True))["callback_path"]

    assert (finding.verdict, bool(finding.what_to_do)) == (verdict, verdict is Verdict.FAILED)
    assert proxy.requests[-1].method == "POST"


@pytest.mark.parametrize(
    ("fault", "verdict"),
    [
        (answering(401, b"{}", **{"Kling-Archiver-Source": "gateway"}), Verdict.OK),
        (answering(404, OURS), Verdict.FAILED),
        (answering(401, b"{}"), Verdict.FAILED),
    ],
    ids=["the gateway", "off", "another's 401"],
)
def test_the_gateways_own_401_shows_that_its_paths_are_routed(
    proxy: FaultyProxy, fault: faulty.Fault, verdict: Verdict
) -> None:
    proxy.on_all(fault)

    assert look(side(proxy.endpoint_url, gateway=True))["gateway_path"].verdict is verdict


def test_where_nothing_listens_one_failure_says_so() -> None:
    found = look(side("http://127.0.0.1:1", callbacks=True))

    assert "connection refused" in found["readiness"].message
    assert "callback_path" not in found


def test_a_name_without_an_address_is_a_failure() -> None:
    [of_url] = public_side(side("https://nowhere.invalid"))
    [of_hook] = hook("KLING_ALERT_URL", "https://nowhere.invalid/secret-path")

    assert (of_url.verdict, of_hook.verdict) == (Verdict.FAILED, Verdict.FAILED)
    assert "secret-path" not in of_hook.message
    assert [
        (finding.verdict, finding.message) for finding in hook("KLING_ALERT_URL", "http://127.0.0.1/x")
    ] == [(Verdict.OK, "KLING_ALERT_URL: 127.0.0.1")]


def test_a_name_that_only_the_proxy_can_resolve_is_asked_for_there(proxy: FaultyProxy) -> None:
    proxy.on_all(answering(502))
    there = Proxy.from_environment({"HTTPS_PROXY": proxy.endpoint_url, "NO_PROXY": "near.invalid"})
    assert there is not None
    through = dataclasses.replace(side("https://nowhere.invalid"), proxy=there)
    past = dataclasses.replace(side("https://near.invalid"), proxy=there)
    found = look(through)

    assert found["public_url"].verdict is Verdict.OK
    assert "the proxy is to resolve it" in found["public_url"].message
    assert found["readiness"].verdict is Verdict.FAILED, "the proxy refuses the way"
    assert [finding.verdict for finding in public_side(past)] == [Verdict.FAILED]
    for host, verdict in (("nowhere.invalid", Verdict.OK), ("near.invalid", Verdict.FAILED)):
        [of_hook] = hook("KLING_ALERT_URL", f"https://{host}/secret-path", proxy=there)
        assert of_hook.verdict is verdict
        assert "secret-path" not in of_hook.message
