"""The simulator as one object: the account behind a uvicorn server on a loopback port, in a thread of this process.

Two rules:

1. Entering the context returns only once the port answers; leaving it returns only once every connection, socket and
   thread is gone, hanging requests included, so that a leak in a test is the tested program's.
2. The port is bound before the server starts, so `base_url` is right from the first line of the context on.
"""

import asyncio
import socket
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

import httpx2
import uvicorn

from tests.simulator.account import RETENTION_MS, TERMINAL, Account, SimulatedFile, SimulatedTask, file_bytes
from tests.simulator.api import Api, Credentials
from tests.simulator.callbacks import Callbacks, Delivery
from tests.simulator.documents import callback_document, json_bytes, new_standard_document
from tests.simulator.edge import Edge, TransportProtocol
from tests.simulator.faults import Fault, Faults
from tests.simulator.media import ImageFormat
from tests.simulator.request_log import Kind, LoggedRequest, RequestLog, SeenCreate
from tests.simulator.switches import Switches
from tests.simulator.timetable import Timetable

START_SECONDS_MAX = 60
ACCESS_KEY = "AKsimulated"
SECRET_KEY = "SKsimulated-secret-of-32-characters-or-more"
API_KEY = "api-key-simulated"


class KlingSimulator:
    """A Kling account to talk to and to edit. All methods may be called from any thread.

    `now` gives Unix seconds; `prefix` is a gateway path before `/v1`, such as `/kling`.
    """

    def __init__(
        self,
        *,
        access_key: str = ACCESS_KEY,
        secret_key: str = SECRET_KEY,
        api_key: str = API_KEY,
        now: Callable[[], float] = time.time,
        port: int = 0,
        prefix: str = "",
        switches: Switches | None = None,
        seed: int = 0,
    ) -> None:
        self.access_key = access_key
        self.secret_key = secret_key
        self.api_key = api_key
        self.switches = switches or Switches()
        self.faults = Faults()
        self._log = RequestLog()
        self._socket = _loopback(port)
        self.port: int = self._socket.getsockname()[1]
        self.origin = f"http://127.0.0.1:{self.port}"
        """Scheme and host of result URLs: what an allow-list of asset hosts must name."""
        self.base_url = f"{self.origin}{prefix}"
        self._account = Account(now=now, switches=self.switches, seed=seed)
        self._timetable = Timetable(
            crashed=lambda error: self._log.complain(f"the simulator crashed: {error!r}")
        )
        self._callbacks = Callbacks(
            self._account, log=self._log, timetable=self._timetable, origin=self.origin
        )
        self._account.on_change = self._changed
        credentials = Credentials(access_key=access_key, secret_key=secret_key, api_key=api_key)
        api = Api(self._account, log=self._log, credentials=credentials, origin=self.origin, prefix=prefix)
        self._edge = Edge(api.app(), account=self._account, log=self._log, faults=self.faults, prefix=prefix)
        self._server = _Server(self._edge)
        self._thread = threading.Thread(
            target=self._server.run, args=([self._socket],), name="simulator-server", daemon=True
        )

    def __enter__(self) -> Self:
        self._timetable.start()
        self._thread.start()
        if not self._server.ready.wait(START_SECONDS_MAX):
            raise RuntimeError("the simulator did not start")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._timetable.stop()
        self._callbacks.close()
        self.switch_off()

    def switch_off(self) -> None:
        """From now on connections are refused, for good."""
        if self._thread.is_alive():
            self._server.stop()
            self._thread.join()

    # --- what was asked ---

    @property
    def requests(self) -> Counter[str]:
        """Requests per endpoint: `create`, `query`, `list`, `tasks`, `solutions`, `cdn`, `unknown`."""
        return self._log.requests

    @property
    def paths(self) -> Counter[str]:
        """Requests per raw path, without the query string."""
        return self._log.paths

    @property
    def log(self) -> list[LoggedRequest]:
        """Every request in order of arrival."""
        return self._log.log

    @property
    def creates(self) -> list[SeenCreate]:
        """Every create in order of arrival."""
        return self._log.creates

    @property
    def complaints(self) -> list[str]:
        """What the real account would never have expected; a test may clear what it provoked."""
        return self._log.complaints

    @property
    def deliveries(self) -> list[Delivery]:
        """Every callback that was posted, in order."""
        return self._callbacks.deliveries

    # --- the model ---

    def create_task(
        self,
        *,
        family: str = "images/generations",
        images: int = 1,
        watermark: bool = False,
        created_at: int | None = None,
        external_task_id: str | None = None,
        callback_url: str | None = None,
        status: str = "submitted",
        message: str = "",
        series: bool = False,
        indexes: Sequence[int | None] | None = None,
        task_id: str | None = None,
        size: tuple[int, int] | None = None,
        image_format: ImageFormat | None = None,
    ) -> str:
        """A new task; returns its id. `created_at` in Unix ms, now by default.

        A `status` other than `submitted` makes history: it was reached 24 s after creation, without a callback.
        `indexes` sets the API's index of each row (None: none), and then also how many there are.
        """
        task = self._account.create(
            family=family,
            images=images,
            watermark=watermark,
            created_at=created_at,
            external_task_id=external_task_id,
            callback_url=callback_url,
            series=series,
            indexes=indexes,
            task_id=task_id,
            size=size,
            image_format=image_format,
        )
        if status != "submitted":
            self._account.settle(task.task_id, status, message=message)
        return task.task_id

    def task(self, task_id: str) -> SimulatedTask:
        """The live task: status, times, files. Raises `KeyError`."""
        return self._account.task(task_id)

    def task_ids(self, family: str | None = None) -> list[str]:
        """Ids of the visible tasks, in the order of the list switch."""
        return [task.task_id for task in self._account.tasks(family)]

    def find(self, external_task_id: str) -> str | None:
        """The id of the visible task with this external id."""
        task = self._account.find(external_task_id)
        return task.task_id if task is not None else None

    def process(self, task_id: str) -> None:
        """To `processing`."""
        self._account.move(task_id, "processing")

    def succeed(self, task_id: str, *, updated_at: int | None = None) -> None:
        """To `succeed`; from `failed` too, which the real API is not known to do. `updated_at` in Unix ms."""
        self._account.move(task_id, "succeed", updated_at=updated_at)

    def fail(self, task_id: str, message: str = "Failure to pass the risk control system") -> None:
        """To `failed`, with the reason that only `task_status_msg` tells."""
        self._account.move(task_id, "failed", message=message)

    def advance(self, seconds: float) -> None:
        """Move the account's clock: tokens, signed URLs and tasks age."""
        self._account.advance(seconds)

    def now_ms(self) -> int:
        """The account's clock."""
        return self._account.now_ms()

    def override(self, task_id: str, data: object) -> None:
        """Show `data` (any JSON) instead of the task in legacy queries and list rows; None ends it."""
        with self._account.lock:
            self._account.task(task_id).override = data

    def hide_from_list(self, task_id: str, *, hidden: bool = True) -> None:
        """The row keeps its place but is not shown: its page comes out short."""
        with self._account.lock:
            self._account.task(task_id).listed = not hidden

    # --- files ---

    def purge_assets(self, task_id: str) -> None:
        """The files are gone for good: 404."""
        with self._account.lock:
            self._account.task(task_id).assets_purged = True

    def age(self, task_id: str, milliseconds: int) -> None:
        """The task was created, and has changed, that much earlier."""
        with self._account.lock:
            task = self._account.task(task_id)
            task.created_at -= milliseconds
            task.updated_at -= milliseconds

    def purge(self, task_id: str) -> None:
        """The task and its files are gone, as 30 days after it was created."""
        with self._account.lock:
            self._account.task(task_id).created_at -= RETENTION_MS
        self.purge_assets(task_id)

    def revoke_urls(self, task_id: str) -> None:
        """URLs handed out so far answer 403; a new query hands out good ones."""
        with self._account.lock:
            self._account.task(task_id).url_generation += 1

    def url(self, task_id: str, stem: str) -> str:
        """A freshly signed URL of one file."""
        task = self._account.task(task_id)
        return self._account.url(task, _file(task, stem), origin=self.origin)

    def expected_bytes(self, task_id: str, stem: str) -> bytes:
        """What the archive must hold for `0`, `0.watermark`, `series-1`, `audio-0.wav`…; stem or full name.

        Raises `KeyError`.
        """
        task = self._account.task(task_id)
        return file_bytes(task, _file(task, stem))

    def expected_names(self, task_id: str) -> list[str]:
        """The full names of all files of a task, extensions by content: `["0.png", "0.watermark.png"]`."""
        return sorted(file.name for file in self._account.task(task_id).files)

    # --- callbacks ---

    def send_callback(
        self, task_id: str, status: str | None = None, *, url: str | None = None, expect: int = 200
    ) -> int:
        """Post one callback now, whatever the switches say, and return the HTTP status.

        `status` is the task's own by default, `url` its callback URL. An answer other than `expect` is complained of.
        Raises `CallbackUndelivered`.
        """
        return self._callbacks.send(self._account.task(task_id), status, url=url, expect=expect)

    def callback_body(self, task_id: str, status: str | None = None, *, new_standard: bool = False) -> bytes:
        """What a callback about the task says, in the dialect of its family or in the new one."""
        task = self._account.task(task_id)

        def sign(file: SimulatedFile) -> str:
            return self._account.url(task, file, origin=self.origin)

        with self._account.lock:
            if new_standard:
                return json_bytes(new_standard_document(task, sign=sign, status=status))
            shape = self.switches.solution_shape
            return json_bytes(callback_document(task, status or task.status, sign=sign, solution_shape=shape))

    def post_callback(
        self, url: str, body: object, *, headers: dict[str, str] | None = None, sign: bool = True
    ) -> httpx2.Response:
        """Post any body (bytes as they are, else JSON), signed if there is a secret. Never complains.

        Raises `CallbackUndelivered`.
        """
        content = body if isinstance(body, bytes) else json_bytes(body)
        return self._callbacks.post(url, content, headers=headers or {}, sign=sign)

    def send_console_test(self, url: str) -> int:
        """The developer console's test callback: new standard, signed, naming no real task."""
        now = self.now_ms()
        body = {"id": str(uuid.uuid4().int)[:18], "status": "submitted", "message": "", "outputs": []}
        return self.post_callback(url, body | {"create_time": now, "update_time": now}).status_code

    def drop_callbacks(self, task_id: str, *, dropped: bool = True) -> None:
        """This task's callbacks are never sent."""
        with self._account.lock:
            self._account.task(task_id).callbacks_dropped = dropped

    def wait_callbacks(self, timeout_seconds: float = 60.0) -> None:
        """Return once every due callback is posted and automatic progress has ended.

        Raises `TimeoutError`.
        """
        if not self._timetable.wait_idle(timeout_seconds):
            raise TimeoutError("callbacks are still on their way")

    # --- faults ---

    def fault(self, kind: Kind | None, fault: Fault, *, times: int | None = None, match: str = "") -> None:
        """Arm a fault (see `faults`) for the next `times` requests of an endpoint; None means until cleared, any."""
        self.faults.arm(kind, fault, times=times, match=match)

    def clear_faults(self, kind: Kind | None = None) -> None:
        """Disarm."""
        self.faults.clear(kind)

    def on_request(self, hook: Callable[[LoggedRequest], object]) -> None:
        """Call `hook` in a thread before every request is answered: edit the account between two pages."""
        self._edge.on_request = hook

    # --- inside ---

    def _changed(self, task: SimulatedTask, status: str) -> None:
        self._callbacks.changed(task, status)
        progress = self.switches.progress_seconds
        if status == "submitted" and progress is not None:
            for seconds, following in zip(progress, ("processing", "succeed"), strict=True):
                self._timetable.after(seconds, _step(self._account, task, following))


