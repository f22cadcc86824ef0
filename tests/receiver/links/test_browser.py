"""Links in a real browser: an image, and a film that is sought in, on a page of another origin."""

import contextlib
import http.server
import json
import pathlib
import queue
import shutil
import subprocess
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.harness.links import LinkDesk, link_of, put, record_stored, serving
from tests.harness.media_samples import box, png
from tests.harness.repository import ROOT
from tests.s3_servers import S3Server

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SECONDS_MAX = 120
FILM = ROOT / "tests/media_corpus/encoded/mp4_x264_aac.mp4"
GAP_BYTES = 8 * 2**20
"""Between pictures and index: a browser has to ask for a range to find the index."""
PAGE = """<script>
async function look(name, link) {
  const said = {};
  const image = new Image();
  image.src = link("image");
  await image.decode();
  said.width = image.naturalWidth;
  const film = document.createElement("video");
  film.muted = true;
  const happens = event => new Promise((done, fail) => { film["on" + event] = done; film.onerror = fail; });
  film.src = link("film");
  await happens("loadedmetadata");
  film.currentTime = film.duration * 0.75;
  await happens("seeked");
  said.sought = film.currentTime > film.duration / 2;
  try {
    const answer = await fetch(link("film"), {headers: {Range: "bytes=0-1"}});
    said.range = [answer.status, answer.headers.get("Content-Range"), (await answer.arrayBuffer()).byteLength];
  } catch {
    said.range = null;
  }
  return said;
}
(async () => {
  const links = LINKS, said = {};
  for (const [mode, found] of Object.entries(links)) said[mode] = await look(mode, name => found[name]);
  return said;
})().then(said => said, error => ({error: String(error)})).then(
  said => fetch("/said?" + new URLSearchParams({json: JSON.stringify(said)})));
</script>"""


def film() -> bytes:
    """The film with a gap before its index."""
    content = FILM.read_bytes()
    place = content.index(b"moov") - 4
    return content[:place] + box(b"free", bytes(GAP_BYTES)) + content[place:]


@contextlib.contextmanager
def page(content: str) -> Iterator[tuple[str, "queue.Queue[dict[str, Any]]"]]:
    """The URL of a page, and what it says."""
    said: queue.Queue[dict[str, Any]] = queue.Queue()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = parse_qs(urlsplit(self.path).query)
            if "json" in asked:
                said.put(json.loads(asked["json"][0]))
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(content.encode())

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/", said
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextlib.contextmanager
def browsing(url: str, profile: pathlib.Path) -> Iterator[None]:
    command = [str(CHROMIUM), "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    command += ["--autoplay-policy=no-user-gesture-required", f"--user-data-dir={profile}", url]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait(SECONDS_MAX)


def linked(desk: LinkDesk) -> dict[str, str]:
    files = {"image": "png", "film": "mp4"}
    return {name: desk.url + link_of(name, extension=extension) for name, extension in files.items()}


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is missing: apt-get install chromium")
def test_a_page_of_another_origin_shows_the_image_and_seeks_in_the_film_in_both_modes(
    tmp_path: pathlib.Path, swift_server: S3Server, swift_bucket: str
) -> None:
    store, desks = swift_server.store(swift_bucket), {}
    with contextlib.ExitStack() as opened:
        for mode in ("redirect", "stream"):
            (tmp_path / mode).mkdir()
            desks[mode] = opened.enter_context(serving(tmp_path / mode, store, mode=mode))
            for task_id, content, extension in (("image", png(7, 5), "png"), ("film", film(), "mp4")):
                key = record_stored(desks[mode].ledger, content, task_id, extension=extension).key
                if store.head(key) is None:
                    put(store, key, content)
        links = json.dumps({mode: linked(desk) for mode, desk in desks.items()})
        url, said = opened.enter_context(page(PAGE.replace("LINKS", links)))
        opened.enter_context(browsing(url, tmp_path / "profile"))
        seen = said.get(timeout=SECONDS_MAX)

    size = len(film())
    # Swift's bucket has no CORS, so that a script may not read there what an image or a film may show.
    assert seen == {
        "redirect": {"width": 7, "sought": True, "range": None},
        "stream": {"width": 7, "sought": True, "range": [206, f"bytes 0-1/{size}", 2]},
    }
