"""The compose files agree with the program: each role is given what it needs, and nothing else. `test_compose_itself`
holds the reading of them against Compose's own."""

import http.server
import os
import pathlib
import re
import signal
import threading
from typing import Any

import pytest

from archiver.config.roles import ProcessRole
from archiver.config.settings import SETTINGS, Need, Settings
from tests.harness import documents
from tests.harness.deployment import (
    DEPLOY,
    environment_of,
    final_stage,
    image_environment,
    service,
    settings_of_compose,
)

SINGLE, MANY = "compose.yaml", "compose.postgres.yaml"
ROLES = {
    (SINGLE, "kling"): ProcessRole.WHOLE,
    (MANY, "door"): ProcessRole.DOOR,
    (MANY, "work"): ProcessRole.WORK,
    (MANY, "gateway"): ProcessRole.GATEWAY,
}
OURS = [*ROLES, (SINGLE, "caddy"), (MANY, "caddy")]
LINKS = ("KLING_LINK_SECRET_FILE", "KLING_GATEWAY")
PAIR = ("KLING_ACCESS_KEY_FILE", "KLING_SECRET_KEY_FILE")
of_each_role = pytest.mark.parametrize(("place", "role"), ROLES.items(), ids=str)
CHOICES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "pair": ((), ()),
    "API Key": (("KLING_API_KEY_FILE",), PAIR),
    "gateway by a role": (LINKS, ("AWS_SHARED_CREDENTIALS_FILE",)),
    "console": (("KLING_ADMIN_TOKEN_FILE", "KLING_S3_PREFIX", "KLING_S3_REGION"), ()),
}
"""What an operator may choose: the lines of kling.env.example without their comment sign, and those that are gone."""


def services(file: str) -> dict[str, dict[str, Any]]:
    found = documents.read(DEPLOY / file)["services"]
    assert isinstance(found, dict)
    return found


def secrets_in(described: dict[str, Any], folder: pathlib.Path) -> None:
    """Make the secrets that the service can see: everything that lies in the folders that it mounts."""
    for volume in described["volumes"]:
        source, _, target = volume.partition(":")
        if source.startswith("./secrets"):
            assert target == f"{source.replace('./secrets', '/run/secrets')}:ro"
            for name in SECRET_FILES:
                if f"./secrets/{name}".startswith(source):
                    (folder / name).parent.mkdir(exist_ok=True)
                    is_url = name == "ledger/url"
                    text = (
                        "postgresql://kling:word@postgres/kling"
                        if is_url
                        else f"{name}-0123456789-0123456789"
                    )
                    (folder / name).write_text(text.replace("/", "/" if is_url else "-"))


SECRET_FILES = sorted(
    {
        *re.findall(r"/run/secrets/(\S+)", (DEPLOY / "kling.env.example").read_text()),
        *re.findall(r"/run/secrets/(ledger/\S+)", (DEPLOY / MANY).read_text()),
    }
    - {"ledger:ro"}
)


@pytest.mark.parametrize(
    ("place", "choice"),
    [
        (place, choice)
        for place in ROLES
        for choice in CHOICES
        if place[1] != "gateway" or "gateway" in choice
    ],
    ids=str,
)
def test_each_process_starts_with_what_it_is_given(
    place: tuple[str, str], choice: str, tmp_path: pathlib.Path
) -> None:
    file, name = place
    role, (uncommented, without) = ROLES[place], CHOICES[choice]
    described = service(name, file=file)
    secrets_in(described, tmp_path)
    written = settings_of_compose(uncommented=uncommented, without=without)
    environ = image_environment() | environment_of(described, written)
    environ = {key: value.replace("/run/secrets", str(tmp_path)) for key, value in environ.items()}
    settings = Settings.load(environ, need=role.need)

    assert (settings.unknown, settings.misspelled) == ((), ())
    assert settings.ledger_url.startswith("sqlite:////data/" if file == SINGLE else "postgresql://kling")
    assert (settings.api_key is not None) == ("KLING_API_KEY_FILE" in uncommented and role.uses_kling)
    assert bool(settings.link_secret) == (LINKS[0] in uncommented and Need.LINKS in role.need)


@of_each_role
def test_each_service_runs_its_role(place: tuple[str, str], role: ProcessRole) -> None:
    file, name = place
    command = service(name, file=file).get("command", [role.value])

    assert " ".join(command) == role.value


def test_a_door_sees_no_key_of_kling_s_and_none_of_the_bucket() -> None:
    mounted = {volume.split(":")[0] for volume in service("door", file=MANY)["volumes"]}

    assert mounted == {"./secrets/ledger", "./secrets/door"}
    of_work = {volume.split(":")[0] for volume in service("work", file=MANY)["volumes"]}
    assert "./secrets/door" not in of_work
    assert "/data" in of_work, "its spool"


def test_no_secret_stands_in_a_compose_file_or_in_its_settings() -> None:
    secrets = {setting.name for setting in SETTINGS if setting.secret}
    named = set(settings_of_compose())
    for file in (SINGLE, MANY):
        for described in services(file).values():
            named |= set(described.get("environment", {}))

    assert named & secrets == set()


@pytest.mark.parametrize("name", [SINGLE, MANY, "Caddyfile", "kling.env.example"])
def test_every_setting_that_is_named_exists(name: str) -> None:
    known = {setting.name for setting in SETTINGS} | {
        f"{setting.name}_FILE" for setting in SETTINGS if setting.secret
    }
    of_the_proxy = {"KLING_DOOR", "KLING_LINKS"}
    named = set(re.findall(r"\bKLING_[A-Z0-9_]+", (DEPLOY / name).read_text()))

    assert named - known - of_the_proxy - {"KLING_LEDGER_URL_FILE"} == set()


