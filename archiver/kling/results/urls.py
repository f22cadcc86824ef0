"""The URLs in one row of results: in fields that `families` knows, and in fields that it does not."""

import dataclasses
import re
from collections.abc import Iterator

from archiver import model
from archiver.failures import ApiAnswerUnreadable
from archiver.families import URL_FIELDS
from archiver.kling.results.names import safe, short
from archiver.model import Place

URL_CHARACTERS_MAX = 65_536
_WEB = re.compile(r"\s*https?://[^\s/?#]", re.IGNORECASE)
_URL_ENDS = "".join(map(chr, range(0x21)))
"""Characters that browsers cut off at the ends of a URL. They keep a no-break space."""


@dataclasses.dataclass(frozen=True, slots=True)
class FoundUrl:
    """A URL inside a row; `rank` says which of `URL_FIELDS` it is, past the end if unknown."""

    rank: int
    path: str
    steps: Place
    """Its place in the row."""
    url: str
    suffix: str
    watermarked: bool

    @property
    def known(self) -> bool:
        return self.rank < len(URL_FIELDS)


def urls_of(row: object) -> list[FoundUrl]:
    """The URLs of one row, known fields first. A bare string counts as its `url`."""
    if isinstance(row, str) and is_web(row):
        only = _url(("url",), row)
        return [dataclasses.replace(only, steps=())] if only is not None else []
    found = [url for steps, value in strings_in(row) if (url := _url(steps, value)) is not None]
    return sorted(found, key=lambda url: (url.rank, url.path))


def strings_in(value: object) -> Iterator[tuple[Place, str]]:
    """(place, string) for every string inside a JSON value; no recursion, since the API chooses the depth."""
    waiting: list[tuple[Place, object]] = [((), value)]
    while waiting:
        place, value = waiting.pop()
        if isinstance(value, str):
            yield place, value
        elif isinstance(value, dict):
            waiting += [((*place, str(name)), inner) for name, inner in value.items()]
        elif isinstance(value, list):
            waiting += [((*place, number), inner) for number, inner in enumerate(value)]


def _url(steps: Place, value: str) -> FoundUrl | None:
    url = value.replace("\0", "").strip(_URL_ENDS)
    if not url.strip():
        return None
    names = [str(step) for step in steps]
    dotted = ".".join(names)
    for rank, field in enumerate(URL_FIELDS):
        if matched := field.path.fullmatch(dotted):
            if field.watermarked and not is_web(url):
                return None
            suffix = matched.expand(field.suffix)
            return FoundUrl(rank, dotted, steps, _sound(url), suffix, field.watermarked)
    if is_web(url) and any("url" in name.lower() for name in names):
        suffix = "." + ".".join(safe(name) for name in names)
        return FoundUrl(len(URL_FIELDS), dotted, steps, _sound(url), short(suffix), "watermark" in dotted)
    return None


def _sound(url: str) -> str:
    """A URL that can be stored. Cutting a monstrous one would break its signature, so it is refused."""
    if len(url) > URL_CHARACTERS_MAX:
        raise ApiAnswerUnreadable(f"A result URL of more than {URL_CHARACTERS_MAX} characters.")
    return model.text(url, limit=URL_CHARACTERS_MAX)


def is_web(value: str) -> bool:
    """Whether it begins as an absolute URL with a host."""
    return _WEB.match(value) is not None
