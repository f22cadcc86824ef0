"""The create call: what the account refuses, and the slots that its tasks take. No HTTP.

As strict as the create pages taken together: what any of them says is impossible is refused with 400/1201 and a text
that names the parameter. Written from the pages alone, so that it can contradict the program's own table. Where pages
differ on which models take a reference image, the account takes it for all that are named.

Order of the checks: parameters, external id, slots; the last two only for a body that is right.
"""

import base64
import binascii
import re
import struct
from collections.abc import Callable, Iterator, Mapping

from tests.simulator.account import TERMINAL, Account, DuplicateExternalId, SimulatedTask
from tests.simulator.families import Family, parameter_faults

Body = Mapping[str, object]


class CreateRefused(Exception):
    """A documented error: HTTP status, code, text."""

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


def create(account: Account, family: Family, body: Body, *, complain: Callable[[str], None]) -> SimulatedTask:
    """The submitted task. Raises `CreateRefused`."""
    refused, unknown = parameter_faults(family, body)
    if unknown:
        complain(f"unknown parameters for {family.path}: {', '.join(unknown)}")
    given = {name: value for name, value in body.items() if value is not None and value != ""}
    refused += [] if refused else PAGES.get(family.path, _nothing)(given)
    if refused:
        raise CreateRefused(400, 1201, f"bad request parameter: {', '.join(refused)}")
    images = given.get("n", 1)
    options = given.get("options") if family.standard == "new" else given
    options = options if isinstance(options, dict) else {}
    external_id, callback_url = options.get("external_task_id"), options.get("callback_url")
    if callback_url is not None and family.path in account.switches.callback_urls_refused:
        raise CreateRefused(400, 1201, "unknown parameter: callback_url")
    watermark = given.get("watermark_info")
    if not isinstance(images, int):
        raise CreateRefused(400, 1201, "bad request parameter: n")
    _take_slots(account, family, images, external_id)
    try:
        return account.create(
            family=family.path,
            images=images,
            watermark=isinstance(watermark, dict) and watermark.get("enabled") is True,
            created_at=None,
            external_task_id=external_id if isinstance(external_id, str) else None,
            callback_url=callback_url if isinstance(callback_url, str) else None,
            series=bool(family.series) and body.get("result_type") == "series",
            indexes=None,
            task_id=None,
            size=None,
            image_format=None,
        )
    except DuplicateExternalId as error:
        raise CreateRefused(400, 1201, str(error)) from error


def _take_slots(account: Account, family: Family, images: int, external_id: object) -> None:
    """429/1303 when the task does not fit: an image task takes as many slots as images until it ends, any other one. A
    repeated external id is refused for itself, whether or not there is room."""
    most = account.switches.slots_max
    if most is None or (isinstance(external_id, str) and account.find(external_id) is not None):
        return
    taken = sum(
        _slots(task.family, len(task.indexes)) for task in account.tasks() if task.status not in TERMINAL
    )
    if taken + _slots(family, images) > most:
        raise CreateRefused(429, 1303, "parallel task over resource pack limit")


def _slots(family: Family, images: int) -> int:
    return images if family.path.startswith("images/") else 1


# --- the pages ------------------------------------------------------------------------------------------

_EIGHT = {"16:9", "9:16", "1:1", "4:3", "3:4", "3:2", "2:3", "21:9"}
_SEVEN = _EIGHT - {"21:9"}

_MAP: Mapping[str, tuple[set[str], set[str], set[str], set[str]]] = {
    # model: ratios from text, ratios from an image, resolutions from text, resolutions from an image
    "kling-v1": (_SEVEN, _SEVEN, {"1k"}, {"1k"}),
    "kling-v1-5": (_EIGHT, _EIGHT, {"1k"}, {"1k"}),
    "kling-v2": (_EIGHT, _EIGHT, {"1k", "2k"}, {"1k"}),
    "kling-v2-new": (set(), _EIGHT, set(), {"1k"}),
    "kling-v2-1": (_EIGHT, _EIGHT, {"1k", "2k"}, {"1k", "2k"}),
    "kling-v3": (_EIGHT, _EIGHT, {"1k", "2k"}, {"1k", "2k"}),
}
_TAKE_REFERENCES = {"kling-v1-5", "kling-v2-1"}
_TAKE_FIDELITY = {"kling-v1", "kling-v1-5", "kling-v2-1"}


def _nothing(_body: Body) -> list[str]:
    return []


def _generations(body: Body) -> list[str]:
    return list(_faults_of_a_generation(body))


def _faults_of_a_generation(body: Body) -> Iterator[str]:
    model = body.get("model_name", "kling-v1")
    if "prompt" not in body:
        yield "prompt"
    if model not in _MAP:
        yield "model_name"
        return
    has_image, reference = "image" in body, body.get("image_reference")
    ratios, resolutions = _MAP[str(model)][has_image], _MAP[str(model)][2 + has_image]
    checks = {
        "model_name": not ratios,
        "aspect_ratio": bool(ratios) and body.get("aspect_ratio", "16:9") not in ratios,
        "resolution": bool(ratios) and body.get("resolution", "1k") not in resolutions,
        "negative_prompt": has_image and "negative_prompt" in body,
        "image": has_image and not _image_is_right(body["image"]),
        "image_reference": (reference is not None and (not has_image or model not in _TAKE_REFERENCES))
        or (has_image and reference is None and model == "kling-v1-5"),
        "image_fidelity": "image_fidelity" in body and (model not in _TAKE_FIDELITY or not has_image),
        "human_fidelity": "human_fidelity" in body
        and (model not in _TAKE_REFERENCES or reference != "subject"),
    }
    yield from (name for name, wrong in checks.items() if wrong)


def _expand(body: Body) -> list[str]:
    down, bottom = body.get("down_expansion_ratio"), body.get("bottom_expansion_ratio")
    if down is None and bottom is None:
        return ["down_expansion_ratio"]
    if None not in (down, bottom) and down != bottom:
        return ["down_expansion_ratio"]
    if "image" not in body or not _image_is_right(body["image"]):
        return ["image"]
    sides = [body["up_expansion_ratio"], bottom if down is None else down]
    sides += [body["left_expansion_ratio"], body["right_expansion_ratio"]]
    up, below, left, right = (float(str(side)) for side in sides)
    too_large = (1 + up + below) * (1 + left + right) > 3.000001
    return ["expansion ratios: area above 3 times the original"] if too_large else []


PAGES: Mapping[str, Callable[[Body], list[str]]] = {
    "images/generations": _generations,
    "images/editing/expand": _expand,
}


# --- images ---------------------------------------------------------------------------------------------


def _image_is_right(value: object) -> bool:
    if not isinstance(value, str):
        return False
    if re.match(r"https?://[^/\s]+", value):
        return True
    try:
        content = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return False
    size = _pixels(content)
    if size is None or len(content) > 10 * 1024 * 1024:
        return False
    width, height = size
    return min(size) >= 300 and 1 / 2.5 <= width / height <= 2.5


def _pixels(content: bytes) -> tuple[int, int] | None:
    """Width and height of a PNG or a JPEG; None for anything else."""
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        width, height = struct.unpack(">II", content[16:24])
        return width, height
    if not content.startswith(b"\xff\xd8"):
        return None
    at = 2
    while at + 9 <= len(content) and content[at] == 0xFF:
        marker, length = content[at + 1], int.from_bytes(content[at + 2 : at + 4])
        if marker in (0xC0, 0xC1, 0xC2):
            height, width = struct.unpack(">HH", content[at + 5 : at + 9])
            return width, height
        at += 2 + length
    return None
