"""A receiver that serves links, with a ledger and a store behind it."""

import contextlib
import dataclasses
import io
import pathlib
from collections.abc import Iterator
from typing import Any, Literal

import httpx2

from archiver import model
from archiver.families import CONTENT_TYPES, file_name
from archiver.fetch.urls import EgressPolicy
from archiver.metrics import Metrics
from archiver.model import Asset, Role, StoredAsset
from archiver.store import Presigned, S3Store, StoredObject, Upload, digests_of
from archiver.store.links import LinkSigner
from receiver.links.finder import LinkedAccount, LinkStore
from receiver.links.service import LinkService
from tests.harness.daemons import until
from tests.harness.edge import Edge
from tests.harness.ledgers import ACCOUNT, FAMILY, START, Desk, answer, claim_archive

SECRET = "a-link-secret-of-at-least-32-characters"
PUBLIC_URL = "https://kling.example.com"
SIGNER = LinkSigner([SECRET], public_url=PUBLIC_URL)
PREFIX = "kling/"
FORMER = "old-name"
CDN_URL = "https://cdn.klingai.com/bs2/0.png?Expires=1800000000&Signature=x"


def link_of(task_id: str = "t", *, stem: str = "0", extension: str = "", account: str = ACCOUNT) -> str:
    """The path of a link of a task that was created at `START`."""
    return SIGNER.url(
        account=account, folder=folder_of(task_id), stem=stem, extension=extension
    ).removeprefix(PUBLIC_URL)


def folder_of(task_id: str) -> str:
    return model.task_folder(prefix="", family=FAMILY, created_at=START, task_id=task_id).rstrip("/")


def image(stem: str = "0", url: str = CDN_URL, role: Role = Role.IMAGE) -> Asset:
    return Asset(stem=stem, url=url, role=role, index=None, watermarked=False)


def put(store: S3Store, key: str, content: bytes, *, content_type: str = "image/png") -> None:
    """As the archive stage does."""
    upload = Upload(
        key=key,
        file=io.BytesIO(content),
        digests=digests_of(content),
        content_type=content_type,
        task_id="t",
        family=FAMILY,
        check=lambda: None,
    )
    store.put(upload, look_first=False)


def record_stored(
    desk: Desk, content: bytes, task_id: str = "t", *, stem: str = "0", extension: str = "png"
) -> StoredAsset:
    """The ledger knows an archived task of one file with these bytes; nothing is put."""
    desk.say(answer(task_id, assets=(image(stem),)))
    (lease,) = claim_archive(desk.ledger, count=1, account=ACCOUNT)
    digests = digests_of(content)
    name = file_name(stem, extension=extension)
    stored = StoredAsset(
        stem=stem,
        name=name,
        key=f"{PREFIX}{folder_of(task_id)}/{name}",
        role=Role.IMAGE,
        index=None,
        watermarked=False,
        bytes=digests.bytes,
        sha256=digests.sha256,
        content_type=CONTENT_TYPES[extension],
        width=1,
        height=1,
        source_url=CDN_URL,
    )
    desk.ledger.outcomes.archived(
        lease,
        manifest_key=f"{PREFIX}{folder_of(task_id)}/manifest.json",
        archived_at=desk.clock(),
        stored=[stored],
    )
    return stored


@dataclasses.dataclass
class ScriptedStore:
    """What links ask of a store, answered from memory. `error` is raised instead, where there is one."""

    objects: dict[str, StoredObject] = dataclasses.field(default_factory=dict)
    error: Exception | None = None
    asked: list[str] = dataclasses.field(default_factory=list)
    signed_url: str = "https://store.example/"

    def list(self, folder: str) -> dict[str, int]:
        self._ask("list", folder)
        return {key: found.bytes for key, found in self.objects.items() if key.startswith(folder)}

    def head(self, key: str) -> StoredObject | None:
        self._ask("head", key)
        return self.objects.get(key)

    def presign(
        self, key: str, *, seconds: int, method: Literal["GET", "HEAD"] = "GET", file_name: str | None = None
    ) -> Presigned:
        self._ask(f"presign {method}", key)
        named = "" if file_name is None else f"&name={file_name}"
        return Presigned(f"{self.signed_url}{key}?method={method}&seconds={seconds}{named}", seconds)

    def _ask(self, what: str, of: str) -> None:
        self.asked.append(f"{what} {of}")
        if self.error is not None:
            raise self.error


class LinkDesk:
    """The receiver, its ledger, and a client that follows no redirect."""

    def __init__(self, folder: pathlib.Path, store: LinkStore, *, mode: str, **service: Any) -> None:
        """`service` changes what the service is made of."""
        self.ledger = Desk(folder)
        self.metrics = Metrics()
        made: dict[str, Any] = {
            "signer": SIGNER,
            "find": self.ledger.ledger.files.find,
            "store": store,
            "accounts": {
                ACCOUNT: LinkedAccount(ACCOUNT, PREFIX),
                FORMER: LinkedAccount(ACCOUNT, PREFIX),
            },
            "mode": mode,
            "policy": EgressPolicy.parse(["klingai.com"]),
            "metrics": self.metrics,
        }
        self.service = LinkService(**made | service)
        self.edge = Edge(links=self.service)

    @contextlib.contextmanager
    def running(self) -> Iterator["LinkDesk"]:
        with contextlib.closing(self.ledger), self.edge:
            yield self

    @property
    def url(self) -> str:
        return self.edge.server.url

    def get(self, path: str, **headers: str) -> httpx2.Response:
        return self.ask("GET", path, **headers)

    def ask(self, method: str, path: str, **headers: str) -> httpx2.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.edge.client.request(method, path, headers=named)

    def counted(self) -> dict[str, int]:
        """`kling_links_total`, of what is not 0."""
        values = {
            result: self.metrics.registry.get_sample_value("kling_links_total", {"result": result})
            for result in ("stored", "upstream", "gone", "refused")
        }
        return {result: int(value) for result, value in values.items() if value}

    def assert_counted(self, expected: dict[str, int]) -> None:
        """An answer is counted once it has been sent: its reader may be first."""
        until(lambda: self.counted() == expected, what=f"{expected} to be counted")


def serving(
    folder: pathlib.Path, store: LinkStore, *, mode: str, **service: Any
) -> contextlib.AbstractContextManager[LinkDesk]:
    return LinkDesk(folder, store, mode=mode, **service).running()
