"""The shipped Dockerfile and compose files, as tests read them."""

import re
from collections.abc import Collection, Mapping
from typing import Any

from tests.harness import documents
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


def service(name: str, *, file: str = "compose.yaml") -> dict[str, Any]:
    """One service of a compose file."""
    found = documents.read(DEPLOY / file)["services"][name]
    assert isinstance(found, dict)
    return found


def settings_of_compose(
    *, uncommented: Collection[str] = (), without: Collection[str] = ()
) -> dict[str, str]:
    """`kling.env.example` as an operator fills it in: some lines of it with their comment sign removed."""
    lines = (DEPLOY / "kling.env.example").read_text().splitlines()
    pairs = [line.removeprefix("#").split("=", 1) for line in lines if re.match(r"#?[A-Z_0-9]+=", line)]
    commented = {line.removeprefix("#").split("=", 1)[0] for line in lines if re.match(r"#[A-Z_0-9]+=", line)}
    assert set(uncommented) <= commented
    kept = {name: value for name, value in pairs if name not in commented or name in uncommented}
    return {name: value for name, value in kept.items() if name not in without}


def environment_of(described: Mapping[str, Any], settings: Mapping[str, str]) -> dict[str, str]:
    """The variables that compose gives the service, `settings` being those of kling.env."""
    from_file = settings if described.get("env_file") == ["kling.env"] else {}
    return dict(from_file) | {
        name: interpolated(value, settings) for name, value in described.get("environment", {}).items()
    }


def interpolated(text: str, given: Mapping[str, str]) -> str:
    """As compose replaces `${NAME:-default}` and `${NAME:?why it must be set}`."""

    def value(found: re.Match[str]) -> str:
        name, how, rest = found.groups()
        assert given.get(name) or how == "-", rest
        return given.get(name) or rest

    return re.sub(r"\$\{(\w+):([-?])([^}]*)\}", value, text)
