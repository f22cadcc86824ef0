"""Tasks with pictures, films and sounds for the console, and a store on loopback that has the files."""

import contextlib
import hashlib
import http.server
import struct
import threading
import zlib
from collections.abc import Iterator

from archiver.model import Asset, Role, Stage, Status, StoredAsset
from receiver.console.parts import FilePlaces
from tests.harness.ledgers import ACCOUNT, FAMILY, HOUR, MINUTE, Desk, answer
from tests.harness.media_samples import chunk, mp4, wav

HOSTILE = (
    "<script>document.title='run'</script>\"><img src=x onerror=\"document.title='run'\">\u202etxt.exe\u2066"
)
"""A text that wants to be a script, and to turn the text behind it around."""
LONG = f"{HOSTILE} " + "fox " * 2000
"""As long as one text of a request may be."""
_SIDE = 96
_ROLES = {"png": Role.IMAGE, "mp4": Role.VIDEO, "wav": Role.AUDIO}


def picture(name: str) -> bytes:
    """A PNG of two colours that are the name's."""
    digest = hashlib.sha256(name.encode()).digest()
    first, second = digest[:3], digest[3:6]
    rows = b"".join(
        b"\0" + b"".join(first if (column + row) % _SIDE < _SIDE // 2 else second for column in range(_SIDE))
        for row in range(_SIDE)
    )
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", _SIDE, _SIDE, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND")


class _Files(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        extension = self.path.rpartition(".")[2]
        kinds = {"mp4": ("video/mp4", mp4()), "wav": ("audio/wav", wav())}
        kind, body = kinds.get(extension) or ("image/png", picture(self.path))
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        with contextlib.suppress(OSError):  # the browser has left the page
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextlib.contextmanager
def presigning_store() -> Iterator[FilePlaces]:
    """Its URLs are of another origin than the console's."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Files)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        origin = f"http://127.0.0.1:{server.server_address[1]}"
        yield FilePlaces(presign=lambda key: f"{origin}/{key}?X-Amz-Signature=0")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def archive_files(
    desk: Desk,
    task_id: str,
    *names: str,
    prompt: str,
    family: str = FAMILY,
    external_task_id: str | None = None,
) -> None:
    """A task that was registered with its request, and whose files are in the bucket."""
    request = {"model_name": "kling-v2", "prompt": prompt, "aspect_ratio": "16:9", "n": len(names)}
    desk.ledger.registrations.register(
        task_id, account=ACCOUNT, family=family, external_task_id=external_task_id, request=request
    )
    assets = tuple(
        Asset(
            stem=name.rpartition(".")[0],
            url=f"https://cdn.klingai.com/{name}",
            role=_ROLES[name[-3:]],
            index=None,
            watermarked=False,
        )
        for name in names
    )
    desk.say(
        answer(
            task_id, family=family, created_at=desk.clock(), external_task_id=external_task_id, assets=assets
        )
    )
    desk.clock.advance(MINUTE)
    lease = desk.claim(Stage.ARCHIVE)
    folder = f"kling/{family}/2026/09/21/{task_id}"
    stored = [_stored(name, folder) for name in names]
    desk.ledger.outcomes.archived(
        lease, manifest_key=f"{folder}/manifest.json", archived_at=desk.clock(), stored=stored
    )


def _stored(name: str, folder: str) -> StoredAsset:
    stem, _, extension = name.rpartition(".")
    return StoredAsset(
        stem=stem,
        name=name,
        key=f"{folder}/{name}",
        role=_ROLES[extension],
        index=None,
        watermarked=False,
        bytes=1_512_345,
        sha256="0" * 64,
        content_type="image/png",
        width=_SIDE,
        height=_SIDE,
        source_url=f"https://cdn.klingai.com/{name}",
    )


def fill_tasks(desk: Desk) -> None:
    """Some pictures, a film, a sound, a failed task with hostile texts, a reported one."""
    prompts = (
        "A red fox in the snow, golden hour",
        "A paper boat on a river, watercolour",
        "狐狸在雪地里，水彩",
    )
    for number, prompt in enumerate(prompts):
        archive_files(
            desk,
            f"83176825106481564{number}",
            "0.png",
            "1.png",
            prompt=prompt,
            external_task_id=f"order-{number}",
        )
        desk.clock.advance(HOUR)
    archive_files(
        desk,
        "831768251064815650",
        "video-0.mp4",
        prompt="A drone flight over hills",
        family="videos/text2video",
    )
    archive_files(
        desk, "831768251064815651", "audio-0.wav", prompt="Rain on a tin roof", family="audio/text-to-audio"
    )
    request = {"prompt": LONG, "negative_prompt": HOSTILE}
    desk.ledger.registrations.register(
        "hostile", account=ACCOUNT, family=FAMILY, external_task_id="<b>\u202eorder", request=request
    )
    desk.say(
        answer(
            "hostile",
            Status.FAILED,
            created_at=desk.clock(),
            external_task_id="<b>\u202eorder",
            message=HOSTILE * 12,
        )
    )
    desk.clock.advance(MINUTE)
    desk.tell("831768251064815660")
