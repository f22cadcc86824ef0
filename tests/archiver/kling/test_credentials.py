"""Tokens and API Keys, as the client sends them."""

from typing import Any

import jwt
import pytest
from jwt.types import Options

from archiver import failures
from archiver.kling.credentials import ApiKey, KeyPair, mint_token
from tests.harness.scripted_api import KEYS, NOW, TASK_ID, Api, Asked, Clients, Reply, envelope, query, row

ANY_TIME: Options = {"verify_exp": False, "verify_nbf": False}


def token_of(asked: Asked) -> dict[str, Any]:
    scheme, _, token = asked.headers["authorization"].partition(" ")
    assert scheme == "Bearer"
    return dict(jwt.decode(token, KEYS.secret_key, algorithms=["HS256"], options=ANY_TIME))


def test_a_token_is_what_the_api_documents() -> None:
    token = mint_token("ak", "s" * 32, now=NOW)

    assert jwt.get_unverified_header(token) == {"alg": "HS256", "typ": "JWT"}
    assert jwt.decode(token, "s" * 32, algorithms=["HS256"], options=ANY_TIME) == {
        "iss": "ak",
        "exp": NOW + 1800,
        "nbf": NOW - 5,
    }


def test_a_short_secret_is_signed_with_like_any_other() -> None:
    assert mint_token("ak", "short", now=NOW).count(".") == 2


def test_credentials_never_show_themselves() -> None:
    assert "key" not in repr(KeyPair("access-key-1", "secret-key-1")).lower().replace("keypair", "")
    assert "hidden" not in repr(ApiKey("hidden"))


@pytest.mark.parametrize("secret", ["", "two words", "line\n", "ümlaut", "\ud800"])
def test_a_secret_that_fits_into_no_header_is_refused_without_being_shown(secret: str) -> None:
    for make in (lambda: ApiKey(secret), lambda: KeyPair("a", secret), lambda: KeyPair(secret, "b")):
        with pytest.raises(ValueError, match="KLING_") as refusal:
            make()
        assert not secret or secret not in str(refusal.value)


def test_one_token_serves_until_shortly_before_it_ends(api: Api, clients: Clients) -> None:
    api.says(envelope(row()))
    client = clients()
    for clients.now in (NOW, NOW + 1499, NOW + 1501):
        query(client)

    issued = [token_of(asked)["exp"] - 1800 for asked in api.asked]
    assert issued == [NOW, NOW, NOW + 1501]


def test_a_clock_set_far_back_makes_a_fresh_token(api: Api, clients: Clients) -> None:
    api.says(envelope(row()))
    client = clients()
    for clients.now in (NOW, NOW - 86_400):
        query(client)

    assert token_of(api.asked[1])["nbf"] == NOW - 86_400 - 5


def test_an_api_key_is_sent_as_it_is(api: Api, clients: Clients) -> None:
    api.says(envelope(row()))
    query(clients(ApiKey("sk-live-1")))

    assert api.asked[0].headers["authorization"] == "Bearer sk-live-1"


@pytest.mark.parametrize("code", [1003, 1004])
def test_a_token_refused_as_such_is_signed_once_more(api: Api, clients: Clients, code: int) -> None:
    api.says(Reply(envelope(None, code=code), status=401), envelope(row()))

    assert query(clients()).task_id == TASK_ID
    assert clients.observed == [("query", str(code)), ("query", "0")]


def test_a_fresh_token_that_is_refused_too_means_that_the_clocks_differ(api: Api, clients: Clients) -> None:
    api.says(Reply(envelope(None, code=1004), status=401))

    with pytest.raises(failures.ApiTokenRefused):
        query(clients())
    assert len(api.asked) == 2


def test_an_api_key_cannot_be_signed_again(api: Api, clients: Clients) -> None:
    api.says(Reply(envelope(None, code=1004), status=401))

    with pytest.raises(failures.ApiTokenRefused):
        query(clients(ApiKey("sk-live-1")))
    assert len(api.asked) == 1
