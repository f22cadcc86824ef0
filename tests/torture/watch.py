"""Reads every manifest as it appears in the bucket, and checks at once that its objects are there."""

import threading
from types import TracebackType
from typing import Self

from archiver.archive import manifest
from archiver.archive.manifest import Manifest
from archiver.failures import Failure, StoreMismatch
from archiver.store import Store

LOOK_SECONDS = 0.5
"""Each look lists the whole bucket."""


class ManifestWatch:
    """Looks from its own thread while the context is open, and once more at its end. A store that does not answer may
    have been killed, and is asked again."""

    def __init__(self, store: Store) -> None:
        self.seen: set[str] = set()
        """Keys of the manifests read."""
        self.unfounded: list[str] = []
        """A sentence for each object that is missing or differs from its manifest."""
        self._store = store
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run, name="manifest-watch")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ends.set()
        self._thread.join()
        if kind is None:
            self._look()

    def _run(self) -> None:
        while not self._ends.wait(LOOK_SECONDS):
            self._look()

    def _look(self) -> None:
        try:
            for key, _ in self._store.walk(""):
                if key.endswith(manifest.FILE_NAME) and key not in self.seen:
                    self._judge(key)
        except Failure:
            return  # the next look sees the rest

    def _judge(self, key: str) -> None:
        found = Manifest.from_bytes(self._store.read(key, bytes_max=manifest.BYTES_MAX))
        for asset in found.assets:
            try:
                stored = self._store.digest(asset.key)
            except StoreMismatch:
                stored = None
            if stored != (asset.sha256, asset.bytes):
                self.unfounded.append(f"{key} names {asset.key}, which is {stored}")
        self.seen.add(key)
