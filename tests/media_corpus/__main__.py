"""Write `table.tsv` anew, asking a real decoder about every file and every damaged one. Read the difference before you
commit it: a verdict that changes is a change of behaviour."""

import concurrent.futures
import os
import pathlib
import shutil
import subprocess
import tempfile

from tests.media_corpus.damage import damages
from tests.media_corpus.table import Row, files, name_of, size_of, verdict, write

_IMAGEMAGICK = shutil.which("convert-im6.q16") or "convert"
_DECODERS = {
    "jpg": [["djpeg", "-outfile", "OUT.ppm", "IN"]],
    "webp": [[_IMAGEMAGICK, "IN", "OUT.ppm"]],
    "gif": [[_IMAGEMAGICK, "IN", "OUT.ppm"]],
    "bmp": [[_IMAGEMAGICK, "IN", "OUT.ppm"]],
    "tiff": [[_IMAGEMAGICK, "IN", "OUT.ppm"]],
    "avif": [["avifdec", "IN", "OUT.png"]],
    "heic": [["heif-convert", "IN", "OUT.png"]],
}
_FFMPEG = ["ffmpeg", "-v", "error", "-nostdin", "-y", "-i", "IN", "-f", "framecrc", "OUT.crc"]
_LAME = ["lame", "--quiet", "--decode", "IN", "OUT.wav"]
_HEADERS_BYTES = 64
"""An output of no more holds a header only."""


def _decoders(extension: str) -> list[list[str]]:
    if extension == "mp3":
        return [_FFMPEG, _LAME]
    return _DECODERS.get(extension, [_FFMPEG])


def _opinion(data: bytes, extension: str) -> str:
    """The best of what the decoders say."""
    return min(_asked(data, extension, command) for command in _decoders(extension)).replace("a", "p")


def _asked(data: bytes, extension: str, command: list[str]) -> str:
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder, f"in.{extension}")
        file.write_bytes(data)
        words = [word.replace("OUT", folder + "/out").replace("IN", str(file)) for word in command]
        try:
            done = subprocess.run(words, capture_output=True, timeout=30, check=False)
        except subprocess.TimeoutExpired:
            return "x"
        shown = [path for path in pathlib.Path(folder).glob("out*") if _has_content(path)]
        if not shown:
            return "x"
        return "a" if done.returncode == 0 and not done.stderr.strip() else "e"


def _has_content(path: pathlib.Path) -> bool:
    if path.suffix == ".crc":
        return any(line[:1].isdigit() for line in path.read_text().splitlines())
    return path.stat().st_size > _HEADERS_BYTES


def _row(path: pathlib.Path) -> Row:
    data = path.read_bytes()
    extension = path.suffix[1:]
    letter, media = verdict(data)
    damaged = [] if path.parent.name == "broken" else [bytes_ for _, bytes_ in damages(data, extension)]
    return Row(
        file=name_of(path),
        type=media.content_type if media else "-",
        size=size_of(media),
        verdict=letter,
        decoder=_opinion(data, extension),
        damaged="".join(verdict(bytes_)[0] for bytes_ in damaged),
        damaged_decoder="".join(_opinion(bytes_, extension) for bytes_ in damaged),
    )


def main() -> None:
    """Takes some minutes."""
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        write(list(pool.map(_row, files())))


if __name__ == "__main__":
    main()
