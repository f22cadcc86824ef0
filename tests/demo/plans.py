"""The tasks that the demo creates, and what is special about each."""

import dataclasses
import enum

GENERATIONS, EXPAND = "images/generations", "images/editing/expand"
SMALL, MEDIUM, LARGE = (256, 256), (512, 400), (704, 704)
"""Pixels: PNGs of about 200 KB, 600 KB and 1.5 MB."""


class Twist(enum.StrEnum):
    """What is special about a task, in words for the screen."""

    HISTORY = "finished before the daemon's first start"
    PLAIN = ""
    DROPPED = "callbacks get lost"
    DOUBLED = "callback comes twice"
    FAILED = "fails upstream"
    GATEWAY = "created through the gateway"


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """A task to create."""

    family: str
    images: int
    size: tuple[int, int] = SMALL
    watermark: bool = False
    twist: Twist = Twist.PLAIN


@dataclasses.dataclass(frozen=True, slots=True)
class CreatedTask:
    """A created task. `folder` is its key prefix in the bucket, slash included, by the contract."""

    task_id: str
    folder: str
    plan: Plan
    names: tuple[str, ...]
    """All files that the bucket must have of it; none if it fails."""


HISTORY = (
    (700, Plan(GENERATIONS, 2, LARGE, twist=Twist.HISTORY)),
    (300, Plan(EXPAND, 1, MEDIUM, watermark=True, twist=Twist.HISTORY)),
    (47, Plan(GENERATIONS, 4, SMALL, twist=Twist.HISTORY)),
    (5, Plan(EXPAND, 3, SMALL, twist=Twist.HISTORY)),
    (1, Plan(GENERATIONS, 1, LARGE, watermark=True, twist=Twist.HISTORY)),
)
"""Each with its age in hours."""

LIVE = (
    Plan(GENERATIONS, 1, LARGE),
    Plan(EXPAND, 2, MEDIUM, twist=Twist.DROPPED),
    Plan(GENERATIONS, 9, SMALL),
    Plan(GENERATIONS, 2, SMALL, watermark=True),
    Plan(GENERATIONS, 1, SMALL, twist=Twist.FAILED),
    Plan(EXPAND, 1, LARGE, twist=Twist.DOUBLED),
    Plan(GENERATIONS, 2, twist=Twist.GATEWAY),
    Plan(GENERATIONS, 3, SMALL, twist=Twist.DROPPED),
    Plan(EXPAND, 4, SMALL, watermark=True),
    Plan(GENERATIONS, 1, MEDIUM, watermark=True),
    Plan(GENERATIONS, 5, SMALL),
    Plan(EXPAND, 1, SMALL),
    Plan(GENERATIONS, 1, twist=Twist.GATEWAY),
    Plan(GENERATIONS, 2, MEDIUM, watermark=True),
)

FIRST_BATCH = len(HISTORY) + sum(plan.twist is not Twist.FAILED for plan in LIVE)
"""Tasks that must be archived before the check."""

ENDLESS = (
    Plan(GENERATIONS, 1),
    Plan(EXPAND, 2),
    Plan(GENERATIONS, 1, watermark=True),
    Plan(EXPAND, 1, twist=Twist.DROPPED),
)
"""Repeated until the user stops the demo; small, because that may take long."""


def short(family: str) -> str:
    """The last segment, for the screen: `expand`."""
    return family.rpartition("/")[2]
