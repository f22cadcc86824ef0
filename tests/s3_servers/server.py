"""What every server here can do: start, be killed, start again on the same data, hand out buckets."""

import abc
import contextlib
import enum
import functools
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import boto3
from botocore.config import Config

from archiver.store import S3Store
from archiver.store.client import open_session
from tests.s3_servers.process import Process, free_port

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client


class Weakness(enum.Enum):
    """Where a server does other than S3 does, as far as the suite can see it."""

    CONDITION_IGNORED = "a create-only put overwrites"
    CONDITION_RACES = "of several create-only puts at once more than one may be told that it created"
    METADATA_FORGOTTEN = "content type and metadata are gone after a restart"


class ServerMissing(Exception):
    """This machine does not have the server. The message names what is missing and how to get it."""


class S3Server(abc.ABC):
    """One server with its data in a folder of its own. Not started by creating it."""

    name: ClassVar[str]
    weaknesses: ClassVar[frozenset[Weakness]]
    region: ClassVar[str] = "us-east-1"
    access_key: ClassVar[str] = "TESTACCESSKEY0000001"
    secret_key: ClassVar[str] = "testSecretKey/0123456789+abcdefghijklmnop"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self._processes: list[Process] = []
        for name in ("etc", "log", "data"):
            (folder / name).mkdir(exist_ok=True)

    @classmethod
    @abc.abstractmethod
    def require(cls) -> None:
        """Raises `ServerMissing` where it cannot run."""

    @abc.abstractmethod
    def start(self) -> None:
        """Return once it answers. Keeps what earlier starts have stored."""

    def kill(self) -> None:
        """SIGKILL to every process of it."""
        while self._processes:
            self._processes.pop().kill()

    def stop(self) -> None:
        """An orderly end, the last started first."""
        while self._processes:
            self._processes.pop().stop()

    @property
    def endpoint_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def environment(self, bucket: str) -> dict[str, str]:
        """What a daemon needs in its environment to archive into this bucket, and nothing of this machine's own
        AWS configuration."""
        return {
            "KLING_S3_BUCKET": bucket,
            "KLING_S3_ENDPOINT_URL": self.endpoint_url,
            "KLING_S3_REGION": self.region,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        }

    def session(self, *, access_key: str | None = None, secret_key: str | None = None) -> boto3.Session:
        """Explicit credentials, the server's own where none are named."""
        return boto3.Session(
            aws_access_key_id=access_key or self.access_key,
            aws_secret_access_key=secret_key or self.secret_key,
            region_name=self.region,
        )

    @functools.cached_property
    def _own_session(self) -> boto3.Session:
        """Made once: each session reads 1 MB of service descriptions."""
        return self.session()

    @functools.cached_property
    def _session_of_stores(self) -> boto3.Session:
        return open_session(access_key=self.access_key, secret_key=self.secret_key)

    @functools.cached_property
    def client(self) -> "S3Client":
        """A plain client for looking behind the store's back."""
        return self._own_session.client(
            "s3",
            endpoint_url=self.endpoint_url,
            config=Config(
                s3={"addressing_style": "path"},
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )

    def create_bucket(self) -> str:
        """A fresh bucket."""
        bucket = f"test-{uuid.uuid4().hex[:12]}"
        self.client.create_bucket(Bucket=bucket)
        return bucket

    def store(
        self,
        bucket: str,
        *,
        endpoint_url: str | None = None,
        session: boto3.Session | None = None,
        attempts_max: int = 2,
    ) -> S3Store:
        """The program's own store on this server; `endpoint_url` may be that of a proxy before it."""
        return S3Store.from_settings(
            bucket=bucket,
            endpoint_url=endpoint_url or self.endpoint_url,
            region=self.region,
            session=session or self._session_of_stores,
            read_timeout_seconds=20,
            attempts_max=attempts_max,
        )

    def _spawn(self, name: str, command: list[str], *, env: Mapping[str, str] | None = None) -> Process:
        process = Process(f"{self.name}'s {name}", command, log=self.folder / "log" / f"{name}.log", env=env)
        self._processes.append(process)
        return process


@contextlib.contextmanager
def running(kind: type[S3Server]) -> Iterator[S3Server]:
    """A started server of this kind with a folder of its own; both are gone afterwards.

    Raises `ServerMissing`.
    """
    kind.require()
    folder = Path(tempfile.mkdtemp(prefix=f"s3-{kind.name}-"))
    server = kind(folder)
    try:
        server.start()
        yield server
    finally:
        server.kill()
        shutil.rmtree(folder, ignore_errors=True)
