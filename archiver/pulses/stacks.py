"""Where threads are: the innermost call first. No values, which may be secret, and no reading of files."""

import sys
import threading
from collections.abc import Sequence
from types import FrameType

FRAMES_MAX = 30
GROUPS_MAX = 30
"""Of threads at one place: pools have many idle ones."""


def stack_of(thread_id: int) -> list[str]:
    """Of one thread; empty when it has ended."""
    return _lines(sys._current_frames().get(thread_id))  # noqa: SLF001 -- documented, and the only way


def all_stacks() -> list[str]:
    """Of every thread, a line for each place: the names of the threads, then their calls."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    places: dict[tuple[str, ...], list[str]] = {}
    for thread_id, frame in sys._current_frames().items():  # noqa: SLF001 -- as above
        places.setdefault(tuple(_lines(frame)), []).append(names.get(thread_id, str(thread_id)))
    return [_line(together, frames) for frames, together in list(places.items())[:GROUPS_MAX]]


def _line(names: Sequence[str], frames: Sequence[str]) -> str:
    return f"{', '.join(names)}: {' < '.join(frames)}"


def _lines(frame: FrameType | None) -> list[str]:
    found: list[str] = []
    while frame is not None and len(found) < FRAMES_MAX:
        found.append(f"{frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_name}")
        frame = frame.f_back
    return found
