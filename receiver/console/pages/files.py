"""The files of a task on a page: which of them a browser can show, their URLs, and the origins of these URLs."""

import contextlib
import dataclasses
import enum
from collections.abc import Iterable, Sequence

from archiver.failures import Failure
from archiver.ledger import AssetView
from archiver.store.links import ShownTask
from receiver.console.parts import ConsoleParts

_PROBE_KEY = "x"
"""The key of an object that need not exist: only the origin of its URL matters."""


class Medium(enum.StrEnum):
    """How a browser shows a file."""

    PICTURE = "picture"
    FILM = "film"
    SOUND = "sound"
    OTHER = "other"
    """No browser shows it: it can be downloaded."""


_MEDIA = {
    Medium.PICTURE: ("png", "jpg", "jpeg", "webp", "gif", "avif"),
    Medium.FILM: ("mp4", "webm", "mov"),
    Medium.SOUND: ("mp3", "wav", "m4a", "ogg", "flac", "aac"),
}
_MEDIUM_OF = {extension: medium for medium, extensions in _MEDIA.items() for extension in extensions}


@dataclasses.dataclass(frozen=True, slots=True)
class ShownFile:
    """A file in the bucket. `url` is None if there is no URL for it."""

    name: str
    key: str
    bytes: int | None
    medium: Medium
    url: str | None


class ShownFiles:
    """Finds the files of a task and their URLs."""

    def __init__(self, parts: ConsoleParts) -> None:
        self._links = parts.links
        self._places = parts.file_places

    def of(
        self, task: ShownTask, assets: Iterable[AssetView], *, count_max: int | None = None
    ) -> list[ShownFile]:
        """The stored files among the first `count_max` assets of a task."""
        stored = [asset for asset in assets if asset.is_stored][:count_max]
        links = self._links(task) if stored else {}
        return [
            ShownFile(
                name=str(asset.name),
                key=str(asset.key),
                bytes=asset.bytes,
                medium=_MEDIUM_OF.get(str(asset.name).rpartition(".")[2], Medium.OTHER),
                url=links.get(asset.asset.stem) or self._presigned(str(asset.key)),
            )
            for asset in stored
        ]

    def media(self, files: Sequence[ShownFile]) -> list[str]:
        """What a page with these files may load: their URLs, and where those lead."""
        urls = [file.url for file in files if file.url is not None]
        if not urls:
            return []
        further = self._places.links_lead_to or self._presigned(_PROBE_KEY)
        return urls if further is None else [*urls, further]

    def _presigned(self, key: str) -> str | None:
        if self._places.presign is None:
            return None
        with contextlib.suppress(Failure):  # no credentials now: the page shows the key
            return self._places.presign(key)
        return None
