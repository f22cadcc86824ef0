"""One file of a task, as people and scripts see it."""

import dataclasses
from typing import Self

from archiver.model import Asset, LeasedAsset


@dataclasses.dataclass(frozen=True, slots=True)
class AssetView:
    """One file of a task; `name` to `sha256` are None until it is stored."""

    asset: Asset
    name: str | None
    key: str | None
    bytes: int | None
    sha256: str | None
    reason: str | None
    """Why it is not stored, after a try."""

    @classmethod
    def of(cls, known: LeasedAsset) -> Self:
        """Make it from the asset that the ledger has."""
        stored = known.stored
        if stored is None:
            return cls(known.asset, None, None, None, None, known.reason)
        return cls(known.asset, stored.name, stored.key, stored.bytes, stored.sha256, known.reason)

    @property
    def is_stored(self) -> bool:
        """Whether it is in the bucket."""
        return self.name is not None

    @property
    def url(self) -> str | None:
        """The API's own, while nothing else leads to the file. Secret to logs: it is signed."""
        return None if self.is_stored else self.asset.url or None

    def as_json(self, link: str | None) -> dict[str, object]:
        """As `show --json` prints it."""
        return {
            "name": self.name,
            "stem": self.asset.stem,
            "key": self.key,
            "stored": self.is_stored,
            "bytes": self.bytes,
            "sha256": self.sha256,
            "link": link,
            "reason": self.reason,
            "url": self.url,
        }
