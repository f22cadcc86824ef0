"""Signatures of callbacks: what is valid, what is refused, and that no header raises."""

import base64
import hmac

import pytest

from receiver.callbacks.signatures import Signatures, SignatureVerdict

SECRET = "whsec_dGVzdHNlY3JldHRlc3RzZWNyZXR0ZXN0c2VjcmV0MTI="
OTHER_SECRET = "whsec_b3RoZXJzZWNyZXRvdGhlcnNlY3JldG90aGVyc2VjcmU="
SIGNED_AT = 1781080794
SIGNED_BODY = (
    b'{"id":"1234567890","status":"succeeded","message":"",'
    b'"create_time":1781080778802,"update_time":1781080794151}'
)
SIGNATURE = b"v1,UsKlJP00XoQyOn410NM9xv34sP+Gl0jnOO9Lcpr7NJ4="


def headers(
    *, at: bytes = b"1781080794", signature: bytes = SIGNATURE, without: bytes = b""
) -> list[tuple[bytes, bytes]]:
    sent = [
        (b"content-type", b"application/json"),
        (b"webhook-id", b"9876543210"),
        (b"webhook-timestamp", at),
        (b"webhook-signature", signature),
    ]
    return [(name, value) for name, value in sent if name != without]


def signatures(
    *secrets: str, required: bool = False, now: float = SIGNED_AT, skew_ms: int | None = 0
) -> Signatures:
    """`skew_ms`: how far the sender's clock is ahead of ours, None where it has not been compared."""
    return Signatures(secrets or (SECRET,), required=required, clock=lambda: now, skew_ms=lambda: skew_ms)


def test_the_published_signature_is_valid() -> None:
    assert signatures().check(headers(), SIGNED_BODY) is SignatureVerdict.VALID


def test_header_names_are_taken_in_any_case() -> None:
    shouted = [(name.upper(), value) for name, value in headers()]

    assert signatures().check(shouted, SIGNED_BODY) is SignatureVerdict.VALID


@pytest.mark.parametrize("off", [-300, 300])
def test_a_signature_is_good_for_five_minutes_either_way(off: int) -> None:
    assert signatures(now=SIGNED_AT + off).check(headers(), SIGNED_BODY) is SignatureVerdict.VALID


@pytest.mark.parametrize("off", [-301, 301])
def test_an_older_or_newer_signature_is_stale(off: int) -> None:
    assert signatures(now=SIGNED_AT + off).check(headers(), SIGNED_BODY) is SignatureVerdict.STALE


SIX_MINUTES = 360


@pytest.mark.parametrize("ahead", [SIX_MINUTES, -SIX_MINUTES, 86_400])
def test_a_clock_of_ours_that_is_off_refuses_no_callback_of_now(ahead: int) -> None:
    """`ahead`: how far our clock is ahead of the sender's. The scheme's tolerance is kept by the sender's clock."""
    wrong = signatures(now=SIGNED_AT + ahead, skew_ms=-ahead * 1000)
    later = signatures(now=SIGNED_AT + ahead + 300, skew_ms=-ahead * 1000)

    assert wrong.check(headers(), SIGNED_BODY) is SignatureVerdict.VALID
    assert later.check(headers(), SIGNED_BODY) is SignatureVerdict.VALID


@pytest.mark.parametrize("skew_ms", [SIX_MINUTES * 1000, -SIX_MINUTES * 1000, None])
def test_an_old_signature_is_no_proof_of_a_replay_while_our_clock_is_off_or_not_compared(
    skew_ms: int | None,
) -> None:
    unsure = signatures(now=SIGNED_AT + 3600, skew_ms=skew_ms)

    assert unsure.check(headers(), SIGNED_BODY) is SignatureVerdict.TIME_UNSURE


@pytest.mark.parametrize("skew_ms", [0, 300_000, -300_000])
def test_an_old_signature_is_a_replay_where_the_clocks_agree(skew_ms: int) -> None:
    sure = signatures(now=SIGNED_AT + 3600, skew_ms=skew_ms)

    assert sure.check(headers(), SIGNED_BODY) is SignatureVerdict.STALE


@pytest.mark.parametrize("skew_ms", [SIX_MINUTES * 1000, None])
def test_a_wrong_signature_is_wrong_whatever_our_clock_says(skew_ms: int | None) -> None:
    unsure = signatures(now=SIGNED_AT + 3600, skew_ms=skew_ms)

    assert unsure.check(headers(signature=b"v1,AAAA"), SIGNED_BODY) is SignatureVerdict.WRONG


