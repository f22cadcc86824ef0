"""Compose reads both files, and as the other tests read them."""

import pathlib

import pytest

from tests.deploy import compose
from tests.harness.deployment import DEPLOY, environment_of, service, settings_of_compose

SERVICES = {
    "compose.yaml": {"kling", "caddy"},
    "compose.postgres.yaml": {"door", "work", "gateway", "postgres", "caddy"},
}
EXAMPLE = (DEPLOY / "kling.env.example").read_text()

pytestmark = pytest.mark.skipif(
    not compose.command(), reason="Compose is missing: apt-get install docker-compose"
)


@pytest.mark.parametrize("file", SERVICES)
def test_compose_gives_each_service_what_the_tests_say_it_gets(file: str, tmp_path: pathlib.Path) -> None:
    compose.lay(file, tmp_path, EXAMPLE)
    services = compose.resolved(file, tmp_path)

    assert services.keys() == SERVICES[file]
    for name, described in services.items():
        assert described.get("environment", {}) == environment_of(
            service(name, file=file), settings_of_compose()
        ), name


def test_compose_refuses_to_start_without_the_settings(tmp_path: pathlib.Path) -> None:
    compose.lay("compose.yaml", tmp_path, EXAMPLE.replace("KLING_PUBLIC_URL=", "#"))

    with pytest.raises(compose.Refused, match="give the settings, --env-file"):
        compose.resolved("compose.yaml", tmp_path)
