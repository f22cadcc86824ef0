"""What `show` reads, typed. Times are Unix ms; `as_json` gives the contract's shapes. Changes nothing. For `status`,
metrics, readiness and alerts: `status/`."""

import dataclasses
import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from archiver.failures.advice import what_to_do
from archiver.ledger.databases.dialect import is_named, naming
from archiver.ledger.folder_work.work import amendment_keys
from archiver.ledger.forwards.orders import ForwardView, forwards_of
from archiver.ledger.part import Part
from archiver.ledger.status.reading import read_status
from archiver.ledger.status.view import StatusView
from archiver.ledger.tables import schema
from archiver.ledger.tables.rows import assets_of, find
from archiver.ledger.tables.tombstones import Tombstone, find_tombstone
from archiver.ledger.views.assets import AssetView
from archiver.ledger.views.filters import TaskFilter
from archiver.ledger.views.pages import TaskPage, read_page
from archiver.model import Asset, DiscoveredBy, LeasedAsset, State, Status, Task, rfc3339


@dataclasses.dataclass(frozen=True, slots=True)
class HistoryLine:
    """One event of a task."""

    at: int
    event: str
    detail: str

    def as_json(self) -> dict[str, object]:
        """As `show --json` prints it."""
        return {"at": rfc3339(self.at), "event": self.event, "detail": self.detail}


@dataclasses.dataclass(frozen=True, slots=True)
class TaskView:
    """One task, as people and scripts see it."""

    task_id: str
    account: str
    family: str | None
    external_task_id: str | None
    state: State
    reason: str | None
    message: str | None
    attempts: int
    due_at: int | None
    created_at: int | None
    updated_at: int | None
    expires_at: int
    discovered_by: DiscoveredBy
    callbacks: int
    manifest_key: str | None
    amendment_keys: tuple[str, ...]
    assets: tuple[AssetView, ...]
    forwards: tuple[ForwardView, ...]
    history: tuple[HistoryLine, ...]
    request: Mapping[str, object] | None = None
    """What was asked for, where we were told; `show` does not print it."""

    @property
    def what_to_do(self) -> str | None:
        """What an operator can do about the reason; None if nothing can or must be done."""
        return what_to_do(self.reason) or None

    def as_json(
        self, links: Mapping[str, str] | None = None, *, operator_url: str | None = None
    ) -> dict[str, object]:
        """As `show --json` prints it; `links` are those of its files, by stem, and `operator_url` is the operator's
        application."""
        return {
            "task_id": self.task_id,
            "account": self.account,
            "family": self.family,
            "external_task_id": self.external_task_id,
            "state": self.state,
            "reason": self.reason,
            "message": self.message,
            "what_to_do": self.what_to_do,
            "attempts": self.attempts,
            "due_at": _time(self.due_at),
            "created_at": _time(self.created_at),
            "updated_at": _time(self.updated_at),
            "expires_at": _time(self.expires_at),
            "discovered_by": self.discovered_by,
            "callbacks": self.callbacks,
            "manifest_key": self.manifest_key,
            "amendment_keys": list(self.amendment_keys),
            "assets": [asset.as_json((links or {}).get(asset.asset.stem)) for asset in self.assets],
            "forwards": [forward.as_json(operator_url=operator_url) for forward in self.forwards],
            "history": [line.as_json() for line in self.history],
        }


@dataclasses.dataclass(frozen=True, slots=True)
class KnownTask:
    """One task, as the gateway compares answers of the API with it."""

    task_id: str
    external_task_id: str | None
    family: str | None
    """None while the API has not confirmed it."""
    family_hint: str | None
    state: State
    created_at: int | None
    manifest_key: str | None
    amendment_keys: tuple[str, ...]
    client_callback_url: str | None
    assets: tuple[LeasedAsset, ...]

    def is_changed_by(self, task: Task) -> bool:
        """Whether it is worth recording what the API says of it now."""
        if self.family is None:
            return True
        if task.status is Status.RUNNING:
            return False
        if task.status is Status.FAILED:
            return self.state is not State.FAILED
        if self.state not in (State.SUCCEEDED, State.ARCHIVED, State.LOST):
            return True
        files = {leased.asset.stem: leased for leased in self.assets}
        return any(_is_news(asset, files.get(asset.stem)) for asset in task.assets)


def _is_news(asset: Asset, known: LeasedAsset | None) -> bool:
    """The API may sign a URL anew for each answer, which is of use only once a try has failed."""
    if known is None:
        return True
    if known.stored is not None or asset.url == known.asset.url:
        return False
    return known.reason is not None or asset.url.partition("?")[0] != known.asset.url.partition("?")[0]


