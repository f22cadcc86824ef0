"""Settings → `Engine`, for each role."""

import dataclasses
import functools
import itertools
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from archiver import log
from archiver.alerts.loop import AlertLoop
from archiver.archive.second_look import CALL_SECONDS, SecondLook, SecondLookLoop
from archiver.composition.accounts import expected_of
from archiver.composition.clients import build_account
from archiver.composition.forwarding import build_forward_loop
from archiver.composition.outside import alert_sender, build_spool, build_store
from archiver.composition.running import Engine, wake
from archiver.config import doubts
from archiver.config.roles import ProcessRole
from archiver.config.settings import Settings
from archiver.engine.api_clocks import ApiClocks
from archiver.engine.duties.keeper import DutyKeeper, Tenure, build_keeper
from archiver.engine.duties.loop import DutyLoop
from archiver.engine.forwarding.missing_links import MissingLinks
from archiver.engine.health import Health
from archiver.engine.looks.machine import MachineLook, MachineLoop
from archiver.engine.looks.sharing import SharedStore
from archiver.engine.pools import WatchedPool
from archiver.engine.process_holds import ProcessHoldLoop, ProcessHolds
from archiver.engine.slots.transfer_slots import TransferSlots
from archiver.engine.stages import Account, Clock, Stages, build_stages
from archiver.engine.threads import Guard, Threads
from archiver.engine.upkeep import Upkeep, UpkeepLoop
from archiver.engine.wakeups import WakeUps
from archiver.engine.worker import Loop, Worker, WorkerLimits
from archiver.failures import Outside
from archiver.fetch.fetcher import Fetcher
from archiver.fetch.spool import Spool
from archiver.fetch.urls import EgressPolicy
from archiver.ledger import UPKEEP, Ledger, asking, new_daemon_name
from archiver.ledger.databases.opening import is_postgres
from archiver.metrics import Metrics
from archiver.model import Problem
from archiver.pulses.watch import Pulses
from archiver.store import Store
from archiver.version import VERSION


def build_engine(
    settings: Settings,
    ledger: Ledger,
    metrics: Metrics,
    *,
    role: ProcessRole = ProcessRole.WHOLE,
    stop: threading.Event,
    on_death: Callable[[], None],
) -> Engine:
    """The engine of a process. A process that only serves HTTP has an engine that reports signs of life.

    Raises SettingsError when boto3 refuses its part of the settings.
    """
    process = _Process(settings, ledger, metrics, role, stop, on_death)
    return _build_working(process) if role.works else _build_idle(process)


@dataclasses.dataclass(frozen=True)
class _Process:
    """What every part of a process is built from."""

    settings: Settings
    ledger: Ledger
    metrics: Metrics
    role: ProcessRole
    stop: threading.Event
    on_death: Callable[[], None]
    pulses: Pulses = dataclasses.field(default_factory=Pulses)

    def guard(self, *, bound: Mapping[str, str] | None = None) -> Guard:
        return Guard(stop=self.stop, on_death=self.on_death, bound=bound, pulses=self.pulses)

    def wake_ups(self, workers: Mapping[str, Worker]) -> WakeUps:
        """The wake-ups of the process. Nothing is sent unless several processes work on the ledger."""
        settings = self.settings
        url = settings.ledger_listen_url or settings.ledger_url
        return WakeUps.build(
            url if is_postgres(settings.ledger_url) else None,
            functools.partial(wake, workers),
            stop=self.stop,
        )

    def health(self, clocks: ApiClocks) -> Health:
        return Health(self.ledger, self.metrics, clocks, expected_of(self.settings, self.role))


@dataclasses.dataclass(frozen=True)
class _Shared:
    """What the accounts of a process share."""

    spool: Spool
    store: Store
    fetcher: Fetcher
    slots: TransferSlots
    duties: DutyKeeper
    kept: Ledger
    """The ledger for writes that only the process with the upkeep may make."""
    process_holds: ProcessHolds | None


