"""From options, files and standard input to the body of a create call. What may stand in it, `creating` knows.

A mistake is a ValueError with a sentence for the user.
"""

import dataclasses
import json
import pathlib
import sys
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from archiver.create import images
from archiver.create.expansion import Expansion, expansion_to, pixels_of, ratio_of

_Value = TypeVar("_Value")

DEPTH_MAX = 32
BODY_BYTES_MAX = 64 * 1024 * 1024


@dataclasses.dataclass(frozen=True, slots=True)
class Sides:
    """How `images/editing/expand` is told where to grow: four numbers, or a picture to reach."""

    up: float | None = None
    down: float | None = None
    left: float | None = None
    right: float | None = None
    target_ratio: str | None = None
    area: float | None = None
    image_size: str | None = None

    def fields(self, image: object) -> dict[str, float]:
        """The parameters; none when nothing was said. `image` is that of the body."""
        single = {"--up": self.up, "--down": self.down, "--left": self.left, "--right": self.right}
        given = [name for name, value in single.items() if value is not None]
        if self.target_ratio is None and self.area is None:
            if self.image_size is not None:
                raise ValueError("--image-size is for --target-ratio and --area only")
            numbers = {name.removeprefix("--"): value or 0.0 for name, value in single.items()}
            return Expansion(**numbers).parameters() if given else {}
        if given:
            raise ValueError(
                f"{given[0]} says how far, and --target-ratio and --area calculate it: give one or the other"
            )
        return self._calculated(image).parameters()

    def _calculated(self, image: object) -> Expansion:
        width, height = self._pixels(image)
        ratio = None if self.target_ratio is None else _named("--target-ratio", ratio_of, self.target_ratio)
        try:
            return expansion_to(width, height, ratio=ratio, area=self.area)
        except ValueError as error:
            raise ValueError(f"--target-ratio and --area: {error}") from error

    def _pixels(self, image: object) -> tuple[int, int]:
        if self.image_size is not None:
            return _named("--image-size", pixels_of, self.image_size)
        content = images.decode(image) if isinstance(image, str) else None
        if content is None:
            raise ValueError(
                "--target-ratio and --area need to know how large the image is: give a file, or --image-size 1024x768"
            )
        try:
            found = images.read(content)
        except ValueError as error:
            raise ValueError(f"image {error}") from error
        return found.width, found.height


def body_of(json_text: str | None, options: Mapping[str, object], sides: Sides) -> dict[str, Any]:
    """The body that `--json` gives, with `options` (parameter names; None where not given) laid beside it."""
    body = {} if json_text is None else _parsed(_text_of(json_text))
    given = {name: value for name, value in options.items() if value is not None}
    for name, value in given.items():
        if isinstance(value, str) and not value.isascii():
            _require_utf8(name, value)
    if "image" in given:
        given["image"] = image_of(str(given["image"]))
    given |= sides.fields(given.get("image", body.get("image")))
    twice = sorted(set(body) & set(given))
    if twice:
        raise ValueError(f"{twice[0]} stands in the body of --json and is given as an option, too: keep one")
    return body | given


def image_of(written: str) -> str:
    """The `image` parameter: a file's content as Base64; a URL or Base64 as it is."""
    if images.is_url(written) or written[:5].lower() == "data:":
        return written
    try:
        content = pathlib.Path(written).read_bytes()
    except (OSError, ValueError) as error:
        if images.decode(written) and len(written) > 64:
            return written
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "not a path"
        raise ValueError(
            f"--image {written[:200]!r} is no readable file ({reason}), no URL and no Base64"
        ) from error
    return images.encode(content)


def _require_utf8(name: str, value: str) -> None:
    """What the shell hands over need not be text; the API would take the remains for the wish."""
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{name} must be UTF-8") from error


def _text_of(written: str) -> str:
    """`--json` itself, the file behind `@name`, or standard input for `-`."""
    if written != "-" and not written.startswith("@"):
        return written
    try:
        if written == "-":
            raw = sys.stdin.buffer.read(BODY_BYTES_MAX + 1)
        else:
            with pathlib.Path(written[1:]).open("rb") as file:
                raw = file.read(BODY_BYTES_MAX + 1)
        if len(raw) > BODY_BYTES_MAX:
            raise ValueError(f"--json {written[:200]}: more than {BODY_BYTES_MAX // 1024 // 1024} MiB")
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"--json {written[:200]}: not UTF-8") from error
    except OSError as error:
        raise ValueError(f"--json {written[:200]}: {error.strerror or error}") from error


def _parsed(text: str) -> dict[str, Any]:
    try:
        parsed = json.loads(text, object_pairs_hook=_once, parse_constant=_no_number, parse_float=_real)
        json.dumps(parsed, ensure_ascii=False).encode()
    except RecursionError as error:
        raise ValueError(f"--json must not be nested deeper than {DEPTH_MAX} levels") from error
    except UnicodeEncodeError as error:
        raise ValueError("--json must be UTF-8") from error
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise ValueError(f"--json must be a JSON object, @FILE or -: {error.msg} at {where}") from error
    _require_shallow(parsed)
    if not isinstance(parsed, dict):
        raise ValueError(  # noqa: TRY004 -- the user's mistake, not a caller's: all of them are of one kind
            '--json must be a JSON object, such as {"prompt": "…"}'
        )
    return parsed


def _require_shallow(parsed: object) -> None:
    """What is nested deeper than anything that a create call means would only break those who write it again."""
    level = [parsed]
    for _ in range(DEPTH_MAX):
        inside = [value for one in level if isinstance(one, dict) for value in one.values()]
        inside += [value for one in level if isinstance(one, list) for value in one]
        level = [value for value in inside if isinstance(value, dict | list)]
        if not level:
            return
    raise ValueError(f"--json must not be nested deeper than {DEPTH_MAX} levels")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    parsed = dict(pairs)
    if len(parsed) < len(pairs):
        raise ValueError("--json must not name a parameter twice in one object")
    return parsed


def _no_number(word: str) -> object:
    raise ValueError(f"--json must not hold {word}, which is no number")


def _real(digits: str) -> float:
    if abs(value := float(digits)) == float("inf"):
        raise ValueError("--json must not hold a number beyond every float")
    return value


def _named(option: str, read: Callable[[str], _Value], written: str) -> _Value:
    try:
        return read(written)
    except ValueError as error:
        raise ValueError(f"{option} {error}") from error
