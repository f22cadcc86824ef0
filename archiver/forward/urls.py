"""The URLs that a forward has in place of the API's, which expire after 30 days."""

import dataclasses
import enum

from archiver.ledger import ForwardContent
from archiver.store import PRESIGNED_SECONDS_MAX, Store
from archiver.store.links import LinkSigner, links_of


class UrlKind(enum.StrEnum):
    """Values of `KLING_FORWARD_LINKS`."""

    LINKS = "links"
    S3 = "s3"
    PRESIGNED = "presigned"
    PREFIX = "prefix"


@dataclasses.dataclass(frozen=True)
class DurableUrls:
    """The URLs of one account's files."""

    kind: UrlKind
    bucket: str
    store: Store
    signer: LinkSigner | None = None
    """Makes the URLs of kind `LINKS`; if None, they are of kind `S3`."""
    prefix: str = ""
    """For kind `PREFIX`: each URL is this prefix and the key."""

    def of(self, content: ForwardContent) -> dict[str, str]:
        """The URLs by stem. A file that is not in the bucket has only a link."""
        if self.kind is UrlKind.LINKS and self.signer is not None:
            return links_of(
                self.signer,
                [leased.asset for leased in content.assets],
                account=content.account,
                family=content.family,
                created_at=content.created_at,
                task_id=content.task_id,
                names={
                    leased.asset.stem: leased.stored.name
                    for leased in content.assets
                    if leased.stored is not None
                },
            )
        return {
            leased.asset.stem: self._of_key(leased.stored.key)
            for leased in content.assets
            if leased.stored is not None
        }

    def _of_key(self, key: str) -> str:
        if self.kind is UrlKind.PRESIGNED:
            return self.store.presigned(key, seconds=PRESIGNED_SECONDS_MAX)
        return f"{self.prefix}{key}" if self.kind is UrlKind.PREFIX else f"s3://{self.bucket}/{key}"
