"""Files of real encoders, whole and damaged: the table of `tests/media_corpus` is what we say of each."""

import pytest

from tests.media_corpus.damage import damages
from tests.media_corpus.table import FOLDER, Row, files, name_of, read, size_of, verdict

ROWS = read()
FILES = {name_of(path): path for path in files()}
BYTES_MAX = 1_500_000

ZEROED = (
    "zeroed from 2% to 10%",
    "zeroed from 30% to 40%",
    "zeroed from 33% to 67%",
    "zeroed from 50% to 100%",
    "zeroed from 90% to 100%",
)
ONLY_A_DECODER_SEES = {
    "encoded/gif_imagemagick.gif": {"zeroed from 30% to 40%"},
    "encoded/gif_imagemagick_interlaced.gif": {"zeroed from 30% to 40%"},
    "encoded/mov_prores.mov": {"zeroed from 2% to 10%"},
    "encoded/tiff_tiffcp_tiled.tiff": {"zeroed from 33% to 67%"},
    "encoded/webm_vp8_vorbis.webm": {"zeroed from 30% to 40%", "bit 0x20 flipped at byte 820"},
    "encoded/webp_cwebp_black.webp": set(ZEROED),
    "encoded/webp_cwebp_lossless.webp": set(ZEROED[1:]),
    "encoded/webp_cwebp_lossless_alpha.webp": set(ZEROED[1:]),
}
"""Inside compressed data without checksums, where every byte may be any: a black WebP is mostly zeros."""

OFFSETS_ARE_OFF = {"whole/mp4_free_first.mp4", "whole/mp4_skip_first.mp4", "whole/mp4_uuid_first.mp4"}
"""A box was put in front and the sample tables were left as they were: demuxers take them, decoders do not."""


def test_the_table_has_every_file_and_the_corpus_stays_small() -> None:
    assert list(ROWS) == list(FILES)
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) < BYTES_MAX


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_an_encoder_gets_the_verdict_of_the_table(name: str) -> None:
    data = FILES[name].read_bytes()
    row = ROWS[name]
    letter, media = verdict(data)

    found = media.content_type if media else "-", size_of(media), letter
    assert found == (row.type, row.size, row.verdict)
    assert (row.verdict == "w") == (not name.startswith("broken/"))


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row.damaged])
def test_a_damaged_file_gets_the_verdict_of_the_table(name: str) -> None:
    path = FILES[name]
    found = {damage: verdict(data)[0] for damage, data in damages(path.read_bytes(), path.suffix[1:])}

    assert "".join(found.values()) == ROWS[name].damaged
    assert len(found) == 20


def _called_whole(row: Row, opinion: str) -> set[str]:
    path = FILES[row.file]
    names = [name for name, _ in damages(path.read_bytes(), path.suffix[1:])]
    said = zip(names, row.damaged, row.damaged_decoder, strict=True)
    return {name for name, ours, decoder in said if (ours, decoder) == ("w", opinion)}


def test_what_a_decoder_cannot_show_is_not_called_whole() -> None:
    found = {
        row.file: called
        for row in ROWS.values()
        if row.damaged and row.file not in OFFSETS_ARE_OFF and (called := _called_whole(row, "x"))
    }

    assert found == ONLY_A_DECODER_SEES


def test_what_a_decoder_shows_is_not_refused() -> None:
    refused = {row.file for row in ROWS.values() if row.decoder != "x" and row.verdict != "w"}

    assert refused == set()


def test_no_damage_makes_a_file_too_large_to_be_tried_again() -> None:
    """That would bury its task."""
    assert [row.file for row in ROWS.values() if "l" in row.damaged] == []
