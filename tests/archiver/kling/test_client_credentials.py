"""Who is recognised as a client of the gateway, by which credentials."""

import base64
import json

import jwt
import pytest

from archiver.kling.client_credentials import (
    AccountCredentials,
    ClientCredentials,
    CredentialProblem,
    KnownClient,
)
from archiver.kling.credentials import mint_token

NOW = 1_800_000_000
PAIR = ("access-of-first", "secret-of-first-account-0123456789")
OTHER_PAIR = ("access-of-second", "secret-of-second-account-0123456789")
API_KEY, CLIENT_KEY, GATEWAY_KEY = (
    "api-key-first-01234",
    "api-key-client-0123",
    "gateway-key-of-shop-0123456789",
)
OWN, OURS = KnownClient("first", goes_on=True), KnownClient("first", goes_on=False)
KNOWN = ClientCredentials(
    [
        AccountCredentials(
            "first",
            key_pairs=dict([PAIR]),
            api_keys=(API_KEY, CLIENT_KEY),
            gateway_keys={"shop": GATEWAY_KEY},
        ),
        AccountCredentials("second", key_pairs=dict([OTHER_PAIR])),
    ],
    now=lambda: NOW,
)


def token(claims: object, secret: str = PAIR[1], **header: object) -> str:
    head = {"alg": "HS256", "typ": "JWT", **header}
    parts = [
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in (head, claims)
    ]
    signed = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256).sign(
        ".".join(parts).encode(), secret.encode()
    )
    return ".".join([*parts, base64.urlsafe_b64encode(signed).rstrip(b"=").decode()])


def claims(**changes: object) -> dict[str, object]:
    sound = {"iss": PAIR[0], "exp": NOW + 1800, "nbf": NOW - 5}
    return {name: value for name, value in {**sound, **changes}.items() if value is not None}


def recognised(*authorizations: str) -> KnownClient | CredentialProblem:
    return KNOWN.recognise([(b"authorization", value.encode("latin-1")) for value in authorizations])


@pytest.mark.parametrize(
    ("sent", "client"),
    [
        (f"Bearer {API_KEY}", OWN),
        (f"bearer  {CLIENT_KEY}", OWN),
        (f"Bearer {GATEWAY_KEY}", OURS),
        (f"Bearer {mint_token(*PAIR, now=NOW)}", OWN),
        (f"Bearer {mint_token(*OTHER_PAIR, now=NOW)}", KnownClient("second", goes_on=True)),
        (f"Bearer {mint_token('shop', GATEWAY_KEY, now=NOW)}", OURS),
        (f"Bearer {token(claims(nbf=None))}", OWN),
        (f"Bearer {token(claims(nbf=NOW + 60))}", OWN),
        (f"Bearer {token(claims(exp=NOW - 59))}", OWN),
        (f"Bearer {token(claims(exp=NOW + 24 * 3600))}", OWN),
        (f"Bearer {token(claims(exp=NOW + 10.5))}", OWN),
        (f"Bearer {token(claims(iat=NOW + 5, extra=[1]))}", OWN),
    ],
    ids=lambda _: "sent",
)
def test_a_client_is_recognised_by_each_kind_of_credentials(sent: str, client: KnownClient) -> None:
    assert recognised(sent) == client


@pytest.mark.parametrize(
    "sent",
    [
        "Bearer wrong",
        API_KEY,
        f"Basic {API_KEY}",
        "Bearer",
        f"Bearer {API_KEY} {API_KEY}",
        f"Bearer {API_KEY}x",
        f"Bearer {PAIR[1]}",
        "Bearer " + "x" * 10_000,
        "Bearer \xff\xfe",
        f"Bearer {token(claims(exp=NOW - 61))}",
        f"Bearer {token(claims(exp=NOW + 24 * 3600 + 61))}",
        f"Bearer {token(claims(exp=None))}",
        f"Bearer {token(claims(exp=str(NOW + 60)))}",
        f"Bearer {token(claims(exp=True))}",
        f"Bearer {token(claims(exp=float('nan')))}",
        f"Bearer {token(claims(exp=float('inf')))}",
        f"Bearer {token(claims(exp=10**400))}",
        f"Bearer {token(claims(nbf=10**400))}",
        f"Bearer {token(claims(nbf=-(10**400)))}",
        f"Bearer {token(claims(nbf=NOW + 61))}",
        f"Bearer {token(claims(nbf='soon'))}",
        f"Bearer {token(claims(nbf=float('-inf')))}",
        f"Bearer {token(claims(iss='nobody'))}",
        f"Bearer {token(claims(iss=OTHER_PAIR[0]))}",
        f"Bearer {token(claims(iss='shop'))}",
        f"Bearer {token(claims(iss=[PAIR[0]]))}",
        f"Bearer {token(claims(), secret=OTHER_PAIR[1])}",
        f"Bearer {token(claims(), alg='none')}",
        f"Bearer {token(claims(), alg='none').rpartition('.')[0]}.",
        f"Bearer {token(claims(), alg='hs256')}",
        f"Bearer {token(claims(), alg='HS512')}",
        f"Bearer {token(claims(), alg=['HS256'])}",
        f"Bearer {token(claims(), crit=['exp'])}",
        f"Bearer {token(claims(), b64=False)}",
        f"Bearer {token([1])}",
        f"Bearer {token('text')}",
        f"Bearer {token(claims()).rpartition('.')[0]}.AAAA",
        "Bearer " + ".".join([base64.urlsafe_b64encode(b"[" * 3000).decode().rstrip("=")] * 3),
        "Bearer a.b.c",
        "Bearer ..",
    ],
    ids=lambda _: "sent",
)
def test_credentials_that_are_not_an_accounts_own_open_nothing(sent: str) -> None:
    assert recognised(sent) is CredentialProblem.UNKNOWN


def test_two_authorizations_open_nothing_although_each_is_right() -> None:
    assert recognised(f"Bearer {API_KEY}", f"Bearer {API_KEY}") is CredentialProblem.UNKNOWN


@pytest.mark.parametrize("sent", [(), ("",), ("  ",)])
def test_no_authorization_is_told_from_a_wrong_one(sent: tuple[str, ...]) -> None:
    assert recognised(*sent) is CredentialProblem.MISSING


def test_no_secret_shows_in_what_is_printed_of_credentials() -> None:
    known = AccountCredentials(
        "first", key_pairs=dict([PAIR]), api_keys=(API_KEY,), gateway_keys={"shop": GATEWAY_KEY}
    )

    assert not any(secret in repr(known) for secret in (*PAIR, API_KEY, GATEWAY_KEY))
