"""Python and the libraries, against what this version was built for."""

import importlib.metadata
import platform
import re
import sys
from collections.abc import Callable, Iterable, Iterator

from archiver.audit.doctor.finding import Finding, failed, ok, warning
from archiver.version import VERSION

PYTHON_MIN = (3, 11)
_DISTRIBUTION = "kling-archiver"
_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?\s*([^;]*)(;.*)?")
_BOUND = re.compile(r"(>=|<=|==|<|>)\s*([0-9][0-9.]*)")
_REINSTALL = "Install it again into an environment of its own: uv tool install, pipx install, or a new venv."


def python() -> Iterator[Finding]:
    """The interpreter."""
    version = platform.python_version()
    if sys.version_info[:2] < PYTHON_MIN:
        wanted = ".".join(map(str, PYTHON_MIN))
        yield failed(f"Python {version}: {wanted} or newer is needed", _REINSTALL)
    else:
        yield ok(f"kling-archiver {VERSION}, Python {version}")


def libraries(
    requirements: Iterable[str] | None = None,
    version_of: Callable[[str], str] = importlib.metadata.version,
) -> Iterator[Finding]:
    """Each requirement of the package that is installed here."""
    try:
        wanted = (
            list(importlib.metadata.requires(_DISTRIBUTION) or ())
            if requirements is None
            else list(requirements)
        )
    except importlib.metadata.PackageNotFoundError:
        yield warning(
            "run from a folder, not installed: the versions of its libraries are not known", _REINSTALL
        )
        return
    found = [finding for requirement in wanted if (finding := _judge(requirement, version_of))]
    yield from found or [ok(f"{len([name for name in wanted if 'extra' not in name])} libraries as required")]


def _judge(requirement: str, version_of: Callable[[str], str]) -> Finding | None:
    """None if all is well, and for a library that only some installations need."""
    parts = _REQUIREMENT.fullmatch(requirement.strip())
    if parts is None or "extra" in (parts[3] or ""):
        return None
    name, bounds = parts[1], parts[2].strip()
    try:
        version = version_of(name)
    except importlib.metadata.PackageNotFoundError:
        return None if parts[3] else failed(f"the library {name} is missing", _REINSTALL)
    unmet = [f"{sign}{bound}" for sign, bound in _BOUND.findall(bounds) if not _meets(version, sign, bound)]
    if unmet:
        return warning(f"{name} {version}: {', '.join(unmet)} is needed", _REINSTALL)
    return None


def _meets(version: str, sign: str, bound: str) -> bool:
    """By numbers alone: a pre-release counts as its release."""
    have, want = _numbers(version), _numbers(bound)
    length = max(len(have), len(want))
    have, want = have + (0,) * (length - len(have)), want + (0,) * (length - len(want))
    return {">=": have >= want, "<=": have <= want, "==": have == want, "<": have < want, ">": have > want}[
        sign
    ]


def _numbers(version: str) -> tuple[int, ...]:
    release = re.match(r"[0-9]+(?:\.[0-9]+)*", version)
    return tuple(map(int, release[0].split("."))) if release else ()