class Views(Part):
    """Reading for people, metrics, readiness and the gateway."""

    def known_tasks(
        self, *, account: str, task_ids: Sequence[str] = (), external_task_ids: Sequence[str] = ()
    ) -> list[KnownTask]:
        """The tasks that have one of these ids (at most 500 in all), without repetitions."""
        rows: dict[int, sa.RowMapping] = {}
        with self._database.read() as connection:
            for statements, names in ((_BY_IDS, task_ids), (_BY_EXTERNAL_IDS, external_task_ids)):
                if names:
                    statement = statements[len(names) != 1]
                    found = connection.execute(statement, {"account": account, **naming(names)})
                    rows |= {row["id"]: row for row in found.mappings()}
            assets = assets_of(connection, list(rows))
            amended = {
                row_id: amendment_keys(connection, row_id)
                for row_id, row in rows.items()
                if row["manifest_key"] is not None
            }
        return [
            _known(row, assets=assets.get(row_id, ()), amended=amended.get(row_id, ()))
            for row_id, row in rows.items()
        ]

    def show(self, task_id: str, *, account: str) -> TaskView | None:
        """One task by id or external id; None when unknown."""
        with self._database.read() as connection:
            row = find(connection, account=account, task_id=task_id)
            if row is None:
                return None
            assets = assets_of(connection, [row["id"]]).get(row["id"], ())
            history = _history_of(connection, row["id"])
            amended = amendment_keys(connection, row["id"])
            forwards = forwards_of(connection, row["id"])
        return TaskView(
            task_id=row["task_id"],
            account=row["account"],
            family=row["family"] or row["family_hint"],
            external_task_id=row["external_task_id"],
            state=State(row["state"]),
            reason=row["reason"],
            message=row["message"],
            attempts=row["attempts"],
            due_at=row["due_at"],
            created_at=row["created_at"],
            updated_at=row["updated_at"],
            expires_at=row["deadline_at"],
            discovered_by=DiscoveredBy(row["discovered_by"]),
            callbacks=row["callbacks"],
            manifest_key=row["manifest_key"],
            amendment_keys=amended,
            assets=tuple(AssetView.of(asset) for asset in assets),
            forwards=forwards,
            history=tuple(HistoryLine(line["at"], line["event"], line["detail"]) for line in history),
            request=None if row["request"] is None else json.loads(row["request"]),
        )

    def forgotten(self, task_id: str, *, account: str) -> Tombstone | None:
        """A forgotten task by id or external id: what there is instead of `show`."""
        with self._database.read() as connection:
            return find_tombstone(connection, account=account, task_id=task_id)

    def status(self, *, accounts: Collection[str] | None = None) -> StatusView:
        """Everything at a glance; of the sweeps only those of `accounts`, where given."""
        with self._database.read() as connection:
            view = read_status(self._database, connection, now=self._now())
        return view if accounts is None else view.only(accounts)

    def tasks(
        self, chosen: TaskFilter, *, page: str | None = None, limit: int, with_assets: bool = False
    ) -> TaskPage:
        """Up to `limit` (at most 500) of the tasks that are meant, the newest first, from `page` on. Several
        transactions where a text is searched for. Raises FilterProblem for a page that is none."""
        return read_page(self._database, chosen, page=page, limit=limit, with_assets=with_assets)

    def ids_in(self, state: State, *, account: str, count_max: int | None = None) -> list[str]:
        """The ids of the tasks in `state`, nearest deadline first."""
        table = schema.tasks
        query = sa.select(table.c.task_id).where(table.c.account == account, table.c.state == state)
        with self._database.read() as connection:
            return list(connection.execute(query.order_by(table.c.deadline_at).limit(count_max)).scalars())


def _known_tasks(column: sa.Column[str]) -> dict[bool, sa.Select[Any]]:
    """For one name, and for several."""
    columns = [
        schema.tasks.c[name]
        for name in (
            "id", "task_id", "external_task_id", "family", "family_hint", "state", "created_at", "manifest_key",
            "client_callback_url",
        )
    ]  # fmt: skip
    of_account = sa.select(*columns).where(schema.tasks.c.account == sa.bindparam("account"))
    return {several: of_account.where(is_named(column, several=several)) for several in (False, True)}


# Built once: building one anew takes a third of the time of a client's query.
_BY_IDS = _known_tasks(schema.tasks.c.task_id)
_BY_EXTERNAL_IDS = _known_tasks(schema.tasks.c.external_task_id)


def _known(row: sa.RowMapping, *, assets: tuple[LeasedAsset, ...], amended: tuple[str, ...]) -> KnownTask:
    return KnownTask(
        task_id=row["task_id"],
        external_task_id=row["external_task_id"],
        family=row["family"],
        family_hint=row["family_hint"],
        state=State(row["state"]),
        created_at=row["created_at"],
        manifest_key=row["manifest_key"],
        amendment_keys=amended,
        client_callback_url=row["client_callback_url"],
        assets=assets,
    )


def _time(value: int | None) -> str | None:
    return None if value is None else rfc3339(value)


def _history_of(connection: sa.Connection, row_id: int) -> Sequence[sa.RowMapping]:
    table = schema.history
    query = sa.select(table).where(table.c.task == row_id).order_by(table.c.id)
    return connection.execute(query).mappings().all()
