"""Everything about the account that the documentation leaves open, as switches that a test may flip at any time.

Plain assignments: each is read once per request or status change, so a flip takes effect with the next one.
"""

import dataclasses
from typing import Literal

from tests.simulator.media import ImageFormat

ListOrder = Literal["newest_first", "oldest_first", "shuffled"]


@dataclasses.dataclass(slots=True)
class Switches:
    """The defaults are what the tests of the main path want: small images, quick, nothing going wrong."""

    list_order: ListOrder = "newest_first"
    """`shuffled` is shuffled anew for every call."""
    list_page_rows_max: int | None = None
    """Serve smaller pages than asked for: page k begins at row (k-1) × this."""
    limit_ignored: bool = False
    """Whether `/tasks` and `/solutions` serve all that there is in one page, whatever `limit` asks for."""
    purge_rows: bool = True
    """Whether a task vanishes from queries 30 days after `created_at`. Its files vanish either way."""
    tasks_show: frozenset[str] = frozenset({"legacy", "new"})
    """Tasks of which standards `/tasks` shows; whether solutions are among them is undocumented."""
    window_time: Literal["created_at", "updated_at"] = "created_at"
    """Which time a window of `/tasks` goes by."""
    window_bounds: tuple[bool, bool] = (True, True)
    """Whether start and end belong to the window. Those of `/solutions` are documented: the start does, the end not."""
    cursor_pages_max: int | None = None
    """So many pages a cursor leads to before it is refused; None: to the end."""
    solution_shape: Literal["outputs", "images"] = "outputs"
    """What a solution's results look like in queries and callbacks."""
    lists_offered: bool = True
    """Off: a gateway that passes on questions for one task only."""
    tasks_offered: bool = True
    """Off: a gateway without `/tasks` and `/solutions`."""
    unoffered_answer: Literal["404", "405", "html"] = "404"
    """How such a gateway answers: with an error, or with its front page."""
    answers_dated: bool = True
    """Off: a gateway whose answers have no `Date`."""
    tokens_taken: bool = True
    """Off: a gateway that knows static keys only."""
    fresh_urls: bool = True
    """Every query signs anew; off: the same URL every time."""
    url_lifetime_seconds: float | None = None
    """From the query on; None: until 30 days after the task's `updated_at`, as observed."""
    cdn_origin: str | None = None
    """`https://host` to write into result URLs instead of the simulator's own origin."""
    image_size: tuple[int, int] = (24, 24)
    """Pixels, width and height; a PNG has 3 bytes of noise for each: (704, 704) is about 1.5 MB."""
    image_format: ImageFormat = "png"
    callback_statuses: frozenset[str] = frozenset({"processing", "succeed", "failed"})
    """Which status changes notify. Whether `submitted` does is undocumented; add it to see."""
    callback_drop: bool = False
    callback_double: bool = False
    callback_reorder: bool = False
    """Hold `submitted` and `processing` back until the task's last callback is out."""
    callback_delay_seconds: float = 0.0
    signing_secret: str | None = None
    """`whsec_…`: sign callbacks as Standard Webhooks."""
    callback_urls_refused: frozenset[str] = frozenset()
    """Families whose creates take no `callback_url`: 400/1201, and the text names it."""
    create_seconds: float = 0.0
    """Real seconds from when a create has made its task until it is answered."""
    slots_max: int | None = None
    """How many slots the account's pack has; a create beyond them is answered 429/1303. None: no end of them."""
    progress_seconds: tuple[float, float] | None = None
    """Real seconds after creation until processing and until succeed; None: only the test moves tasks."""
