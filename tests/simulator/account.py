"""The live model: the tasks of one account and what happens to them. No HTTP.

Two rules:

1. Every public method holds the one lock for its whole length, so that the server's thread and the test's never see
   half a change. Listeners are notified of a change after the lock is free.
2. Whatever depends on time asks the injected clock; nothing happens by itself.

Times are Unix milliseconds as the API speaks them, except the clock, which gives seconds.
"""

import dataclasses
import hashlib
import random
import threading
import uuid
from collections.abc import Callable, Sequence

from tests.simulator.families import FAMILIES, Family, ResultArray
from tests.simulator.media import NAME_EXTENSIONS, ImageFormat, MediaFormat, media
from tests.simulator.signing import UrlSigner, UrlVerdict
from tests.simulator.switches import Switches

DAY_MS = 86_400_000
RETENTION_MS = 30 * DAY_MS
SNOWFLAKE_EPOCH_MS = 1_568_028_518_800
"""Real ids behave like (ms since this) << 22."""

TERMINAL = frozenset({"succeed", "failed"})
FORWARD = {"submitted": 0, "processing": 1, "failed": 2, "succeed": 3}
"""A task moves to the right only; the last step (a failed task that succeeds after all) is for tests of just that."""


class DuplicateExternalId(ValueError):
    """An `external_task_id` that another task of the account has; its text is the API's message."""


@dataclasses.dataclass(frozen=True, slots=True)
class SimulatedFile:
    """One file of a task: where it stands in the result, its name in the archive, its path on the CDN."""

    array: str
    row: int
    field: str
    stem: str
    media_format: MediaFormat
    path: str

    @property
    def name(self) -> str:
        """The stem with the extension that the bytes call for."""
        return f"{self.stem}.{NAME_EXTENSIONS[self.media_format]}"


@dataclasses.dataclass(slots=True)
class SimulatedTask:
    """Everything the account knows about a task. Tests may read it, and change it through `KlingSimulator`."""

    task_id: str
    family: Family
    created_at: int
    updated_at: int
    external_task_id: str | None
    callback_url: str | None
    watermark: bool
    series: bool
    indexes: Sequence[int | None]
    size: tuple[int, int]
    files: tuple[SimulatedFile, ...] = ()
    status: str = "submitted"
    message: str = ""
    url_generation: int = 0
    assets_purged: bool = False
    listed: bool = True
    callbacks_dropped: bool = False
    override: object = None
    """What queries and lists show instead of the task, when not None."""

    @property
    def arrays(self) -> tuple[ResultArray, ...]:
        return self.family.series if self.series else self.family.arrays


Listener = Callable[[SimulatedTask, str], None]


