"""Image, compose file, reverse proxy and unit agree with the program."""

import http.server
import json
import os
import pathlib
import re
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator

import pytest

from archiver.config.settings import SETTINGS, Settings
from tests.harness.deployment import (
    DEPLOY,
    final_stage,
    image_environment,
    instructions,
)
from tests.harness.repository import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
KNOWN = (
    {setting.name for setting in SETTINGS}
    | {f"{setting.name}_FILE" for setting in SETTINGS if setting.secret}
    | {"KLING_CONFIG", "KLING_LEDGER_URL_FILE"}
)
SECRETS = {setting.name for setting in SETTINGS if setting.secret}
OURS_ELSEWHERE = {"KLING_DOMAIN", "KLING_ROUTES", "KLING_DOOR", "KLING_LINKS"}
"""Of the compose file and the Caddyfile; the daemon never sees them."""


DOCKERFILE = instructions()


# --- the image ------------------------------------------------------------------------------------------


def test_nothing_is_installed_into_the_image_that_is_not_named_by_its_hash() -> None:
    commands = [part for word, rest in DOCKERFILE if word == "RUN" for part in rest.split("&&")]
    installs = [command for command in commands if re.search(r"/pip .*\b(install|wheel)\b", command)]

    assert len(installs) >= 3
    assert [text for text in installs if "--require-hashes" not in text and "--no-index" not in text] == []


def test_the_build_lock_agrees_with_the_development_lock_and_has_the_build_backend() -> None:
    def pins(path: pathlib.Path) -> dict[str, frozenset[str]]:
        blocks = re.findall(r"(?ms)^([\w.-]+==[^\s;]+)(.*?)(?=^[\w.-]+==|\Z)", path.read_text())
        return {name: frozenset(re.findall(r"sha256:\w+", hashes)) for name, hashes in blocks}

    build, development = pins(DEPLOY / "build.lock"), pins(ROOT / "tests" / "requirements.lock")

    assert {name: development.get(name) for name in build} == build
    assert [name for name in build if name.startswith("hatchling==")]


def test_everything_copied_into_the_image_is_there_and_passes_the_dockerignore() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {
        source
        for word, rest in DOCKERFILE
        if word == "COPY" and not rest.startswith("--from")
        for source in rest.split()[:-1]
    }

    assert {source.partition("/")[0] for source in copied} == allowed
    assert [source for source in copied if not (ROOT / source).exists()] == []


def test_the_build_context_is_closed_except_for_what_is_named() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()

    assert next(line for line in lines if line and not line.startswith("#")) == "*"


def test_the_image_runs_as_a_numeric_user_who_is_not_root() -> None:
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", final_stage()["USER"])


def test_the_image_says_what_it_is_as_the_package_does() -> None:
    labels = dict(re.findall(r'org\.opencontainers\.image\.(\w+)="([^"]*)"', final_stage()["LABEL"]))

    assert labels == {
        "title": PROJECT["name"],
        "description": PROJECT["description"],
        "version": PROJECT["version"],
        "licenses": PROJECT["license"],
    }


def test_what_is_installed_in_the_image_has_no_installer_of_its_own() -> None:
    made = [rest for word, rest in DOCKERFILE if word == "RUN" and "/opt/kling" in rest and "-m venv" in rest]

    assert len(made) == 1
    assert "-m venv --without-pip /opt/kling" in made[0]


def test_the_image_makes_no_volume_by_itself() -> None:
    assert "VOLUME" not in dict(DOCKERFILE)


def test_the_image_keeps_ledger_and_spool_under_data_and_listens_on_all_addresses() -> None:
    environ = {name: value for name, value in image_environment().items() if name.startswith("KLING_")}
    settings = Settings.load(environ, need=[])

    assert settings.unknown == ()
    assert settings.ledger_url == "sqlite:////data/kling-ledger.db"
    assert str(settings.spool_dir) == "/data/spool"
    assert settings.host == "0.0.0.0"  # noqa: S104 - inside a container that is the point
    assert str(settings.port) == final_stage()["EXPOSE"]


def test_no_secret_and_no_credential_is_baked_into_the_image() -> None:
    baked = {
        name for word, rest in DOCKERFILE if word in {"ENV", "ARG"} for name in re.findall(r"(\w+)=", rest)
    }

    assert baked & SECRETS == set()
    assert [name for name in baked if name.startswith("AWS_")] == []


def test_the_image_starts_a_command_of_the_project_directly_so_that_it_gets_the_signals() -> None:
    (command,) = json.loads(final_stage()["CMD"])

    assert command in PROJECT["scripts"]


@pytest.fixture
def door() -> Iterator[http.server.HTTPServer]:
    """A stand-in for the daemon: answers each path with its status in `statuses`."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(statuses[self.path])
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
            """Nothing on standard error."""

    statuses = {"/healthz": 200}
    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        server.statuses = statuses  # type: ignore[attr-defined]  # for the tests to change
        threading.Thread(target=server.serve_forever).start()
        yield server
        server.shutdown()


def health(port: int) -> int:
    """The exit status of the image's health check against a daemon on this port, a proxy being configured."""
    command = json.loads(final_stage()["HEALTHCHECK"].partition("CMD ")[2])
    assert command[0] == "python"
    environ = os.environ | {"KLING_PORT": str(port), "http_proxy": "http://127.0.0.1:9", "no_proxy": ""}
    done = subprocess.run(
        [sys.executable, *command[1:]], env=environ, check=False, capture_output=True, timeout=60
    )
    return done.returncode


def test_the_health_check_passes_while_the_daemon_answers(door: http.server.HTTPServer) -> None:
    assert health(door.server_port) == 0


def test_the_health_check_fails_when_the_daemon_answers_something_else(door: http.server.HTTPServer) -> None:
    door.statuses["/healthz"] = 500  # type: ignore[attr-defined]  # see the fixture

    assert health(door.server_port) == 1


def test_the_health_check_fails_without_an_answer(door: http.server.HTTPServer) -> None:
    port = door.server_port
    door.shutdown()
    door.server_close()

    assert health(port) != 0
