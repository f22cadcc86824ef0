"""`table.tsv`: one file a line, and the verdicts by one letter each.

Ours: `w` whole, `n` not whole, `m` no media, `l` too large. The decoder's: `p` plays it, `e` plays it and complains,
`x` has nothing to show.
"""

import dataclasses
import io
import pathlib

from archiver.failures import NotMedia, TooLarge
from archiver.media.identify import Media, identify

FOLDER = pathlib.Path(__file__).parent
FOLDERS = ("encoded", "whole", "broken")
TABLE = FOLDER / "table.tsv"
_HEAD = "file\ttype\tsize\tverdict\tdecoder\tdamaged: verdicts\tdamaged: decoder"


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """`damaged` and `damaged_decoder` have a letter for each damage; none for a file that is broken already."""

    file: str
    type: str
    size: str
    verdict: str
    decoder: str
    damaged: str
    damaged_decoder: str


def files() -> list[pathlib.Path]:
    """Of the corpus, in their order."""
    return [path for folder in FOLDERS for path in sorted((FOLDER / folder).iterdir())]


def name_of(path: pathlib.Path) -> str:
    """As the table has it."""
    return path.relative_to(FOLDER).as_posix()


def verdict(data: bytes) -> tuple[str, Media | None]:
    """The letter, and what was found."""
    try:
        media = identify(io.BytesIO(data))
    except NotMedia:
        return "m", None
    except TooLarge:
        return "l", None
    return "w" if media.whole else "n", media


def size_of(media: Media | None) -> str:
    """Width and height, or `-`."""
    return f"{media.width}×{media.height}" if media and media.width and media.height else "-"


def read() -> dict[str, Row]:
    """The rows by file."""
    lines = TABLE.read_text().splitlines()[1:]
    return {line.partition("\t")[0]: Row(*line.split("\t")) for line in lines}


def write(rows: list[Row]) -> None:
    """All of them."""
    lines = ["\t".join(dataclasses.astuple(row)) for row in rows]
    TABLE.write_text("\n".join([_HEAD, *lines]) + "\n")
