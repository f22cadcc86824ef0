"""How the store fails."""

from archiver.failures.failure import Disposition, Failure, Outside


class StoreUnreachable(Failure):
    reason = "store_unreachable"
    outside = Outside.STORE
    what_to_do = (
        "The store cannot be reached: check KLING_S3_ENDPOINT_URL (host and port), that the store runs, and this "
        "machine's network, DNS and firewall; work resumes when it answers."
    )


class StoreError(Failure):
    """500, 503 SlowDown, and every unlisted response."""

    reason = "store_error"
    outside = Outside.STORE
    what_to_do = (
        "The store (KLING_S3_ENDPOINT_URL) answers with errors of its own: look at its log or status page; work "
        "resumes when it recovers."
    )


class UploadTooLarge(Failure):
    """413, mostly of a proxy before the store. It concerns large files only, so it holds no other task."""

    reason = "upload_too_large"
    disposition = Disposition.BURY
    what_to_do = (
        "The store, or a proxy before it, accepts no upload of this size: raise the proxy's limit (nginx: "
        "client_max_body_size), or set KLING_S3_ENDPOINT_URL to the store itself, then retry."
    )


class ObjectInColdStorage(Failure):
    """Only restoring it helps, and other tasks need not wait for that."""

    reason = "object_in_cold_storage"
    disposition = Disposition.BURY
    what_to_do = (
        "An object of this task must be read, and lies in cold storage (S3 answers InvalidObjectState): restore it, "
        "then retry."
    )


class PutTimeout(Failure):
    """One put lasted half an hour. A large file on a slow line; the store may serve smaller ones well."""

    reason = "put_timeout"


class StoreMismatch(Failure):
    """The store answered 200, but has other bytes, another size or nothing."""

    reason = "store_mismatch"


class BucketMissing(Failure):
    reason = "bucket_missing"
    disposition = Disposition.HOLD
    what_to_do = "Create the bucket, or correct KLING_S3_BUCKET, KLING_S3_ENDPOINT_URL and KLING_S3_REGION."


class BucketForbidden(Failure):
    reason = "bucket_forbidden"
    disposition = Disposition.HOLD
    what_to_do = (
        "The store refuses these credentials for the bucket (KLING_S3_BUCKET): check the AWS credentials and their "
        "policy (deploy/iam-policy.json lists the rights needed)."
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
        "Another program wrote below KLING_S3_PREFIX: remove that object or change the prefix, then retry."
    )
