"""What the probe says of real stores, and of stores that lack an ability."""

from collections.abc import Mapping

import pytest

from archiver.audit.doctor import Verdict
from archiver.audit.doctor.bucket import abilities, judge
from archiver.failures import Failure
from archiver.store import ConditionalPut, S3Store, digests_of, probing
from tests.s3_servers import FaultyProxy, S3Server, Weakness, faulty

KINDS = ["bucket_put", "create_only", "etag", "listing", "metadata", "content_md5", "presigned"]


def look(store: S3Store, *, noted: list[ConditionalPut] | None = None) -> Mapping[str, Verdict]:
    found = abilities(
        store, "kling/", bucket="b", has_links=True, note=([] if noted is None else noted).append
    )
    return {finding.check or "bucket_put": finding.verdict for finding in found}


def test_a_store_shows_what_it_can_do_as_often_as_it_is_asked(store: S3Store, s3_server: S3Server) -> None:
    noted: list[ConditionalPut] = []
    first, second = look(store, noted=noted), look(store)

    ignored = Weakness.CONDITION_IGNORED in s3_server.weaknesses
    assert first == second
    assert list(first) == KINDS
    assert first["create_only"] is (Verdict.WARNING if ignored else Verdict.OK)
    assert noted == [ConditionalPut.IGNORED if ignored else ConditionalPut.RESPECTED]
    assert {first[kind] for kind in KINDS if kind not in {"create_only", "content_md5"}} == {Verdict.OK}
    assert dict(store.walk("")) == {"kling/kling-archiver/doctor.txt": digests_of(probing.CONTENT).bytes}


def fault_on(method: str, fault: faulty.Fault) -> faulty.Rule:
    return lambda request: fault if request.method == method else None


def listing_nothing(exchange: faulty.Exchange) -> None:
    if "list-type=2" in exchange.request.path:
        exchange.send(200, {}, b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>")
    else:
        faulty.pass_on(exchange)


def forgetting(exchange: faulty.Exchange) -> None:
    status, headers, body = exchange.forward()
    kept = {name: value for name, value in headers.items() if not name.lower().startswith("x-amz-meta-")}
    exchange.send(status, kept, body)


@pytest.mark.parametrize(
    ("rule", "lacking"),
    [
        (
            lambda request: (
                faulty.answering(501, "NotImplemented") if "if-none-match" in request.headers else None
            ),
            "create_only",
        ),
        (fault_on("HEAD", faulty.with_headers(ETag='"00000000000000000000000000000000"')), "etag"),
        (fault_on("GET", listing_nothing), "listing"),
        (fault_on("HEAD", forgetting), "metadata"),
    ],
    ids=["501", "other ETags", "a late listing", "metadata lost"],
)
def test_what_a_store_lacks_is_a_warning(
    swift_proxy: FaultyProxy, faulty_store: S3Store, rule: faulty.Rule, lacking: str
) -> None:
    swift_proxy.rule = rule

    found = look(faulty_store)

    assert [kind for kind, verdict in found.items() if verdict is not Verdict.OK] == [lacking]
    assert found[lacking] is Verdict.WARNING


def test_a_store_that_takes_any_content_md5_is_a_warning() -> None:
    found = probing.Abilities("k", ConditionalPut.RESPECTED, True, True, True, True, checks_md5=False)

    assert [(row.check, row.verdict) for row in judge(found) if row.verdict is not Verdict.OK] == [
        ("content_md5", Verdict.WARNING)
    ]
    assert all(row.what_to_do for row in judge(found) if row.verdict is not Verdict.OK)


def test_presigned_urls_that_do_not_work_are_a_failure(
    swift_proxy: FaultyProxy, faulty_store: S3Store
) -> None:
    refused = faulty.answering(403, "AccessDenied")
    swift_proxy.rule = lambda request: refused if "X-Amz-Signature" in request.path else None

    found = look(faulty_store)

    assert found["presigned"] is Verdict.FAILED


def test_a_bucket_that_takes_no_puts_raises_the_stores_own_failure(
    swift_proxy: FaultyProxy, faulty_store: S3Store
) -> None:
    swift_proxy.on("PUT", faulty.answering(403, "AccessDenied"))

    with pytest.raises(Failure, match="AccessDenied"):
        look(faulty_store)
