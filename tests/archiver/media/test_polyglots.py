"""Files that are two things at once: refused, or stored as the one that our list says, which no browser runs.

The samples are the published tricks: a page, a script or an archive that is a picture too, or begins like one.
"""

import io
import json
import pathlib
import re
import struct
import subprocess
import sys
import zipfile

import pytest

from archiver.failures import NotMedia, TooLarge
from archiver.media.identify import identify
from archiver.store import S3Store, Upload, digests_of
from tests.fuzz.targets import CONTENT_TYPES
from tests.harness.engine import Engine
from tests.harness.media_samples import (
    avif,
    bmp,
    chunk,
    gif,
    jpeg,
    mp3,
    mp4,
    png,
    segment,
    still,
    tiff,
    wav,
    webm,
    webp_extended,
)
from tests.harness.repository import ROOT
from tests.s3_servers import S3Server
from tests.simulator import KlingSimulator, faults

PAGE = b"<!DOCTYPE html><html><script>alert(document.domain)</script></html>"
SCRIPT = b"=1;alert(1);/*"
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
PDF = b"%PDF-1.7\n1 0 obj<</Type/Catalog/OpenAction<</S/JavaScript/JS(app.alert(1))>>>>endobj\n%%EOF"


def archive(name: str, content: bytes) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as file:
        file.writestr(name, content)
    return made.getvalue()


JAR = archive("META-INF/MANIFEST.MF", b"Main-Class: A\n")

REFUSED = {
    "a page": PAGE,
    "a page behind a byte order mark": b"\xef\xbb\xbf" + PAGE,
    "a page in UTF-16": PAGE.decode().encode("utf-16"),
    "a page behind white space": b" \r\n\t\x0c" * 9 + PAGE,
    "a page behind zeros": bytes(64) + PAGE,
    "a page behind a comment that is a box of MP4": b"<!--ftypisom-->" + PAGE,
    "a page behind a comment that is a box of AVIF": b"<!--ftypavif\0\0\0\0mif1-->" + PAGE,
    "a page behind a comment that is a box of QuickTime": b"<!--moov-->" + PAGE,
    "a page and then a picture": PAGE + png(),
    "a drawing with a script": SVG,
    "a drawing behind its declaration": b'<?xml version="1.0"?>' + SVG,
    "a compressed drawing": b"\x1f\x8b\x08\0" + bytes(6) + SVG,
    "a document": PDF,
    "a document and then a picture": PDF + jpeg(),
    "a document that begins with BM": b"BM" + PDF,
    "an archive": JAR,
    "an archive and then a picture": JAR + jpeg(),
    "a script": b"alert(1)//",
    "a script that begins with GIF8": b"GIF8=1;alert(1)",
    "a script that begins with BM": b"BM=1;alert(1)/*" + b"(" * 60,
    "a script that begins with RIFF": b"RIFF=1;alert(1)/*WEBP" + SCRIPT,
    "a script that begins with II": b"II=1;alert(1)//" + tiff(),
    "a module": b"\0asm\1\0\0\0" + bytes(60),
    "a Flash film": b"CWS\x0a" + bytes(60),
    "a program": b"MZ" + bytes(60),
    "a program behind a picture's last bytes": b"\x7fELF" + png(),
    "an icon": b"\0\0\1\0\1\0\x10\x10" + bytes(50) + png(),
    "a page in MHTML": b"MIME-Version: 1.0\r\nContent-Type: multipart/related\r\n\r\n" + PAGE,
    "a picture without its first byte": png()[1:],
    "a JPEG XL picture": b"\xff\x0a" + bytes(60),
    "an HLS list": b"#EXTM3U\nhttps://evil.example/a.ts\n",
    "a PostScript picture": b"%!PS-Adobe-3.0 EPSF-3.0\n",
    "an ImageMagick script": b"push graphic-context\nimage over 0,0 0,0 'https://evil.example/'\n",
}