@pytest.mark.parametrize("place", OURS, ids=str)
def test_each_container_is_read_only_without_privileges_and_within_limits(place: tuple[str, str]) -> None:
    file, name = place
    described = service(name, file=file)

    assert described["read_only"] is True
    assert described["cap_drop"] == ["ALL"]
    assert described["security_opt"] == ["no-new-privileges:true"]
    assert described["restart"] == "unless-stopped"
    assert described["mem_limit"]
    assert described["pids_limit"]
    assert described["logging"]["options"] == {"max-size": "10m", "max-file": "5"}
    assert not described.keys() & {
        "privileged",
        "user",
        "userns_mode",
        "pid",
        "ipc",
        "devices",
        "network_mode",
    }
    assert described.get("cap_add", []) == (["NET_BIND_SERVICE"] if name == "caddy" else [])


def test_the_daemon_can_write_to_its_volume_and_a_small_temporary_folder_only() -> None:
    described = service("kling")

    assert described["volumes"] == ["kling-data:/data", "./secrets:/run/secrets:ro"]
    assert described["tmpfs"] == ["/tmp:size=64m,mode=1777"]  # noqa: S108 -- the container's


@pytest.mark.parametrize("file", [SINGLE, MANY])
def test_only_the_reverse_proxy_is_reachable_from_outside_and_it_finds_the_others(file: str) -> None:
    found = services(file)
    names = {*found, *(name for each in found.values() for name in _aliases(each))}
    caddyfile = (DEPLOY / "Caddyfile").read_text()
    given = found["caddy"]["environment"]

    published = {name: described["ports"] for name, described in found.items() if "ports" in described}
    of_this_machine = published.pop("kling", [])
    assert all(port.startswith("127.0.0.1:") for port in of_this_machine)
    assert published.keys() == {"caddy"}
    for variable, default in re.findall(r"reverse_proxy \{\$(\w+):(\S+)\}", caddyfile):
        host, port = given.get(variable, default).split(":")
        assert host in names
        assert port == final_stage()["EXPOSE"]


def _aliases(described: dict[str, Any]) -> list[str]:
    return list(described.get("networks", {}).get("default", {}).get("aliases", []))


@pytest.mark.parametrize("file", [SINGLE, MANY])
def test_what_depends_on_another_waits_until_that_is_healthy(file: str) -> None:
    found = services(file)
    depending = {
        name: described["depends_on"] for name, described in found.items() if "depends_on" in described
    }

    assert depending.keys() >= {"caddy"}
    for dependencies in depending.values():
        for name, how in dependencies.items():
            assert how == {"condition": "service_healthy"}
            ours = found[name].get("image") == "kling-archiver"
            assert "healthcheck" in found[name] or (ours and "HEALTHCHECK" in final_stage())


def test_the_database_is_healthy_only_when_other_containers_reach_it() -> None:
    """At its first start the image of PostgreSQL runs a server that listens on a Unix socket alone."""
    assert "--host=127.0.0.1" in service("postgres", file=MANY)["healthcheck"]["test"]


def test_a_database_that_is_slow_to_start_is_not_given_up() -> None:
    """Compose starts nothing that depends on what has become unhealthy."""
    assert service("postgres", file=MANY)["healthcheck"]["start_period"] == "300s"


@pytest.mark.parametrize(("status", "is_ended"), [(200, False), (404, False), (503, True)])
def test_the_health_check_ends_a_daemon_in_which_a_thread_hangs_and_no_other(
    monkeypatch: pytest.MonkeyPatch, status: int, is_ended: bool
) -> None:
    checks = {tuple(service(name, file=file)["healthcheck"]["test"]) for file, name in ROLES}
    ((kind, program, option, source),) = checks
    assert (kind, program, option) == ("CMD", "python", "-c")
    asked, ended = list[str](), list[tuple[int, int]]()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the library's name
            """Nothing on standard error."""

    monkeypatch.setattr(os, "kill", lambda *given: ended.append(given))
    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        answering = threading.Thread(target=server.handle_request)
        answering.start()
        monkeypatch.setenv("KLING_PORT", str(server.server_port))
        with pytest.raises(SystemExit) as done:
            exec(source, {})  # noqa: S102 -- a file of this repository
        answering.join(60)

    assert (asked, done.value.code) == (["/healthz"], status != 200)
    assert ended == ([(1, signal.SIGTERM)] if is_ended else [])


@of_each_role
def test_compose_waits_longer_for_the_end_of_the_daemon_than_it_takes_by_default(
    place: tuple[str, str], role: ProcessRole
) -> None:
    file, name = place
    settings = Settings.load({}, need=[])
    seconds = int(service(name, file=file)["stop_grace_period"].removesuffix("s"))

    assert seconds > settings.drain_seconds + settings.shutdown_seconds + 5, role


def test_secrets_and_settings_of_an_operator_are_never_committed_or_packed() -> None:
    ignored = (DEPLOY.parent / ".gitignore").read_text().splitlines()

    assert {"deploy/kling.env", "deploy/secrets/"} <= set(ignored)


def test_the_reverse_proxy_logs_no_callback_url() -> None:
    text = (DEPLOY / "Caddyfile").read_text()

    assert "request>uri delete" in text[: text.index("\n(outside)")]
