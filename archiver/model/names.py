"""What ids, families and account names may look like, and the keys that are made of them."""

import datetime
import re

LOOKS_LIKE_TASK_ID = re.compile(
    r"[0-9]{6,}|[A-Za-z0-9_-]{22}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE
)
"""The forms of all task ids that were seen so far. Any other id that a user gives is an external id."""
TASK_ID = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._~-]{1,128}")
"""For `fullmatch`. Safe in a path and in a key, hence never `.` or `..`."""

FAMILY = re.compile(
    r"[a-z0-9-]{1,64}(?:/[a-z0-9-]{1,64}){1,2}|tasks/try_on|solutions/[a-z0-9][a-z0-9_-]{0,63}"
)
"""For `fullmatch`. Two or three safe segments; names of solutions have underscores."""

ACCOUNT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""For `fullmatch`. Safe in a key, a message, a log line and a command."""


def task_folder(*, prefix: str, family: str, created_at: int, task_id: str) -> str:
    """`<prefix><family>/<yyyy>/<mm>/<dd>/<task_id>/`, by `created_at` in UTC."""
    return f"{prefix}{family}/{folder_day(created_at)}/{task_id}/"


def folder_day(created_at: int) -> str:
    """`2026/11/20`, in UTC."""
    return f"{datetime.datetime.fromtimestamp(created_at / 1000, tz=datetime.UTC):%Y/%m/%d}"


def text(value: object, *, limit: int = 2000) -> str:
    """Safe to store: no NUL, no lone surrogates, at most `limit` characters."""
    if not isinstance(value, str):
        return ""
    return value[:limit].replace("\0", "").encode("utf-8", "replace").decode("utf-8")
