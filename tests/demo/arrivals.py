"""What the demo sees from outside while the daemon works: new manifests in the bucket, and new lines in its log.

A look is cheap, because there are ten a second: one `stat` for every missing task, and the log's new bytes. A manifest
that does not parse yet is still being written by the S3 server; the next look reads it again.
"""

import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.demo.plans import CreatedTask


@dataclasses.dataclass(frozen=True, slots=True)
class Arrival:
    """A task whose manifest is in the bucket."""

    task: CreatedTask
    manifest: Mapping[str, Any]

    @property
    def found_by(self) -> str:
        return str(self.manifest.get("discovered_by"))

    @property
    def files(self) -> int:
        return len(self.manifest.get("assets", ()))

    @property
    def bytes(self) -> int:
        return sum(asset["bytes"] for asset in self.manifest.get("assets", ()))


class Arrivals:
    """Watches the S3 server's folder for manifests."""

    def __init__(self, bucket_folder: Path) -> None:
        self.arrived: dict[str, Arrival] = {}
        self._bucket_folder = bucket_folder

    def look(self, tasks: list[CreatedTask]) -> Iterator[Arrival]:
        """The arrivals since the last look."""
        for task in tasks:
            if task.task_id in self.arrived:
                continue
            manifest = _manifest(self._bucket_folder / task.folder / "manifest.json")
            if manifest is not None:
                self.arrived[task.task_id] = Arrival(task, manifest)
                yield self.arrived[task.task_id]


class LogTail:
    """Follows a log of JSON lines."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._rest = b""

    def read(self) -> Iterator[dict[str, Any]]:
        """Events since the last call. Lines that are not a JSON object are skipped: kill -9 cuts some in two."""
        if not self._path.exists():
            return
        with self._path.open("rb") as log:
            log.seek(self._offset)
            chunk = log.read()
        self._offset += len(chunk)
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if isinstance(event, dict):
                yield event


def _manifest(path: Path) -> Mapping[str, Any] | None:
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return document if isinstance(document, dict) else None
