"""Usage of `sums`."""

import typer

from archiver.commands.usage.bucket.verify import FamilyName, SinceDay, UntilDay
from archiver.commands.usage.options import AccountName, AsJson


def sums(
    context: typer.Context,
    *,
    family: FamilyName = None,
    since: SinceDay = None,
    until: UntilDay = None,
    account: AccountName = None,
    json: AsJson = False,
) -> None:
    """Print the SHA-256 of every file in the bucket, as its manifest has it.

    Paths are whole keys, so the list fits the bucket and any copy of it. The command reads manifests only; to hash the
    objects, use one of the examples, or verify. Exit status 1 if a manifest cannot be used, or
    if there is none and the options or KLING_S3_PREFIX may be why.

    \b
    Example: check a copy of the bucket, and the bucket through rclone
      kling-archiver sums > SUMS
      sha256sum --quiet -c SUMS
      rclone checksum sha256 SUMS remote:bucket --one-way --download
    """
