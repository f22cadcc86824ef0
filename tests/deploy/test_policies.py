"""The policies allow what the store's code calls, as botocore is seen to call it, and nothing else."""

import dataclasses
import fnmatch
import json
import re
from typing import Any

import boto3
import pytest

from archiver.store import S3Store, probing
from tests.archiver.store import conformance
from tests.harness.deployment import DEPLOY
from tests.harness.repository import ROOT
from tests.s3_servers import S3Server

BUCKET = "arn:aws:s3:::YOUR-BUCKET"
ARCHIVER = "arn:aws:iam::111122223333:role/kling-archiver"
KEY_OF_OBJECT = conformance.KEY
ADMINISTRATOR = "arn:aws:iam::111122223333:role/YOUR-ADMINISTRATORS"
ANOTHER = "arn:aws:iam::111122223333:role/somebody"
KEY = "arn:aws:kms:eu-central-1:111122223333:key/YOUR-KEY"
PERMISSION_OF = {
    "PutObject": "s3:PutObject",
    "GetObject": "s3:GetObject",
    "HeadObject": "s3:GetObject",
    "ListObjectsV2": "s3:ListBucket",
}
"""AWS: "Required permissions for Amazon S3 API operations"."""


def policy(name: str) -> list[dict[str, Any]]:
    found = json.loads((DEPLOY / name).read_text())
    assert found["Version"] == "2012-10-17"
    return list(found["Statement"])


def listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else [value]


@dataclasses.dataclass(frozen=True)
class Request:
    action: str
    resource: str
    context: dict[str, str] = dataclasses.field(default_factory=dict)


def _holds(operator: str, expected: object, found: str | None) -> bool:
    """The operators of the shipped policies, as AWS evaluates them."""
    if operator.endswith("IfExists"):
        return found is None or _holds(operator.removesuffix("IfExists"), expected, found)
    if operator == "ArnNotEquals":  # of a list: none of them
        return found not in listed(expected)
    if operator == "StringLike":
        return found is not None and any(fnmatch.fnmatchcase(found, pattern) for pattern in listed(expected))
    assert operator == "Bool", operator
    return found == expected


def _applies(statement: dict[str, Any], request: Request) -> bool:
    conditions = [
        (operator, expected, request.context.get(key))
        for operator, keys in statement.get("Condition", {}).items()
        for key, expected in keys.items()
    ]
    return (
        any(fnmatch.fnmatchcase(request.action, pattern) for pattern in listed(statement["Action"]))
        and any(fnmatch.fnmatchcase(request.resource, pattern) for pattern in listed(statement["Resource"]))
        and all(_holds(*condition) for condition in conditions)
    )


def effects(name: str, request: Request) -> set[str]:
    return {statement["Effect"] for statement in policy(name) if _applies(statement, request)}


def is_allowed(name: str, action: str, resource: str, **context: str) -> bool:
    named = {key.replace("_", ":"): value for key, value in context.items()}
    return effects(name, Request(action, resource, named)) == {"Allow"}


def is_denied(action: str, resource: str, *, by: str, tls: str = "true") -> bool:
    context = {"aws:PrincipalArn": by, "aws:SecureTransport": tls}
    return "Deny" in effects("bucket-policy.json", Request(action, resource, context))


