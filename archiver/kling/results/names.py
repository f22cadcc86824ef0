"""Names that the API chose, made fit for keys, log lines and file names."""

import hashlib
import re

NAME_CHARACTERS_MAX = 64


def safe(name: str) -> str:
    """A name from outside, fit for a key, a log line and a file name."""
    return short(re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip(".-") or "unnamed")


def short(name: str) -> str:
    """At most `NAME_CHARACTERS_MAX` characters; long names that differ stay different."""
    if len(name) <= NAME_CHARACTERS_MAX:
        return name
    digest = hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()[:8]
    return f"{name[: NAME_CHARACTERS_MAX - 9]}-{digest}"
