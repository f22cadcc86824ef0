"""deploy/compose.yaml, as Docker and Compose start it with the image that was built."""

import http.client
import pathlib
import shutil
import time
from collections.abc import Iterator, Mapping

from tests.deploy import compose
from tests.harness.deployment import DEPLOY
from tests.harness.programs import program
from tests.image.engine import Engine

FILE, PROJECT = "compose.yaml", "kling-archiver"
TOKEN = "a-token-of-nobody-at-all"
NOWHERE = "http://127.0.0.1:9"
SECRETS = {
    "kling/access_key": "an-access-key",
    "kling/secret_key": "a-secret-key-of-nobody",
    "door/callback_token": TOKEN,
    "store/aws_credentials": "[default]\naws_access_key_id = nobody\naws_secret_access_key = nobody",
}
CADDY = """\
FROM debian-python
COPY caddy /usr/bin/caddy
CMD ["caddy", "run", "--config", "/etc/caddy/Caddyfile", "--adapter", "caddyfile"]
"""
"""In place of `caddy:2`, which only a registry has: Debian's program, started as that image starts it."""
FREE_PORTS = {
    'ports: ["127.0.0.1:8080:8080"]': "",
    'ports: ["80:80", "443:443", "443:443/udp"]': 'ports: ["127.0.0.1::80"]',
}
"""Nothing else of the file is changed."""
TASK = "831768251064815642"
BACKUP = "kling-archiver backup copy.db && mkdir aside && mv copy.db aside/"
RESTORE = "umask 077; mkdir old; mv kling-ledger.db* old/; cat aside/copy.db >kling-ledger.db"
BODY = f'{{"task_id":"{TASK}","task_status":"succeed","task_info":{{}}}}'


def problems(engine: Engine, work: pathlib.Path) -> Iterator[str]:
    """Each is a sentence. The engine has the images."""
    _lay(work)
    composition = Composition(engine, work)
    try:
        yield from _problems_of(composition)
    finally:
        composition.run("down", "--volumes", "--timeout", "0")


class Composition:
    """The commands of README: `docker compose --env-file … -f … COMMAND`."""

    def __init__(self, engine: Engine, work: pathlib.Path) -> None:
        self._engine, self._work = engine, work

    def run(self, *command: str, given: str = "") -> tuple[int, str]:
        """Exit status and output."""
        options = ["-p", PROJECT, "--env-file", "kling.env", "-f", FILE]
        done = self._engine.run(*compose.command(), *options, *command, cwd=self._work, given=given)
        return done.returncode, done.stdout if done.returncode == 0 else done.stdout + done.stderr

    def callback(self) -> int:
        """The status with which the reverse proxy answers one."""
        _, place = self.run("port", "caddy", "80")
        proxy = http.client.HTTPConnection("127.0.0.1", int(place.strip().rpartition(":")[2]), timeout=30)
        proxy.request("POST", f"/callbacks/{TOKEN}/images/generations", BODY, {"Host": "localhost"})
        return proxy.getresponse().status

    def exit_status(self, service: str) -> str:
        """Of its container, which is stopped."""
        _, container = self.run("ps", "-q", service)
        return self._engine.run(
            "docker", "inspect", "-f", "{{.State.ExitCode}}", container.strip()
        ).stdout.strip()


def _lay(work: pathlib.Path) -> None:
    """As README says. The door is reached by http, since nobody certifies `localhost`."""
    settings = _settings({"KLING_PUBLIC_URL": "http://localhost"})
    compose.lay(FILE, work, settings)
    text = (work / FILE).read_text()
    for old, new in FREE_PORTS.items():
        assert old in text, old
        text = text.replace(old, new)
    (work / FILE).write_text(text)
    shutil.copy(DEPLOY / "Caddyfile", work)
    for name, secret in SECRETS.items():
        (work / "secrets" / name).parent.mkdir(parents=True, exist_ok=True)
        (work / "secrets" / name).write_text(f"{secret}\n")


def _settings(changed: Mapping[str, str]) -> str:
    """kling.env.example, with neither account nor bucket in reach: the door opens all the same."""
    given = {"KLING_BASE_URL": NOWHERE, "KLING_S3_ENDPOINT_URL": NOWHERE, **changed}
    kept = [
        line
        for line in (DEPLOY / "kling.env.example").read_text().splitlines()
        if line.partition("=")[0] not in given
    ]
    return "\n".join([*kept, *(f"{name}={value}" for name, value in given.items())]) + "\n"


def _problems_of(composition: Composition) -> Iterator[str]:
    # Compose starts Caddy only when the daemon's health check has passed.
    status, said = composition.run("up", "--detach", "--no-build")
    if status:
        yield f"`up` ends with {status}: {said}"
        return
    if (answered := _answer(composition)) != 200:
        yield f"a callback through the proxy is answered by {answered}"
    status, said = composition.run("exec", "-T", "kling", "kling-archiver", "show", TASK)
    if status or "reported" not in said:
        yield f"`exec` ends with {status}, and does not show the task of the callback: {said}"
    yield from _problems_of_restoring(composition)


def _answer(composition: Composition) -> int:
    """Once Caddy listens, which `up` does not wait for."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return composition.callback()
        except (OSError, http.client.HTTPException):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def _problems_of_restoring(composition: Composition) -> Iterator[str]:
    """README's commands: the copy is the ledger again, and its owner the container's user."""
    yield from _failed(composition, "exec", "-T", "kling", "sh", "-ec", BACKUP)
    yield from _failed(composition, "stop", "kling")
    if (ended := composition.exit_status("kling")) != "0":
        yield f"`stop` ends the daemon with {ended}"
    yield from _failed(composition, "run", "--rm", "--no-deps", "-T", "kling", "sh", "-ec", RESTORE)
    yield from _failed(composition, "start", "kling")
    show = f"until kling-archiver show {TASK}; do sleep 1; done"
    yield from _failed(composition, "exec", "-T", "kling", "sh", "-ec", show)


def _failed(composition: Composition, *command: str) -> Iterator[str]:
    status, said = composition.run(*command)
    if status:
        yield f"`{' '.join(command)}` ends with {status}: {said}"


def bring_images(engine: Engine, base: pathlib.Path, image: pathlib.Path, work: pathlib.Path) -> None:
    """The built image, and Caddy on the base. Raises RuntimeError."""
    work.mkdir(parents=True, exist_ok=True)
    shutil.copy(program("caddy"), work / "caddy")
    (work / "Dockerfile").write_text(CADDY)
    for command in (
        ["docker", "load", "--quiet", "--input", str(image)],
        ["docker", "import", str(base), "debian-python"],
        ["docker", "build", "--quiet", "--tag", "caddy:2", str(work)],
    ):
        done = engine.run(*command)
        if done.returncode:
            raise RuntimeError(f"`{' '.join(command)}` ends with {done.returncode}: {done.stderr}")