def _build_working(process: _Process) -> Engine:
    settings, ledger, stop = process.settings, process.ledger, process.stop
    accounts = [
        build_account(account, process.metrics, stop=stop, now=ledger.now) for account in settings.accounts
    ]
    clients = {account.name: account.client for account in accounts}
    clocks = ApiClocks(clients, int(settings.sweep_interval_seconds * 1000), now=ledger.now)
    workers: dict[str, Worker] = {}
    wake_ups = process.wake_ups(workers)
    shared = _build_shared(process, build_keeper(ledger, clients, clocks, workers))
    pools = [
        _transfer_pool(account, process.pulses, threads=settings.transfer_concurrency) for account in accounts
    ]
    stages = [
        _stages_of(account, process, shared, pool) for account, pool in zip(accounts, pools, strict=True)
    ]
    workers |= {each.account.name: _worker_of(each, process, shared) for each in stages}
    machine = MachineLoop(MachineLook(shared.spool, settings.ledger_url), stop=stop)
    upkeep = _build_upkeep(
        process, shared, clocks, workers, warnings=_warnings(process, shared, stages, machine, wake_ups)
    )
    # The upkeep is the process's. With one account its log lines name it; with several they would name a wrong one.
    guard = process.guard(bound={"account": accounts[0].name} if len(accounts) == 1 else None)
    forward_loop = build_forward_loop(settings, ledger, shared.store, process.metrics, guard)
    loops: list[Loop] = [
        DutyLoop(shared.duties, stop=stop),
        UpkeepLoop(upkeep, stop=stop),
        machine,
        forward_loop,
        _second_look_loop(process, shared, stages),
        *wake_ups.loops,
        *_loops_where_set(process, shared),
    ]

    def close_pools() -> None:
        for pool in pools:
            pool.shutdown(wait=False, cancel_futures=True)

    return Engine(
        workers,
        shared.duties,
        upkeep,
        process.health(clocks),
        ledger,
        shared.spool,
        tuple(guard.thread(Threads(), loop.name, loop.step) for loop in loops),
        (close_pools, shared.fetcher.close, wake_ups.close, *(client.close for client in clients.values())),
        wake_ups.tell,
        forward_loop,
        process.pulses,
    )


def _build_shared(process: _Process, duties: DutyKeeper) -> _Shared:
    settings, spool = process.settings, build_spool(process.settings)
    return _Shared(
        spool=spool,
        store=build_store(settings),
        fetcher=Fetcher(policy=EgressPolicy.parse(settings.asset_hosts), spool=spool, proxy=settings.proxy),
        slots=TransferSlots(settings.transfer_concurrency),
        duties=duties,
        kept=process.ledger.fenced(UPKEEP, functools.partial(duties.token, UPKEEP)),
        process_holds=_build_process_holds(process, duties),
    )


def _build_process_holds(process: _Process, duties: DutyKeeper) -> ProcessHolds | None:
    """None if only one process works on the ledger: then every hold is for all."""
    ledger = process.ledger
    if not is_postgres(process.settings.ledger_url):
        return None
    holds = ProcessHolds(ledger.daemons, name=duties.name, for_all=ledger.holds, now=ledger.now)
    duties.shunned = holds.shunned
    return holds


def _transfer_pool(account: Account, pulses: Pulses, *, threads: int) -> WatchedPool:
    return WatchedPool(
        threads,
        name="transfer",
        begin=functools.partial(log.bind, account=account.name),
        watched=functools.partial(pulses.watched, "transfer", account=account.name),
    )


def _stages_of(account: Account, process: _Process, shared: _Shared, pool: WatchedPool) -> Stages:
    settings, ledger = process.settings, process.ledger
    return build_stages(
        account,
        ledger=ledger,
        store=shared.store,
        fetcher=shared.fetcher,
        metrics=process.metrics,
        transfer_pool=pool,
        transfers=settings.transfer_concurrency,
        accounts=len(settings.accounts),
        clock=Clock(now_ms=ledger.now),
        asking=ledger.fenced(asking(account.name), Tenure(shared.duties, account.name).token),
        process_holds=shared.process_holds,
    )