STORED = {
    "a PNG with a page behind it": (png() + PAGE, "image/png"),
    "a PNG with a page in a text chunk": (
        png()[:33] + chunk(b"tEXt", b"Comment\0" + PAGE) + png()[33:],
        "image/png",
    ),
    "a PNG with an archive behind it": (png() + JAR, "image/png"),
    "a JPEG with an archive behind it": (jpeg() + JAR, "image/jpeg"),
    "a JPEG with a page in its comment": (jpeg()[:2] + segment(0xFE, PAGE) + jpeg()[2:], "image/jpeg"),
    "a JPEG with a document behind it": (jpeg() + PDF, "image/jpeg"),
    "a GIF that is a script": (
        b"GIF89a" + struct.pack("<HHBBB", 0x2A2F, 1, 0, 0, 0) + b"!\xfe\x09*/=1;a()//"[:12] + b"\0;" + SCRIPT,
        "image/gif",
    ),
    "a GIF with a page behind it": (gif() + PAGE, "image/gif"),
    "a BMP with a script behind it": (bmp() + b"*/=1;alert(1)//", "image/bmp"),
    "a WebP with a page behind it": (webp_extended() + PAGE, "image/webp"),
    "a TIFF with a page behind it": (tiff() + PAGE, "image/tiff"),
    "an AVIF with a page in its data": (avif() + PAGE, "image/avif"),
    "an MP4 with a page in a free box": (
        mp4() + struct.pack(">I4s", 8 + len(PAGE), b"free") + PAGE,
        "video/mp4",
    ),
    "a WebM with a page behind it": (webm() + PAGE, "video/webm"),
    "a WAV with a page behind it": (wav() + PAGE, "audio/wav"),
    "an MP3 with a page in its tag": (
        b"ID3\4\0\0\0\0\0" + bytes([len(PAGE)]) + PAGE + mp3(),
        "audio/mpeg",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_that_begins_as_something_else_is_refused(name: str) -> None:
    with pytest.raises(NotMedia):
        identify(io.BytesIO(REFUSED[name]))


@pytest.mark.parametrize("name", STORED)
def test_a_file_that_begins_as_a_picture_is_stored_as_that_picture(name: str) -> None:
    data, content_type = STORED[name]

    assert identify(io.BytesIO(data)).content_type == content_type


@pytest.mark.parametrize(
    "sent", ["text/html", "image/svg+xml", "application/javascript", "text/html; charset=utf-7", "x"]
)
def test_the_stored_content_type_is_ours_whatever_the_cdn_calls_it(tmp_path: pathlib.Path, sent: str) -> None:
    data, content_type = STORED["a PNG with a page behind it"]
    with KlingSimulator() as sim, Engine(sim, tmp_path) as engine:
        sim.fault("cdn", faults.Raw(200, data, {"Content-Type": sent, "X-Content-Type-Options": ""}))
        task_id = engine.succeeded()
        assert engine.attempt() is None

        types = {key.rpartition("/")[2]: lying.content_type for key, lying in engine.store.objects.items()}
        (asset,) = engine.manifest(task_id)["assets"]
    assert types == {"0.png": content_type, "manifest.json": "application/json"}
    assert asset["content_type"] == content_type


def test_the_bucket_tells_a_browser_our_content_type(
    s3_server: S3Server, bucket: str, store: S3Store
) -> None:
    data, content_type = STORED["a GIF that is a script"]
    found = identify(io.BytesIO(data))
    put_bytes(store, "a/0.gif", data, content_type=found.content_type)

    head = s3_server.client.head_object(Bucket=bucket, Key="a/0.gif")
    assert head["ContentType"] == content_type


def put_bytes(store: S3Store, key: str, data: bytes, *, content_type: str) -> None:
    upload = Upload(
        key=key,
        file=io.BytesIO(data),
        digests=digests_of(data),
        content_type=content_type,
        task_id="1",
        family="images/generations",
        check=lambda: None,
    )
    store.put(upload, look_first=False)


def test_nothing_that_a_browser_runs_is_on_our_list() -> None:
    sources = [path.read_text() for path in (ROOT / "archiver" / "media").rglob("*.py")]
    literals = re.compile(r'"((?:image|video|audio|text|application)/[\w.+-]+)"')
    named = {content_type for source in sources for content_type in literals.findall(source)}

    assert named == set(CONTENT_TYPES.values())
    assert all(re.fullmatch(r"(image|video|audio)/[a-z0-9]+", name) for name in named)  # no +xml among them


# --- sizes that are only declared ---------------------------------------------------------------------------


HUGE = {
    "PNG": png(65_535, 65_535),
    "JPEG": jpeg(65_535, 65_535),
    "GIF": gif(65_535, 65_535),
    "GIF, in a frame that is larger than the screen": (
        b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0, 0, 0)
        + b"\x2c" + struct.pack("<HHHHB", 0, 0, 65_535, 65_535, 0) + b"\2\1a\0;"
    ),
    "WebP": webp_extended(16_384, 16_384),
    "BMP": bmp(65_535, 65_535),
    "BMP, upside down": bmp(65_535, -65_535),
    "TIFF": tiff(65_535, 65_535),
    "TIFF, on its second page": tiff()[:58] + struct.pack("<I", 82) + tiff()[62:] + tiff(65_535, 65_535)[8:],
    "AVIF": avif(65_535, 65_535),
    "HEIC, among smaller ones": still(b"heic", width=2**31, height=2),
    "MP4": mp4(65_535, 65_535),
    "WebM": webm(2**31, 2**31),
}  # fmt: skip


@pytest.mark.parametrize("name", HUGE)
def test_a_short_file_that_declares_a_huge_picture_is_refused(name: str) -> None:
    assert len(HUGE[name]) < 2000
    with pytest.raises(TooLarge, match="megapixels"):
        identify(io.BytesIO(HUGE[name]))


# --- never decoded ------------------------------------------------------------------------------------------


DECODERS = {
    "PIL", "av", "cairosvg", "cv2", "imagecodecs", "imageio", "matplotlib", "numpy", "pikepdf", "pillow_heif", "png",
    "pygame", "pypdf", "pyvips", "rawpy", "skimage", "tkinter", "torchvision", "wand", "wave", "zlib_ng",
}  # fmt: skip


def test_no_library_that_decodes_pictures_is_loaded_by_daemon_or_commands() -> None:
    program = (
        "import importlib, json, sys, receiver.daemon; from archiver.commands.terminal.group import COMMANDS;"
        "[importlib.import_module(module) for module, _ in COMMANDS.values()]; print(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = {name.partition(".")[0] for name in json.loads(done.stdout)}

    assert {"archiver", "receiver", "boto3"} <= loaded
    assert loaded & DECODERS == set()


def test_no_library_that_decodes_pictures_is_installed_beside_the_daemon() -> None:
    names = re.findall(r"(?m)^([a-z0-9-]+)==", (ROOT / "requirements.lock").read_text())

    assert len(names) > 20
    assert {"pillow", "opencv-python", "numpy", "imageio", "pyvips", "wand", "av", "cairosvg"} & set(
        names
    ) == set()