def _loopback(port: int) -> socket.socket:
    # Not `socket.create_server`: asyncio switches Nagle off only where the socket names its protocol, and with it
    # on every answer takes 40 ms, because head and body are written one after the other.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
    except OSError:
        listener.close()
        raise
    return listener


def _step(account: Account, task: SimulatedTask, status: str) -> Callable[[], None]:
    def step() -> None:
        if task.status not in TERMINAL:
            account.move(task.task_id, status)

    return step


def _file(task: SimulatedTask, stem: str) -> SimulatedFile:
    for file in task.files:
        if stem in (file.stem, file.name):
            return file
    raise KeyError(f"task {task.task_id} has no file {stem!r}, only {[file.name for file in task.files]}")


class _Server(uvicorn.Server):
    """uvicorn in a thread that can be waited for and stopped at once."""

    def __init__(self, app: Edge) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=TransportProtocol,
                loop="asyncio",
                lifespan="off",
                ws="none",
                log_config=None,
                access_log=False,
                date_header=False,
                server_header=False,
                timeout_keep_alive=60,
            )
        )
        self.ready = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        self.ready.set()

    async def main_loop(self) -> None:
        await self.on_tick(0)
        await self._stopping.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # A hanging request waits for its client, and the client may be this very test: end it from here.
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        await super().shutdown(sockets)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stopping.set)
