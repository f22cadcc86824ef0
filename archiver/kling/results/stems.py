"""Assets with unique stems, from URLs and the rows that they were found in.

A row's place gives the stem of a name (`0`, `series-0`), the field adds to it (`0.watermark`, `0-1`). Stems are unique
within a task, so the two fields of an audio row add their format (`audio-0.mp3`, `audio-0.wav`). Where two fields give
one name, the later in `URL_FIELDS` gets `.2`. A known field never loses its name to an unknown one, so names do not
depend on which answer (list or single) was read first.
"""

import dataclasses
from collections.abc import Sequence

from archiver.families import STEM_FORMATS
from archiver.kling.results.urls import FoundUrl
from archiver.model import Asset, Place, Role


@dataclasses.dataclass(frozen=True, slots=True)
class Draft:
    """An asset whose stem is not yet unique."""

    stem: str
    found: FoundUrl
    role: Role
    index: int | None
    place: Place


def draft_of(base: str, found: FoundUrl, *, role: Role, index: int | None, row: Place) -> Draft:
    """`base` is the stem by the row's place `row`. The role of a URL in an unknown field is `other`."""
    known_role = role if found.known else Role.OTHER
    return Draft(base + found.suffix, found, known_role, index, (*row, *found.steps))


def with_unique_stems(drafts: Sequence[Draft]) -> tuple[Asset, ...]:
    """The assets in the same order; known fields choose their stems first."""
    taken: set[str] = set()
    stems: dict[int, str] = {}
    for place in sorted(range(len(drafts)), key=lambda place: drafts[place].found.rank):
        stems[place] = _free(drafts[place].stem, taken)
        taken.add(stems[place])
        # `audio-0` with MP3 bytes would be called audio-0.mp3, as `audio-0.mp3` is.
        taken.update(f"{stems[place]}.{format_}" for format_ in STEM_FORMATS)
        taken.update(stems[place].removesuffix(f".{format_}") for format_ in STEM_FORMATS)
    return tuple(
        Asset(
            stem=stems[place],
            url=draft.found.url,
            role=draft.role,
            index=draft.index,
            watermarked=draft.found.watermarked,
            place=draft.place,
        )
        for place, draft in enumerate(drafts)
    )


def _free(stem: str, taken: set[str]) -> str:
    number = 1
    candidate = stem
    while candidate in taken:
        number += 1
        candidate = f"{stem}.{number}"
    return candidate