class Account:
    """One Kling account. `now` gives Unix seconds."""

    def __init__(self, *, now: Callable[[], float], switches: Switches, seed: int = 0) -> None:
        self.switches = switches
        self.lock = threading.RLock()
        self.signer = UrlSigner(b"simulated signing key of the CDN")
        self._now = now
        self._offset_seconds = 0.0
        self._random = random.Random(seed)
        self._tasks: dict[str, SimulatedTask] = {}
        self._by_external_id: dict[str, SimulatedTask] = {}
        self._by_path: dict[str, tuple[SimulatedTask, SimulatedFile]] = {}
        self._sequence = 0
        self._nonce = 0
        self.on_change: Listener = lambda _task, _status: None

    def now(self) -> float:
        """The account's clock, Unix seconds."""
        return self._now() + self._offset_seconds

    def now_ms(self) -> int:
        return int(self.now() * 1000)

    def advance(self, seconds: float) -> None:
        with self.lock:
            self._offset_seconds += seconds

    # --- what a test does to tasks ---

    def create(
        self,
        *,
        family: str,
        images: int,
        watermark: bool,
        created_at: int | None,
        external_task_id: str | None,
        callback_url: str | None,
        series: bool,
        indexes: Sequence[int | None] | None,
        task_id: str | None,
        size: tuple[int, int] | None,
        image_format: ImageFormat | None,
    ) -> SimulatedTask:
        """A submitted task.

        Raises `DuplicateExternalId`; `KeyError` for a family that the account does not offer.
        """
        with self.lock:
            if external_task_id and external_task_id in self._by_external_id:
                raise DuplicateExternalId(f"external_task_id already exists: {external_task_id}")
            created = self.now_ms() if created_at is None else created_at
            task = SimulatedTask(
                task_id=task_id or self._new_id(created),
                family=FAMILIES[family],
                created_at=created,
                updated_at=created,
                external_task_id=external_task_id or None,
                callback_url=callback_url or None,
                watermark=watermark,
                series=series,
                indexes=list(range(images)) if indexes is None else list(indexes),
                size=size or self.switches.image_size,
            )
            task.files = _files(task, image_format or self.switches.image_format)
            self._tasks[task.task_id] = task
            if task.external_task_id:
                self._by_external_id[task.external_task_id] = task
            self._by_path.update({file.path: (task, file) for file in task.files})
        self.on_change(task, "submitted")
        return task

    def move(self, task_id: str, status: str, *, message: str = "", updated_at: int | None = None) -> None:
        """Forward to `status`; a step back or on the spot is refused with `ValueError`."""
        with self.lock:
            task = self._tasks[task_id]
            if FORWARD[status] <= FORWARD[task.status]:
                raise ValueError(f"task {task_id} is {task.status} and cannot become {status}")
            task.status, task.message = status, message
            task.updated_at = max(self.now_ms(), task.created_at) if updated_at is None else updated_at
        self.on_change(task, status)

    def settle(self, task_id: str, status: str, *, message: str) -> None:
        """History: as if `status` had been reached 24 s after creation, without a callback."""
        with self.lock:
            task = self._tasks[task_id]
            task.status, task.message = status, message
            task.updated_at = max(task.created_at, min(task.created_at + 24_000, self.now_ms()))

    def _new_id(self, created_at: int) -> str:
        self._sequence += 1
        return str(((created_at - SNOWFLAKE_EPOCH_MS) << 22) + self._sequence % (1 << 22))

    # --- what queries see ---

    def task(self, task_id: str) -> SimulatedTask:
        """Raises `KeyError`."""
        with self.lock:
            return self._tasks[task_id]

    def find(self, key: str) -> SimulatedTask | None:
        """By either id, whatever the family; None once the row is purged."""
        with self.lock:
            task = self._tasks.get(key) or self._by_external_id.get(key)
            return task if task is not None and self._visible(task) else None

    def tasks(self, family: str | None = None) -> list[SimulatedTask]:
        """All visible tasks in the order of the list switch, hidden ones included."""
        with self.lock:
            rows = [
                task
                for task in self._tasks.values()
                if (family is None or task.family.path == family) and self._visible(task)
            ]
            if self.switches.list_order == "shuffled":
                self._random.shuffle(rows)
            else:
                newest_first = self.switches.list_order == "newest_first"
                rows.sort(key=lambda task: (task.created_at, task.task_id), reverse=newest_first)
            return rows

    def _visible(self, task: SimulatedTask) -> bool:
        return not self.switches.purge_rows or self.now_ms() - task.created_at < RETENTION_MS

    # --- files ---

    def url(self, task: SimulatedTask, file: SimulatedFile, *, origin: str) -> str:
        """A signed URL; fresh or the same as ever, as the switch says."""
        with self.lock:
            lifetime = self.switches.url_lifetime_seconds
            completion_expires = (task.updated_at + RETENTION_MS) // 1000
            expires = completion_expires if lifetime is None else int(self.now() + lifetime)
            if self.switches.fresh_urls:
                self._nonce += 1
            nonce = self._nonce if self.switches.fresh_urls else 0
            query = self.signer.query(file.path, expires=expires, generation=task.url_generation, nonce=nonce)
            return f"{self.switches.cdn_origin or origin}{file.path}?{query}"

    def file_at(self, path: str) -> tuple[SimulatedTask, SimulatedFile] | None:
        with self.lock:
            return self._by_path.get(path)

    def judge_url(self, task: SimulatedTask, path: str, query: str) -> UrlVerdict:
        with self.lock:
            return self.signer.check(path, query, now=self.now(), generation=task.url_generation)

    def has_bytes(self, task: SimulatedTask) -> bool:
        """Whether the CDN still has the files: succeeded, not purged by a test, not 30 days past."""
        with self.lock:
            young = self.now_ms() - task.updated_at < RETENTION_MS
            return task.status == "succeed" and young and not task.assets_purged


def file_bytes(task: SimulatedTask, file: SimulatedFile) -> bytes:
    """Different for every file of every task, and always the same for one."""
    return media(f"{task.task_id}/{file.name}", file.media_format, task.size)


def _labels(indexes: Sequence[int | None]) -> list[int]:
    """The API's index if every row has a unique one, else the place in the array: how archives name files."""
    given = [index for index in indexes if index is not None and index >= 0]
    return given if len(given) == len(indexes) == len(set(given)) else list(range(len(indexes)))


def _files(task: SimulatedTask, image_format: ImageFormat) -> tuple[SimulatedFile, ...]:
    found = []
    for array in task.arrays:
        rows = task.indexes if array.id_field == "index" else [None] * len(task.indexes)
        for row, label in enumerate(_labels(rows)):
            for result in array.files:
                media_format: MediaFormat = image_format if result.kind == "image" else result.kind
                stem = result.stem.format(label)
                found.append(_file(task, array.name, row, result.field, stem, media_format))
                if result.watermark and task.watermark:
                    marked = f"{stem}.watermark"
                    found.append(_file(task, array.name, row, "watermark_url", marked, media_format))
    return tuple(found)


def _file(
    task: SimulatedTask, array: str, row: int, field: str, stem: str, media_format: MediaFormat
) -> SimulatedFile:
    digest = hashlib.sha256(f"{task.task_id}/{array}/{row}/{field}".encode()).hexdigest()
    # Every image URL seen in the wild ends in .png, so these do too, whatever the bytes are.
    image = media_format in ("png", "jpeg", "webp")
    extension = "png" if image else NAME_EXTENSIONS[media_format]
    folder = f"/cdn/bs2/upload-ylab-stunt-sgp/muse/830176/{'IMAGE' if image else 'VIDEO'}"
    path = f"{folder}/{digest[:32]}-{uuid.UUID(digest[32:])}.{extension}"
    return SimulatedFile(array, row, field, stem, media_format, path)