# --- what the code calls ------------------------------------------------------------------------------------


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The names of the operations that any client of boto3 performs or signs."""
    seen: set[str] = set()
    make = boto3.session.Session.client

    def client(session: boto3.Session, *arguments: Any, **named: Any) -> Any:
        made = make(session, *arguments, **named)
        made.meta.events.register(
            "provide-client-params.s3.*", lambda model, **_: seen.add(model.name), unique_id="policies"
        )
        return made

    monkeypatch.setattr(boto3.session.Session, "client", client)
    return seen


def test_the_policy_allows_exactly_what_the_store_is_seen_to_call(
    called: set[str], rclone_server: S3Server
) -> None:
    store = S3Store.from_settings(
        bucket=rclone_server.create_bucket(),
        endpoint_url=rclone_server.endpoint_url,
        region=rclone_server.region,
        session=boto3.Session(rclone_server.access_key, rclone_server.secret_key),
    )
    called.clear()  # the server's own client has made the bucket
    conformance.put(store)
    probing.probe(store, "")
    store.check()
    store.head(KEY_OF_OBJECT)
    list(store.walk(""))
    store.list_after("", after="", keys_max=1)
    store.read(KEY_OF_OBJECT, bytes_max=10_000)
    store.digest(KEY_OF_OBJECT)
    for method in ("GET", "HEAD"):
        store.presign(KEY_OF_OBJECT, seconds=60, method=method)
    actions = {action for statement in policy("iam-policy.json") for action in listed(statement["Action"])}
    assert {PERMISSION_OF[name] for name in called} == actions


def test_the_store_has_no_call_that_the_policies_have_not_been_compared_with() -> None:
    text = "".join(path.read_text() for path in (ROOT / "archiver/store").glob("*.py"))
    found = re.findall(r'client\.((?:[a-z]+_)+objects?(?:_v2)?)\(|get_paginator\("(\w+)"\)', text)
    operations = {"".join(word.capitalize() for word in (one or other).split("_")) for one, other in found}

    assert operations <= set(PERMISSION_OF)
    assert len(operations) > 2


# --- what the policies let the archiver do ------------------------------------------------------------------


@pytest.mark.parametrize("name", ["iam-policy.json", "iam-policy-kms.json"])
def test_the_archiver_may_list_create_and_read_and_nothing_else(name: str) -> None:
    assert is_allowed(name, "s3:ListBucket", BUCKET, s3_prefix="images/")
    assert is_allowed(name, "s3:PutObject", f"{BUCKET}/images/generations/x/0.png")
    assert is_allowed(name, "s3:GetObject", f"{BUCKET}/images/generations/x/0.png")
    for action in ("s3:DeleteObject", "s3:DeleteObjectVersion", "s3:PutObjectAcl", "s3:PutBucketPolicy"):
        assert not is_allowed(name, action, f"{BUCKET}/images/generations/x/0.png")
    assert not is_allowed(name, "s3:PutObject", "arn:aws:s3:::ANOTHER/x")


def test_with_a_prefix_nothing_beside_it_is_seen_read_or_written() -> None:
    name = "iam-policy-prefix.json"
    assert is_allowed(name, "s3:ListBucket", BUCKET, s3_prefix="kling/images/generations/2026/")
    assert not is_allowed(name, "s3:ListBucket", BUCKET, s3_prefix="payroll/")
    for action in ("s3:GetObject", "s3:PutObject"):
        assert is_allowed(name, action, f"{BUCKET}/kling/images/x/0.png")
        assert not is_allowed(name, action, f"{BUCKET}/payroll/x")


def test_with_a_prefix_an_object_that_is_not_there_is_404_and_no_refusal() -> None:
    """S3 answers 403 to HEAD unless ListBucket is allowed, and its request has no `s3:prefix` then."""
    assert is_allowed("iam-policy-prefix.json", "s3:ListBucket", BUCKET)


def test_with_kms_the_key_may_be_used_by_the_bucket_only() -> None:
    name = "iam-policy-kms.json"
    for action in ("kms:GenerateDataKey", "kms:Decrypt"):
        assert is_allowed(name, action, KEY, kms_ViaService="s3.eu-central-1.amazonaws.com")
        assert not is_allowed(name, action, KEY, kms_ViaService="ec2.eu-central-1.amazonaws.com")
        assert not is_allowed(name, action, KEY)
    assert not is_allowed(
        name, "kms:ScheduleKeyDeletion", KEY, kms_ViaService="s3.eu-central-1.amazonaws.com"
    )


def test_a_gateway_may_read_and_not_write() -> None:
    name = "iam-policy-read.json"
    assert is_allowed(name, "s3:GetObject", f"{BUCKET}/images/x/0.png")
    assert is_allowed(name, "s3:ListBucket", BUCKET)
    assert not is_allowed(name, "s3:PutObject", f"{BUCKET}/images/x/0.png")


# --- what the bucket's policy denies ------------------------------------------------------------------------


def test_the_bucket_lets_no_other_principal_write_or_delete() -> None:
    key = f"{BUCKET}/images/x/0.png"
    for action in ("s3:PutObject", "s3:PutObjectAcl", "s3:DeleteObject", "s3:DeleteObjectVersion"):
        assert is_denied(action, key, by=ANOTHER)
    assert is_denied("s3:DeleteObject", key, by=ARCHIVER)
    assert is_denied("s3:PutLifecycleConfiguration", BUCKET, by=ARCHIVER)
    assert not is_denied("s3:PutObject", key, by=ADMINISTRATOR)
    assert not is_denied("s3:DeleteObject", key, by=ADMINISTRATOR)


@pytest.mark.parametrize("name", ["iam-policy.json", "iam-policy-kms.json", "iam-policy-prefix.json"])
def test_the_bucket_denies_the_archiver_nothing_that_its_policy_allows(name: str) -> None:
    for statement in policy(name):
        for action in listed(statement["Action"]):
            for resource in listed(statement["Resource"]):
                assert not is_denied(action, resource.replace("*", "kling/x"), by=ARCHIVER)


def test_the_bucket_is_reached_by_tls_only_and_readers_keep_their_rights() -> None:
    assert is_denied("s3:GetObject", f"{BUCKET}/x", by=ARCHIVER, tls="false")
    assert not is_denied("s3:GetObject", f"{BUCKET}/x", by=ANOTHER)


def test_no_rule_of_the_lifecycle_touches_a_current_object() -> None:
    rules = json.loads((DEPLOY / "lifecycle.json").read_text())["Rules"]
    what = [rule.keys() - {"ID", "Status", "Filter"} for rule in rules]

    assert what == [{"AbortIncompleteMultipartUpload"}, {"NoncurrentVersionExpiration"}]
    assert all(rule["Status"] == "Enabled" for rule in rules)
