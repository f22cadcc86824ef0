"""The shipped Dockerfile and compose files, as tests read them."""

import re
from collections.abc import Mapping

from tests.harness.repository import ROOT

DEPLOY = ROOT / "deploy"


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile as (instruction, arguments), lines joined and comments gone."""
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in joined.splitlines()) if word]


def final_stage() -> dict[str, str]:
    """The last stage's instructions; of one that repeats, the last."""
    found = instructions()
    starts = [place for place, (word, _) in enumerate(found) if word == "FROM"]
    return dict(found[starts[-1] :])


def image_environment() -> dict[str, str]:
    """The variables that the image sets."""
    return dict(re.findall(r"(\w+)=(\S+)", final_stage()["ENV"]))


def service(name: str, *, file: str = "compose.yaml") -> str:
    """One service's block of a compose file, comments gone."""
    text = re.sub(r"(?m)^\s*#.*\n", "", (DEPLOY / file).read_text())
    found = re.search(rf"(?ms)^  {name}:\n(.*?)(?=^  \w|^\w|\Z)", text)
    assert found, f"no service {name}"
    return found[1]


def command_of(block: str) -> list[str]:
    """What the service runs."""
    found = re.search(r"command: \[(.*)\]", block)
    assert found
    return found[1].split(", ")


def environment_of(block: str) -> dict[str, str]:
    """The variables that the compose file gives the service, as they are written."""
    return dict(re.findall(r'^      ((?:KLING|AWS)_\w+): "?([^"\n]*)"?$', block, flags=re.MULTILINE))


def interpolated(text: str, given: Mapping[str, str]) -> str:
    """As compose replaces `${NAME:-default}` and `${NAME:?why it must be set}`."""

    def value(found: re.Match[str]) -> str:
        name, how, rest = found.groups()
        assert given.get(name) or how == "-", rest
        return given.get(name) or rest

    return re.sub(r"\$\{(\w+):([-?])([^}]*)\}", value, text)
