"""The bucket: whether it lets us list and put, and what kind of store it is."""

import ssl
from collections.abc import Callable, Iterator

from archiver.audit.doctor.asking import Unreached, ask
from archiver.audit.doctor.finding import Finding, failed, named, ok, warning
from archiver.engine.looks.look import StoreLook
from archiver.fetch.proxy import Proxy
from archiver.store import ConditionalPut, S3Store
from archiver.store.probing import CONTENT, Abilities, probe

_PRESIGNED_SECONDS = 60
_ONE_WORKER = "It works with one worker. With several, take a store that respects If-None-Match: *."


def listed(store: S3Store, prefix: str, *, what: str) -> Iterator[Finding]:
    """One LIST."""
    StoreLook(store, prefix).look()
    yield ok(what)


def everything(
    store: S3Store,
    prefix: str,
    *,
    what: str,
    bucket: str,
    has_links: bool,
    note: Callable[[ConditionalPut], None],
    proxy: Proxy | None = None,
) -> Iterator[Finding]:
    """List and put. After a failed LIST no put is tried: it would fail for the same reason."""
    yield from listed(store, prefix, what=what)
    yield from named(
        "bucket_put", abilities(store, prefix, bucket=bucket, has_links=has_links, note=note, proxy=proxy)
    )


def abilities(
    store: S3Store,
    prefix: str,
    *,
    bucket: str,
    has_links: bool,
    note: Callable[[ConditionalPut], None],
    proxy: Proxy | None = None,
) -> Iterator[Finding]:
    """Put one object and look at it. `note` gets the result of a second create-only put."""
    found = probe(store, prefix)
    yield ok(f"objects can be put and read (s3://{bucket}/{found.key}, which stays)")
    note(found.second_put)
    yield from judge(found)
    if has_links:
        yield from _presigned(store, found.key, proxy)


def judge(found: Abilities) -> Iterator[Finding]:
    """A row for each ability."""
    yield _SECOND_PUT[found.second_put]
    yield _judged(
        found.etag_is_md5,
        "etag",
        "the ETag is the MD5 of the bytes",
        "the ETag is not the MD5 of the bytes (as with KMS)",
        "Nothing to do: each object is read back after its put, which costs time.",
    )
    yield _judged(
        found.is_listed,
        "listing",
        "a LIST shows at once what was put",
        "a LIST does not show what was just put",
        "Nothing to do: the daemon sends a HEAD for each object that a LIST does not show.",
    )
    yield _judged(
        found.keeps_metadata and found.keeps_content_type,
        "metadata",
        "metadata and Content-Type are kept",
        "metadata or Content-Type are lost, so an earlier attempt cannot be told from a foreign object",
        "Use a store that keeps metadata; some gateways keep them in memory or only with an option.",
    )
    yield _judged(
        found.checks_md5,
        "content_md5",
        "a put whose Content-MD5 is wrong is refused",
        "a put whose Content-MD5 is wrong is taken, so damage on the way shows only in the ETag or by reading",
        "Run `kling-archiver verify` now and then.",
    )


_SECOND_PUT = {
    ConditionalPut.RESPECTED: ok(
        "an object cannot be overwritten by a create-only put (412)", check="create_only"
    ),
    ConditionalPut.REFUSED: warning(
        "create-only puts are refused (501), so keys are looked at before each put",
        _ONE_WORKER,
        check="create_only",
    ),
    ConditionalPut.IGNORED: warning(
        "a create-only put overwrites an object that is there", _ONE_WORKER, check="create_only"
    ),
}


def _judged(is_good: bool, check: str, good: str, bad: str, what_to_do: str) -> Finding:
    return ok(good, check=check) if is_good else warning(bad, what_to_do, check=check)


def _presigned(store: S3Store, key: str, proxy: Proxy | None) -> Iterator[Finding]:
    """Links lead to presigned URLs, and each is good for one method."""
    trust = None if store.ca_bundle is None else ssl.create_default_context(cafile=store.ca_bundle)
    for method in ("GET", "HEAD"):
        url = store.presign(key, seconds=_PRESIGNED_SECONDS, method=method).url
        try:
            answer = ask(url, method=method, trust=trust, proxy=proxy)
        except Unreached as error:
            said = str(error)
        else:
            if answer.status == 200 and answer.body == (CONTENT if method == "GET" else b""):
                continue
            said = f"HTTP {answer.status}"
        yield failed(
            f"a presigned URL for {method} does not work: {said}",
            "Links need it. Check the endpoint, the addressing style and the credentials' right to GetObject.",
            check="presigned",
        )
        return
    yield ok("presigned URLs work for GET and HEAD", check="presigned")
