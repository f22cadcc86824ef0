"""Names whose answers lie: a real DNS server, the system's own resolver, and addresses that really would answer.

All scenarios run in one child process (`tests.harness.rebinding`) in a network and mount namespace of its own, where
port 53 and any address can be ours and where nothing but loopback exists. Its result names the addresses that were
connected to, so that a refusal which came after the connection would not pass for one.
"""

import datetime
import json
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.harness.rebinding import LOOPBACK, METADATA, PRIVATE, PUBLIC
from tests.harness.repository import ROOT

CDN, OTHER, PLAIN = "s1.klingai.com", "s2.klingai.com", "evil.example"
IMAGE = f"https://{CDN}/0.png"
NAMESPACES = (
    ["unshare", "--mount", "--net"],
    ["unshare", "--user", "--map-root-user", "--mount", "--net"],
)
"""As root, and as any user if the kernel allows user namespaces."""
OWN_RESOLVER = (
    'mount --bind "$1" /etc/resolv.conf && mount --bind "$2" /etc/nsswitch.conf && shift 2 && exec "$@"'
)

Scenario = Mapping[str, Any]
"""`answers` of the name server (name → turns), `urls` that are fetched one after the other."""

FETCHED: Mapping[str, Scenario] = {
    "a public address": {"answers": {CDN: [[PUBLIC]]}, "urls": [IMAGE]},
    "private from the second question on": {"answers": {CDN: [[PUBLIC], [LOOPBACK]]}, "urls": [IMAGE]},
    "the metadata address from the second question on": {
        "answers": {CDN: [[PUBLIC], [METADATA]]},
        "urls": [IMAGE],
    },
}
REFUSED: Mapping[str, Scenario] = {
    "loopback": {"answers": {CDN: [[LOOPBACK]]}, "urls": [IMAGE]},
    "a private address": {"answers": {CDN: [[PRIVATE]]}, "urls": [IMAGE]},
    "the metadata address": {"answers": {CDN: [[METADATA]]}, "urls": [IMAGE]},
    "a public and a private address": {"answers": {CDN: [[PUBLIC, PRIVATE]]}, "urls": [IMAGE]},
    "a private and a public address": {"answers": {CDN: [[PRIVATE, PUBLIC]]}, "urls": [IMAGE]},
}
REDIRECTED: Mapping[str, Scenario] = {
    "to a name at the metadata address": {
        "answers": {CDN: [[PUBLIC]], OTHER: [[METADATA]]},
        "urls": [f"https://{CDN}/to/https://{OTHER}/latest/meta-data/"],
    },
    "to its own name, private by then": {
        "answers": {CDN: [[PUBLIC], [LOOPBACK]]},
        "urls": [f"https://{CDN}/to/https://{CDN}/0.png"],
    },
    "to plain http": {
        "answers": {CDN: [[PUBLIC]]},
        "urls": [f"https://{CDN}/to/http://{CDN}/0.png"],
    },
    "to an address": {
        "answers": {CDN: [[PUBLIC]]},
        "urls": [f"https://{CDN}/to/https://{METADATA}/latest/meta-data/"],
    },
    "to a host that is not allowed": {
        "answers": {CDN: [[PUBLIC]], PLAIN: [[PUBLIC]]},
        "urls": [f"https://{CDN}/to/https://{PLAIN}/0.png"],
    },
}
TWICE: Scenario = {"answers": {CDN: [[PUBLIC], [PRIVATE]]}, "urls": [IMAGE, IMAGE]}
NO_NAME: Scenario = {"answers": {}, "urls": [IMAGE]}


def certificate(path: pathlib.Path) -> pathlib.Path:
    """Self-signed, for the two hosts, with its key in the same file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, CDN)])
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(CDN), x509.DNSName(OTHER)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(signed.public_bytes(serialization.Encoding.PEM) + secret)
    return path


def namespaces() -> list[str]:
    """The command that gives its child a network of its own; skips where there is none."""
    if shutil.which("unshare") is None:
        pytest.skip("no unshare (util-linux): a DNS server on port 53 needs a network namespace of its own")
    for command in NAMESPACES:
        if subprocess.run([*command, "true"], check=False, capture_output=True).returncode == 0:
            return command
    pytest.skip("no right to a network namespace: run as root, or set kernel.unprivileged_userns_clone=1")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Any]:
    """What came of every scenario."""
    own = namespaces()
    folder = tmp_path_factory.mktemp("dns")
    resolver, switch = folder / "resolv.conf", folder / "nsswitch.conf"
    resolver.write_text(f"nameserver {LOOPBACK}\noptions timeout:2 attempts:1\n")
    switch.write_text("hosts: files dns\n")
    program = [
        sys.executable,
        "-W",
        "error",
        "-m",
        "tests.harness.rebinding",
        str(certificate(folder / "cdn.pem")),
    ]
    done = subprocess.run(
        [
            *own,
            "sh",
            "-c",
            OWN_RESOLVER,
            "-",
            str(resolver),
            str(switch),
            *program,
            str(folder / "spool"),
        ],
        check=False,
        capture_output=True,
        cwd=ROOT,
        input=json.dumps({**FETCHED, **REFUSED, **REDIRECTED, "twice": TWICE, "no name": NO_NAME}),
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    found: Mapping[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("name", FETCHED)
def test_the_address_that_was_judged_is_the_one_that_is_connected_to(
    results: Mapping[str, Any], name: str
) -> None:
    """The name is looked up once: a second question, between the judgement and the connection, would be answered with
    an address where a server of ours waits."""
    assert results[name] == {"outcomes": ["fetched"], "asked": {CDN: 1}, "connections": {PUBLIC: 1}}


@pytest.mark.parametrize("name", REFUSED)
def test_a_name_that_resolves_to_anything_but_public_addresses_is_not_connected_to(
    results: Mapping[str, Any], name: str
) -> None:
    assert results[name] == {"outcomes": ["asset_address_refused"], "asked": {CDN: 1}, "connections": {}}


def test_every_connection_looks_its_name_up_and_judges_it_anew(results: Mapping[str, Any]) -> None:
    assert results["twice"] == {
        "outcomes": ["fetched", "asset_address_refused"],
        "asked": {CDN: 2},
        "connections": {PUBLIC: 1},
    }


@pytest.mark.parametrize("name", REDIRECTED)
def test_a_redirect_is_judged_like_the_first_url(results: Mapping[str, Any], name: str) -> None:
    assert results[name]["outcomes"] == ["url_refused"]
    assert results[name]["connections"] == {PUBLIC: 1}
    assert results[name]["asked"].get(PLAIN) is None


def test_a_name_that_does_not_exist_is_tried_again_later(results: Mapping[str, Any]) -> None:
    assert results["no name"]["outcomes"] == ["fetch_failed"]
    assert results["no name"]["connections"] == {}