@pytest.mark.parametrize(
    "at", [b"soon", b"-1", b"1e9", b"nan", b"9" * 400, b"9" * 12, "１".encode(), b"1781080794.5"]
)
def test_a_malformed_time_is_stale(at: bytes) -> None:
    assert signatures().check(headers(at=at), SIGNED_BODY) is SignatureVerdict.STALE


def test_any_of_several_secrets_will_do() -> None:
    assert signatures(OTHER_SECRET, SECRET).check(headers(), SIGNED_BODY) is SignatureVerdict.VALID


@pytest.mark.parametrize(
    "before", [b"v1,AAAA", b"v2,x", b"garbage", b"v1", b"v1,a,b", b"v1,!", b"\xff\xfe", "v1,ä".encode()]
)
def test_a_good_entry_counts_whatever_stands_before_it(before: bytes) -> None:
    both = headers(signature=before + b" " + SIGNATURE)

    assert signatures().check(both, SIGNED_BODY) is SignatureVerdict.VALID


@pytest.mark.parametrize("place", [0, 1, 2])
def test_several_lines_of_signatures_count_together(place: int) -> None:
    lines = [b"v1,AAAA", b""]
    lines.insert(place, SIGNATURE)
    sent = [*headers(without=b"webhook-signature"), *[(b"Webhook-Signature", line) for line in lines]]

    assert signatures().check(sent, SIGNED_BODY) is SignatureVerdict.VALID


@pytest.mark.parametrize("body", [b"\xff\xfe", b'{"id":"1","status":"\xe4"}', b"\x80"])
def test_a_body_that_is_not_utf_8_can_be_rightly_signed(body: bytes) -> None:
    key = base64.b64decode(SECRET.removeprefix("whsec_"))
    mac = hmac.digest(key, b"9876543210.1781080794." + body, "sha256")
    sent = headers(signature=b"v1," + base64.b64encode(mac))

    assert signatures().check(sent, body) is SignatureVerdict.VALID
    assert signatures().check(sent, body + b"\n") is SignatureVerdict.WRONG


@pytest.mark.parametrize("signature", [b"v1,AAAA", b"v2" + SIGNATURE[2:], SIGNATURE[3:], b"\xff", b","])
def test_another_signature_is_wrong(signature: bytes) -> None:
    assert signatures().check(headers(signature=signature), SIGNED_BODY) is SignatureVerdict.WRONG


@pytest.mark.parametrize("body", [SIGNED_BODY + b" ", b"", b"\xff\xfe", b"\0"])
def test_a_signature_covers_every_byte_of_the_body(body: bytes) -> None:
    assert signatures().check(headers(), body) is SignatureVerdict.WRONG


def test_a_signature_by_another_secret_is_wrong() -> None:
    assert signatures(OTHER_SECRET).check(headers(), SIGNED_BODY) is SignatureVerdict.WRONG


@pytest.mark.parametrize("name", [b"webhook-id", b"webhook-timestamp", b"webhook-signature"])
def test_a_missing_or_empty_header_makes_the_signature_incomplete(name: bytes) -> None:
    emptied = [(header, b"" if header == name else value) for header, value in headers()]

    assert signatures().check(headers(without=name), SIGNED_BODY) is SignatureVerdict.INCOMPLETE
    assert signatures().check(emptied, SIGNED_BODY) is SignatureVerdict.INCOMPLETE


def test_no_headers_at_all_are_refused_only_where_a_signature_is_required() -> None:
    plain = [(b"content-type", b"application/json")]

    assert signatures().check(plain, SIGNED_BODY) is SignatureVerdict.ABSENT
    assert signatures(required=True).check(plain, SIGNED_BODY) is SignatureVerdict.MISSING


def test_without_a_secret_nothing_is_checked() -> None:
    unchecked = Signatures([], required=False).check(headers(signature=b"v1,AAAA"), SIGNED_BODY)

    assert unchecked is SignatureVerdict.UNCHECKED


def test_five_verdicts_refuse() -> None:
    refused = {verdict for verdict in SignatureVerdict if verdict.refused}

    assert refused == {
        SignatureVerdict.MISSING,
        SignatureVerdict.INCOMPLETE,
        SignatureVerdict.STALE,
        SignatureVerdict.TIME_UNSURE,
        SignatureVerdict.WRONG,
    }


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_!!!!", "whsec_ä", "whsec_a"])
def test_an_invalid_secret_is_refused_without_being_shown(secret: str) -> None:
    with pytest.raises(ValueError, match=r"^a signing secret must be whsec_ followed by base64$"):
        Signatures([secret], required=False)
