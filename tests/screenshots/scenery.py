"""Pictures for pictures: landscapes, painted by arithmetic, each the same for the same number. No I/O.

In few colours, as posters are: a page full of them is a small file.
"""

import math
import random
import struct
import zlib
from collections.abc import Callable

Colour = tuple[float, float, float]
_PALETTES: tuple[tuple[Colour, Colour, Colour, Colour], ...] = (
    # top of the sky, horizon, sun, nearest hill
    ((38, 48, 110), (250, 160, 120), (255, 226, 170), (28, 24, 56)),
    ((20, 30, 70), (110, 140, 200), (245, 245, 255), (14, 22, 44)),
    ((90, 170, 220), (235, 240, 230), (255, 250, 220), (30, 84, 66)),
    ((120, 50, 100), (255, 190, 110), (255, 240, 190), (56, 20, 48)),
    ((40, 90, 110), (190, 225, 200), (250, 255, 235), (16, 52, 56)),
    ((70, 60, 140), (240, 190, 220), (255, 245, 250), (36, 28, 80)),
    ((10, 14, 36), (60, 50, 110), (230, 230, 255), (6, 8, 20)),
    ((240, 150, 70), (255, 225, 150), (255, 255, 230), (110, 48, 28)),
)
_HILLS = 4
_BANDS, _HALOS = 9, 4
"""Of the sky, and around the sun."""


def landscape(number: int, width: int, height: int) -> bytes:
    """A PNG."""
    chance = random.Random(number)
    sky, horizon, sun, near = _PALETTES[number % len(_PALETTES)]
    sun_x, sun_y = chance.uniform(0.2, 0.8) * width, chance.uniform(0.18, 0.5) * height
    sun_radius = chance.uniform(0.05, 0.1) * width
    hills = [_hill(chance, layer, width, height) for layer in range(_HILLS)]
    rows = bytearray()
    for y in range(height):
        rows.append(0)
        backdrop = _mixed(sky, horizon, int(_BANDS * min(1.0, y / (0.62 * height))) / _BANDS)
        for x in range(width):
            colour = backdrop
            distance = math.hypot(x - sun_x, y - sun_y)
            if distance < sun_radius:
                colour = sun
            elif (halo := int(distance / sun_radius * 1.6)) < _HALOS:
                colour = _mixed(colour, sun, 0.32 - 0.07 * halo)
            for layer, top in enumerate(hills):
                if y >= top(x):
                    colour = _mixed(horizon, near, (layer + 1) / _HILLS)
            rows += bytes(map(int, colour))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(rows), 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def _hill(chance: random.Random, layer: int, width: int, height: int) -> Callable[[int], float]:
    """The height of its ridge at each x."""
    base = height * (0.56 + 0.12 * layer)
    waves = [
        (chance.uniform(0.02, 0.06) * height / step, chance.uniform(0.6, 1.5) * step, chance.uniform(0, 6.3))
        for step in (1, 2.3, 5)
    ]
    ridge = [
        base + sum(size * math.sin(6.283 * turns * x / width + shift) for size, turns, shift in waves)
        for x in range(width)
    ]
    return ridge.__getitem__


def _mixed(one: Colour, other: Colour, share: float) -> Colour:
    return (
        one[0] + (other[0] - one[0]) * share,
        one[1] + (other[1] - one[1]) * share,
        one[2] + (other[2] - one[2]) * share,
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
