"""A process of each role on one PostgreSQL ledger: each is given all the settings there are, and takes its own."""

import contextlib
import pathlib
import secrets

from archiver.config.roles import ProcessRole
from archiver.config.settings import SECRET_NAMES, Settings
from tests.harness.daemons import FAMILY, TOKEN, Daemon, Site, until
from tests.postgres import PostgresServer
from tests.s3_servers import S3Server
from tests.s3_servers.process import free_port

OF_NO_SECRET = {"KLING_S3_BUCKET": "results", "KLING_PUBLIC_URL": "https://kling.example.com"}
WITHOUT = ("api_key",)
"""It takes the place of the pair of keys."""


def _made_up(name: str) -> str:
    word = secrets.token_hex(24)
    if name.endswith("_url"):
        return f"http://127.0.0.1:{free_port()}/{word}"
    return f"whsec_{word}" if name in {"signing_secret", "alert_secret", "forward_secret"} else word


class Secrets:
    """Every secret that any role needs, each in a file of its own and in no variable: what a process has in its memory,
    it has opened."""

    def __init__(self, site: Site, folder: pathlib.Path) -> None:
        made_up = {name: _made_up(name) for name in SECRET_NAMES if name not in WITHOUT}
        self.of = made_up | {
            "access_key": site.sim.access_key,
            "secret_key": site.sim.secret_key,
            "callback_token": TOKEN,
            "aws": site.s3.secret_key,
        }
        written = self.of | {
            "gateway_key": f"shop:{self.of['gateway_key']}",
            "aws": f"[default]\naws_access_key_id = {site.s3.access_key}\naws_secret_access_key = {self.of['aws']}\n",
        }
        for name, text in written.items():
            (folder / name).write_text(text)
        files = {name: str(folder / name) for name in self.of}
        self.settings = {"AWS_SHARED_CREDENTIALS_FILE": files.pop("aws")}
        self.settings |= {f"KLING_{name.upper()}_FILE": file for name, file in files.items()}

    def wanted_by(self, role: ProcessRole) -> set[str]:
        """Of its settings: config/test_roles says which those are."""
        settings = Settings.load(self.settings | OF_NO_SECRET, need=role.need)
        return {name for name in SECRET_NAMES if getattr(settings, name)}

    def in_memory_of(self, process: Daemon) -> set[str]:
        """Whose secrets it holds, anywhere in the memory that it can write to."""
        found: set[str] = set()
        with pathlib.Path(f"/proc/{process.pid}/mem").open("rb", buffering=0) as memory:
            for line in pathlib.Path(f"/proc/{process.pid}/maps").read_text().splitlines():
                place, rights, *_ = line.split()
                if not rights.startswith("rw"):
                    continue
                first, end = (int(address, 16) for address in place.split("-"))
                with contextlib.suppress(OSError):  # the kernel's own
                    memory.seek(first)
                    held = memory.read(end - first)
                    found |= {name for name, secret in self.of.items() if secret.encode() in held}
        return found


def start(site: Site, given: Secrets, *program: str) -> Daemon:
    """By Python itself: the memory of a fork begins with that of another process."""
    variables = (
        *(f"KLING_{name.upper()}" for name in SECRET_NAMES),
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
    )
    changes = {**OF_NO_SECRET, **given.settings, "KLING_PORT": str(free_port())}
    changes["KLING_S3_BUCKET"] = site.bucket
    return site.start(changes, without=variables, prefix=("env",), program=program)


def test_no_process_has_a_secret_of_another_role_in_its_memory(
    tmp_path: pathlib.Path, rclone_server: S3Server, postgres_server: PostgresServer
) -> None:
    url = postgres_server.url(postgres_server.create_database())
    with Site(tmp_path, rclone_server, KLING_LEDGER_URL=url) as site:
        (folder := tmp_path / "secrets").mkdir()
        given = Secrets(site, folder)
        door, worker, gateway = (
            start(site, given, *program)
            for program in (("receiver", "--edge-only"), ("archiver", "work"), ("receiver", "--gateway-only"))
        )
        for process in (door, worker, gateway):
            process.wait_ready()
        task = site.create_task()
        body = {"task_id": task, "task_status": "succeed", "task_info": {}}
        assert site.sim.post_callback(f"{door.url}/callbacks/{TOKEN}/{FAMILY}", body).status_code == 200
        site.wait_archived(task)

        assert given.in_memory_of(door) == given.wanted_by(ProcessRole.DOOR)
        assert given.in_memory_of(worker) == given.wanted_by(ProcessRole.WORK) | {"aws"}
        assert given.in_memory_of(gateway) - {"aws"} == given.wanted_by(ProcessRole.GATEWAY)
        site.assert_silent_on_secrets()

        worker.kill()
        until(
            lambda: "no_worker" in {problem["code"] for problem in door.degraded()}, what="the door to say so"
        )
