"""Build the body of a create call from options, files and standard input; `create.rules` checks it.

A mistake is a ValueError with a sentence for the operator.
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
    """The options of `images/editing/expand`: four numbers, or a target to calculate them from."""

    up: float | None = None
    down: float | None = None
    left: float | None = None
    right: float | None = None
    target_ratio: str | None = None
    area: float | None = None
    image_size: str | None = None

    def fields(self, image: object) -> dict[str, float]:
        """Empty if no option was given. `image` is that of the body."""
        single = {"--up": self.up, "--down": self.down, "--left": self.left, "--right": self.right}
        given = [name for name, value in single.items() if value is not None]
        if self.target_ratio is None and self.area is None:
            if self.image_size is not None:
                raise ValueError("--image-size is for --target-ratio and --area only")
            numbers = {name.removeprefix("--"): value or 0.0 for name, value in single.items()}
            return Expansion(**numbers).parameters() if given else {}
        if given:
            raise ValueError(f"--target-ratio and --area calculate {given[0]}: give one or the other")
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
                "--target-ratio and --area need the size of the image: give a file, or --image-size 1024x768"
            )
        try:
            size = images.read(content)
        except ValueError as error:
            raise ValueError(f"image {error}") from error
        return size.width, size.height


def body_of(json_text: str | None, options: Mapping[str, object], sides: Sides) -> dict[str, Any]:
    """The body of `--body` and `options`, by parameter name (None: not given)."""
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
        raise ValueError(f"{twice[0]} is in the body of --body and also given as an option: keep one")
    return body | given


def image_of(option: str) -> str:
    """The `image` parameter: a file as Base64; a URL or Base64 unchanged."""
    if images.is_url(option) or option[:5].lower() == "data:":
        return option
    try:
        content = pathlib.Path(option).read_bytes()
    except (OSError, ValueError) as error:
        if images.decode(option) and len(option) > 64:
            return option
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "not a path"
        raise ValueError(
            f"--image {option[:200]!r} is neither a readable file ({reason}), nor a URL, nor Base64"
        ) from error
    return images.encode(content)


def _require_utf8(name: str, value: str) -> None:
    """Shell arguments may be arbitrary bytes; a mangled prompt would still be paid for."""
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{name} must be UTF-8") from error


def _text_of(option: str) -> str:
    """`-` is standard input, `@name` a file."""
    if option != "-" and not option.startswith("@"):
        return option
    try:
        if option == "-":
            content = sys.stdin.buffer.read(BODY_BYTES_MAX + 1)
        else:
            with pathlib.Path(option[1:]).open("rb") as file:
                content = file.read(BODY_BYTES_MAX + 1)
        if len(content) > BODY_BYTES_MAX:
            raise ValueError(f"--body {option[:200]}: more than {BODY_BYTES_MAX // 1024 // 1024} MiB")
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"--body {option[:200]}: not UTF-8") from error
    except OSError as error:
        raise ValueError(f"--body {option[:200]}: {error.strerror or error}") from error


def _parsed(text: str) -> dict[str, Any]:
    try:
        parsed = json.loads(
            text, object_pairs_hook=_unique_keys, parse_constant=_refuse_constant, parse_float=_finite
        )
        json.dumps(parsed, ensure_ascii=False).encode()
    except RecursionError as error:
        raise ValueError(f"--body must not be nested deeper than {DEPTH_MAX} levels") from error
    except UnicodeEncodeError as error:
        raise ValueError("--body must be UTF-8") from error
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise ValueError(f"--body must be a JSON object, @FILE or -: {error.msg} at {where}") from error
    _require_shallow(parsed)
    if not isinstance(parsed, dict):
        raise ValueError(  # noqa: TRY004 -- an operator's mistake, and all of those are ValueErrors
            '--body must be a JSON object, such as {"prompt": "…"}'
        )
    return parsed


def _require_shallow(parsed: object) -> None:
    """Recursive code would fail on deeper nesting, which no create call has."""
    level = [parsed]
    for _ in range(DEPTH_MAX):
        inside = [value for parent in level if isinstance(parent, dict) for value in parent.values()]
        inside += [value for parent in level if isinstance(parent, list) for value in parent]
        level = [value for value in inside if isinstance(value, dict | list)]
        if not level:
            return
    raise ValueError(f"--body must not be nested deeper than {DEPTH_MAX} levels")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    parsed = dict(pairs)
    if len(parsed) < len(pairs):
        raise ValueError("--body must not name a parameter twice in one object")
    return parsed


def _refuse_constant(word: str) -> object:
    raise ValueError(f"--body must not hold {word}, which is not a number")


def _finite(digits: str) -> float:
    if abs(value := float(digits)) == float("inf"):
        raise ValueError("--body must not hold a number too large for a float")
    return value


def _named(option: str, read: Callable[[str], _Value], text: str) -> _Value:
    try:
        return read(text)
    except ValueError as error:
        raise ValueError(f"{option} {error}") from error
