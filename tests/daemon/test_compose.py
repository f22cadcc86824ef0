"""The processes of deploy/compose.postgres.yaml, started with the commands and settings that stand there."""

import json
import pathlib

from tests.harness.daemons import FAMILY, TOKEN, Daemon, Site
from tests.harness.deployment import environment_of, image_environment, service, settings_of_compose
from tests.postgres import PostgresServer
from tests.s3_servers import S3Server
from tests.s3_servers.process import free_port

FILE = "compose.postgres.yaml"
PROGRAMS = {"kling-receiver": "receiver", "kling-archiver": "archiver"}


class Composition:
    """What `docker compose up` would start, on this machine: other hosts, ports and folders, and nothing else
    changed."""

    def __init__(self, folder: pathlib.Path, s3: S3Server, site: Site, *, ledger_url: str) -> None:
        self._folder = folder
        self._site = site
        here = {
            "KLING_S3_BUCKET": site.bucket,
            "KLING_S3_ENDPOINT_URL": s3.endpoint_url,
            "KLING_S3_REGION": s3.region,
        }
        self._settings = settings_of_compose() | here
        aws = f"[default]\naws_access_key_id = {s3.access_key}\naws_secret_access_key = {s3.secret_key}\n"
        secrets = {
            "ledger/url": ledger_url,
            "door/callback_token": TOKEN,
            "kling/access_key": site.sim.access_key,
            "kling/secret_key": site.sim.secret_key,
            "store/aws_credentials": aws,
        }
        for name, text in secrets.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(f"{text}\n")

    def environment(self, name: str) -> dict[str, str]:
        """Of the image and the file; only the account is a simulated one."""
        written = image_environment() | environment_of(service(name, file=FILE), self._settings)
        written.pop("PATH")
        given = {key: value.replace("/run/secrets", str(self._folder)) for key, value in written.items()}
        here = {"KLING_HOST": "127.0.0.1", "KLING_SPOOL_DIR": str(self._site.spool)}
        account = {"KLING_BASE_URL": self._site.sim.base_url, "KLING_ASSET_HOSTS": self._site.sim.origin}
        return given | here | (account if name == "work" else {}) | {"KLING_PORT": str(free_port())}

    def start(self, name: str, *, command: tuple[str, ...] = ()) -> Daemon:
        """A container of the service, or `docker compose exec` in it."""
        program, *arguments = command or service(name, file=FILE)["command"]
        of_the_site = tuple(key for key in self._site.environment if key.startswith(("KLING_", "AWS_")))
        return self._site.start(
            self.environment(name),
            without=tuple(set(of_the_site) - self.environment(name).keys()),
            program=(PROGRAMS[program], *arguments),
        )


def test_the_containers_of_the_compose_file_archive_a_task_that_the_door_was_called_about(
    tmp_path: pathlib.Path, rclone_server: S3Server, postgres_server: PostgresServer
) -> None:
    url = postgres_server.url(postgres_server.create_database())
    with Site(tmp_path, rclone_server, KLING_LEDGER_URL=url) as site:
        composition = Composition(tmp_path, rclone_server, site, ledger_url=url)
        door, worker = composition.start("door"), composition.start("work")
        for process in (door, worker):
            process.wait_ready()
        task = site.create_task()
        site.sim.hide_from_list(task)
        body = {"task_id": task, "task_status": "succeed", "task_info": {}}
        assert site.sim.post_callback(f"{door.url}/callbacks/{TOKEN}/{FAMILY}", body).status_code == 200
        site.wait_archived(task)
        site.assert_archived(task)

        looked = composition.start("work", command=("kling-archiver", "status", "--json"))
        assert looked.wait() == 0
        served = [process["serves"] for process in json.loads(looked.output)["daemons"]]
        assert sorted(served) == [["door"], ["work"]]
        assert [process.stop() for process in (door, worker)] == [0, 0]
        site.assert_silent_on_secrets()
