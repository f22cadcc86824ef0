"""A compose file of `deploy`, laid and driven as README says."""

import http.client
import pathlib
import shutil
import time
from collections.abc import Iterator, Mapping

from tests.deploy import compose
from tests.harness.deployment import DEPLOY
from tests.image.engine import Engine

PROJECT = "kling-archiver"
TOKEN = "a-token-of-nobody-at-all"
PUBLIC_URL = "http://localhost"
"""Without TLS: no authority certifies `localhost`."""
FREE_PORTS = {
    'ports: ["127.0.0.1:8080:8080"]': "",
    'ports: ["80:80", "443:443", "443:443/udp"]': 'ports: ["127.0.0.1::80"]',
}
"""Nothing else of the files is changed."""
SECONDS_MAX = 120


class Composition:
    """The commands of README: `docker compose --env-file … -f … COMMAND`."""

    def __init__(
        self,
        engine: Engine,
        work: pathlib.Path,
        file: str,
        *,
        settings: Mapping[str, str],
        secrets: Mapping[str, str],
    ) -> None:
        """Lays the file in `work`. `settings` are those that kling.env.example does not have, or has otherwise."""
        work.mkdir()
        self._engine, self._work, self._file = engine, work, file
        compose.lay(file, work, _settings(settings))
        text = (work / file).read_text()
        for old, new in FREE_PORTS.items():
            text = text.replace(old, new)
        (work / file).write_text(text)
        shutil.copy(DEPLOY / "Caddyfile", work)
        self.keep(secrets)

    def settle(self, settings: Mapping[str, str]) -> None:
        """Write kling.env anew."""
        (self._work / "kling.env").write_text(_settings(settings))

    def keep(self, secrets: Mapping[str, str]) -> None:
        """Write files of secrets."""
        for name, secret in secrets.items():
            (self._work / "secrets" / name).parent.mkdir(parents=True, exist_ok=True)
            (self._work / "secrets" / name).write_text(f"{secret}\n")

    def run(self, *command: str) -> tuple[int, str]:
        """Exit status and output."""
        options = ["-p", PROJECT, "--env-file", "kling.env", "-f", self._file]
        done = self._engine.run(*compose.command(), *options, *command, cwd=self._work)
        return done.returncode, done.stdout if done.returncode == 0 else done.stdout + done.stderr

    def failed(self, *command: str) -> Iterator[str]:
        """A sentence, if the command fails."""
        status, said = self.run(*command)
        if status:
            yield f"`{' '.join(command)}` ends with {status}: {said}"

    def ask_proxy(self, method: str, path: str, body: str | None = None) -> tuple[int, bytes]:
        """Status and body with which Caddy answers; waits until it listens, which `up` does not."""
        deadline = time.monotonic() + SECONDS_MAX
        while True:
            try:
                return self._ask_proxy(method, path, body)
            except (OSError, http.client.HTTPException):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    def _ask_proxy(self, method: str, path: str, body: str | None) -> tuple[int, bytes]:
        _, place = self.run("port", "caddy", "80")
        port = int(place.strip().rpartition(":")[2])
        proxy = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        try:
            proxy.request(method, path, body, {"Host": "localhost"})
            answer = proxy.getresponse()
            return answer.status, answer.read()
        finally:
            proxy.close()

    def call_back(self, task: str) -> int:
        """The status with which Caddy answers a callback about the task."""
        body = f'{{"task_id":"{task}","task_status":"succeed","task_info":{{}}}}'
        return self.ask_proxy("POST", f"/callbacks/{TOKEN}/images/generations", body)[0]

    def exit_statuses(self, service: str) -> list[str]:
        """Of its containers, which are stopped."""
        return self._inspect_containers(service, "{{.State.ExitCode}}")

    def restarts(self, service: str) -> list[str]:
        """How often the engine has started each of its containers again."""
        return self._inspect_containers(service, "{{.RestartCount}}")

    def started_at(self, service: str) -> str:
        """When the first of its containers started, to the second."""
        return min(self._inspect_containers(service, "{{.State.StartedAt}}"))[:19]

    def logged_at(self, service: str, words: str) -> str:
        """When its container first logged this, to the second."""
        [container] = self._containers(service)
        done = self._engine.run("docker", "logs", "--timestamps", container)
        return next(line for line in (done.stdout + done.stderr).splitlines() if words in line)[:19]

    def _inspect_containers(self, service: str, template: str) -> list[str]:
        return self._inspect(template, *self._containers(service))

    def _containers(self, service: str) -> list[str]:
        return self.run("ps", "-q", service)[1].split()

    def gateway_address(self) -> str:
        """This machine, as the containers reach it."""
        [address] = self._inspect("{{(index .IPAM.Config 0).Gateway}}", f"{PROJECT}_default")
        return address

    def _inspect(self, template: str, *names: str) -> list[str]:
        return self._engine.run("docker", "inspect", "-f", template, *names).stdout.split()

    def remove(self) -> None:
        """Containers, volumes and network."""
        self.run("down", "--volumes", "--timeout", "0")


def _settings(changed: Mapping[str, str]) -> str:
    kept = [
        line
        for line in (DEPLOY / "kling.env.example").read_text().splitlines()
        if line.partition("=")[0] not in changed
    ]
    return "\n".join([*kept, *(f"{name}={value}" for name, value in changed.items())]) + "\n"