def _worker_of(stages: Stages, process: _Process, shared: _Shared) -> Worker:
    limits = WorkerLimits(
        transfer_concurrency=process.settings.transfer_concurrency,
        sweep_interval_seconds=process.settings.sweep_interval_seconds,
    )
    return Worker(
        stages,
        limits,
        stop=process.stop,
        on_death=process.on_death,
        slots=shared.slots,
        may_ask=Tenure(shared.duties, stages.account.name).may_ask,
        pulses=process.pulses,
    )


def _build_upkeep(
    process: _Process,
    shared: _Shared,
    clocks: ApiClocks,
    workers: Mapping[str, Worker],
    *,
    warnings: Sequence[Callable[[], Iterable[Problem]]],
) -> Upkeep:
    return Upkeep(
        process.ledger,
        process.metrics,
        clocks,
        daemon_name=shared.duties.name,
        version=VERSION,
        started_at=process.ledger.now(),
        serves=process.role.serves(process.settings),
        kept=shared.kept,
        keeps_up=shared.duties.keeps_up,
        asks_for=shared.duties.accounts,
        leases=lambda: sum(worker.leases() for worker in workers.values()),
        warnings=warnings,
    )


def _warnings(
    process: _Process,
    shared: _Shared,
    stages: Sequence[Stages],
    machine: MachineLoop,
    wake_ups: WakeUps,
) -> list[Callable[[], Iterable[Problem]]]:
    """The sources of warnings that only this process can give."""
    found: list[Callable[[], Iterable[Problem]]] = [
        functools.partial(doubts.problems, process.settings),
        machine.problems,
        process.pulses.problems,
        MissingLinks(process.ledger, doubts.accounts_without_links(process.settings)).problems,
        lambda: itertools.chain.from_iterable(each.verifier.problems() for each in stages),
        lambda: itertools.chain.from_iterable(each.unswept.problems() for each in stages),
        *(loop.problems for loop in wake_ups.loops),
    ]
    if shared.process_holds is not None:
        found += [shared.process_holds.problems, SharedStore(process.ledger, shared.store).problems]
    return found


def _second_look_loop(process: _Process, shared: _Shared, stages: Sequence[Stages]) -> SecondLookLoop:
    outages = {each.account.name: each.outages.of(Outside.STORE).failed for each in stages}
    look = SecondLook(
        shared.kept,
        shared.store,
        process.metrics,
        outages,
        pause=lambda: not process.stop.wait(CALL_SECONDS),
    )
    return SecondLookLoop(look, stop=process.stop, is_ours=shared.duties.keeps_up)


def _loops_where_set(process: _Process, shared: _Shared) -> Iterator[Loop]:
    """The loop of process holds if several processes may share the ledger, and the loop of alerts if the operator wants
    them."""
    settings, ledger, duties = process.settings, process.ledger, shared.duties
    if shared.process_holds is not None:
        yield ProcessHoldLoop(shared.process_holds, ledger.daemons, name=duties.name, stop=process.stop)
    if settings.alert_url is not None:
        yield AlertLoop(
            shared.kept,
            expected_of(settings),
            alert_sender(settings),
            now=ledger.now,
            stop=process.stop,
            is_ours=duties.keeps_up,
        )


def _build_idle(process: _Process) -> Engine:
    settings, ledger, stop = process.settings, process.ledger, process.stop
    clocks = ApiClocks({}, 0, now=ledger.now)
    wake_ups = process.wake_ups({})
    sender = wake_ups.loops[:1]  # this process has no loops to wake
    upkeep = Upkeep(
        ledger,
        process.metrics,
        clocks,
        daemon_name=new_daemon_name(),
        version=VERSION,
        started_at=ledger.now(),
        serves=process.role.serves(settings),
        warnings=(
            functools.partial(doubts.problems, settings),
            process.pulses.problems,
            *(loop.problems for loop in sender),
        ),
    )
    loops: list[Loop] = [UpkeepLoop(upkeep, stop=stop), *sender]
    guard = process.guard()
    threads = tuple(guard.thread(Threads(), loop.name, loop.step) for loop in loops)
    spool = build_spool(settings, has_downloads=False) if process.role.relays(settings) else None
    return Engine(
        {},
        None,
        upkeep,
        process.health(clocks),
        ledger,
        spool,
        threads,
        (wake_ups.close,),
        wake_ups.tell,
        pulses=process.pulses,
    )
