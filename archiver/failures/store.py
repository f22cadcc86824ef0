"""How the store fails."""

from typing import ClassVar

from archiver.failures.failure import Disposition, Failure, Outside


class StoreUnreachable(Failure):
    reason = "store_unreachable"
    is_of_process = True
    outside = Outside.STORE
    what_to_do = (
        "The store cannot be reached: check KLING_S3_ENDPOINT_URL (host and port), that the store runs, and this "
        "machine's network, DNS and firewall (if the message is about certificates: AWS_CA_BUNDLE). Work resumes when "
        "the store answers."
    )


class StoreError(Failure):
    """500, 503 SlowDown, and every unlisted response."""

    reason = "store_error"
    outside = Outside.STORE
    what_to_do = (
        "The store (KLING_S3_ENDPOINT_URL) answers with errors of its own: look at its log or status page; work "
        "resumes when it recovers."
    )


class StoreAnswerUnreadable(StoreError):
    reason = "store_answer_unreadable"
    what_to_do = (
        "KLING_S3_ENDPOINT_URL does not lead to an S3 store, but to a web page, another service or a proxy: set it to "
        "the store's S3 endpoint."
    )


class StoreRefused(Failure):
    """A 4xx or 501 about the request, not about rights or the bucket. Probably every put gets it."""

    reason = "store_refused"
    disposition = Disposition.HOLD
    what_to_do = (
        "The store, or a proxy before it, refuses the request (the message quotes it): check that "
        "KLING_S3_ENDPOINT_URL is an S3 endpoint, and what the bucket (KLING_S3_BUCKET) and the proxy allow."
    )


class StoreEncryptionRefused(StoreRefused):
    reason = "store_encryption_refused"
    what_to_do = (
        "The store cannot encrypt objects of the bucket (KLING_S3_BUCKET): look at the bucket's default encryption "
        "and its KMS key (it must exist, be enabled, and have no scheduled deletion), and grant these credentials "
        "kms:GenerateDataKey and kms:Decrypt on it."
    )


class StoreAddressingRefused(StoreRefused):
    """Aliyun OSS, Tencent COS, Huawei OBS, Volcengine TOS."""

    reason = "store_addressing_refused"
    what_to_do = (
        "The store wants the bucket's name in the host name: set KLING_S3_ADDRESSING_STYLE=virtual, with "
        "KLING_S3_ENDPOINT_URL without the bucket."
    )


class UploadTooLarge(Failure):
    """413, mostly from a proxy before the store. Smaller files may pass, so one such failure holds no other task."""

    reason = "upload_too_large"
    outside = Outside.STORE
    disposition = Disposition.BURY
    what_to_do = (
        "The store, or a proxy before it, accepts no upload of this size: raise the proxy's limit (nginx: "
        "client_max_body_size), or set KLING_S3_ENDPOINT_URL to the store itself, then retry."
    )


class ObjectInColdStorage(Failure):
    """The owner must restore the object; other tasks do not wait for that."""

    reason = "object_in_cold_storage"
    disposition = Disposition.BURY
    what_to_do = (
        "The daemon must read an object of this task, and the object is in cold storage (S3 answers "
        "InvalidObjectState): restore it, then retry."
    )


class PutTimeout(Failure):
    """One put lasted half an hour. A large file on a slow line; the store may serve smaller ones well."""

    reason = "put_timeout"


class StoreMismatch(Failure):
    """The store answered 200, but has other bytes, another size or nothing."""

    reason = "store_mismatch"
    outside: ClassVar[Outside | None] = Outside.STORE
    what_to_do = (
        "The store (KLING_S3_ENDPOINT_URL) acknowledges an object, and then has other bytes or none: check that no "
        "cache or proxy changes bodies, and that nothing deletes or rewrites objects."
    )


class ObjectUnexpected(StoreMismatch):
    """The object is not what a manifest or an earlier attempt says. The store is not at fault now."""

    reason = "object_unexpected"
    outside: ClassVar[Outside | None] = None
    what_to_do = (
        "An object in the bucket differs from what the ledger or the manifest says (the message names it). The daemon "
        "overwrites nothing: find out what removes or rewrites objects, and put the object back as it was."
    )


class ObjectNotRestorable(ObjectUnexpected):
    """A missing object cannot be put back as it was: Kling or the bucket has other bytes now."""

    reason = "object_changed"


class BucketMissing(Failure):
    reason = "bucket_missing"
    disposition = Disposition.HOLD
    what_to_do = "Create the bucket, or correct KLING_S3_BUCKET, KLING_S3_ENDPOINT_URL and KLING_S3_REGION."


class StoreRegionWrong(BucketMissing):
    reason = "store_region_wrong"
    what_to_do = (
        "The bucket (KLING_S3_BUCKET) is in another region: set KLING_S3_REGION to it (the message may name it). If "
        "KLING_S3_ENDPOINT_URL is set, set it to that region's endpoint."
    )


class BucketForbidden(Failure):
    reason = "bucket_forbidden"
    is_of_process = True
    disposition = Disposition.HOLD
    what_to_do = (
        "The store refuses these credentials for the bucket (KLING_S3_BUCKET): check the AWS credentials and their "
        "policy (deploy/iam-policy.json lists the rights needed)."
    )


class StoreCredentialsMissing(BucketForbidden):
    """boto3 found no credentials, or could not get them. No request was sent."""

    reason = "store_credentials_missing"
    what_to_do = (
        "No usable AWS credentials were found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile "
        "(AWS_PROFILE, with AWS_SHARED_CREDENTIALS_FILE readable for this user), or give the machine a role."
    )


class StoreCredentialsExpired(BucketForbidden):
    reason = "store_credentials_expired"
    what_to_do = (
        "The AWS credentials have expired: renew them (AWS_SESSION_TOKEN with its key, or `aws sso login`), or use "
        "ones that renew themselves (a role). The daemon reads the environment only at start: restart."
    )


class StoreClockSkewed(BucketForbidden):
    reason = "store_clock_skewed"
    what_to_do = "Set this machine's clock by NTP: the store refuses requests signed at this time."


class StoreFull(Failure):
    reason = "store_full"
    disposition = Disposition.HOLD
    what_to_do = "The store is out of space or quota for the bucket (KLING_S3_BUCKET): free some or raise it."


class ForeignObject(Failure):
    """Our key has other bytes without our task id: nothing is overwritten."""

    reason = "foreign_object"
    disposition = Disposition.BURY
    what_to_do = (
        "Another program wrote an object below KLING_S3_PREFIX: remove it or change the prefix, then retry."
    )


class ForeignAccount(ForeignObject):
    """A manifest in our folder names an account that the settings do not."""

    reason = "foreign_account"
    what_to_do = (
        "A manifest names another account (the message says which). If that is a former name of this account, set "
        "KLING_ACCOUNT_FORMER_NAMES (`former_names` under [[accounts]]) and restart; else give this account another "
        "KLING_S3_PREFIX. Then retry."
    )
