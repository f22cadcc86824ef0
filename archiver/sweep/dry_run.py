"""Counts for a command what a sweep of an account would find. The process that asks the API for the account does it.
Nothing is written.

A task counts once although both `/tasks` and its family's own list show it. So a dry run is one run over all families.
If another process takes the account over, it begins the run anew.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from archiver.failures import Failure, LedgerUnavailable, Stopped
from archiver.families import swept
from archiver.ledger import Ledger, SweepRequest, ToldFailure
from archiver.sweep.counts import CountedIds, SweepCounts, SweepEnd
from archiver.sweep.requested import concerns_every_family, told, unswept
from archiver.sweep.stage import Sweeper


@dataclasses.dataclass
class FamilyForecast:
    """What a sweep of one family would find, so far."""

    counts: SweepCounts
    failure: ToldFailure | None = None


class DryRun:
    """Counts page by page."""

    def __init__(self, sweeper: Sweeper, families: Sequence[str], *, is_full: bool) -> None:
        """`is_full`: read all pages, whatever is due."""
        self._sweeper = sweeper
        self._families = families
        self._is_full = is_full
        self.forecasts: list[FamilyForecast] = []
        """The forecast of each family that was begun."""

    def pages(self) -> Iterator[SweepCounts]:
        """Read all families; after each page, the forecast of its family. A family that fails does not stop the next.
        Raises Stopped and LedgerUnavailable."""
        counted = CountedIds()
        ours = swept(self._sweeper.families, has_api_key=self._sweeper.client.has_api_key)
        for family in self._families:
            forecast = FamilyForecast(SweepCounts(family, self._is_full))
            self.forecasts.append(forecast)
            if family not in ours:
                forecast.failure = unswept(family)
                continue
            try:
                full = self._is_full or self._sweeper.is_full_due(family)
                for forecast.counts in self._sweeper.forecast(family, full=full, counted=counted):
                    yield forecast.counts
            except (LedgerUnavailable, Stopped):
                raise
            except Failure as error:
                forecast.failure = told(error)
                if concerns_every_family(error):
                    return

    def as_json(self) -> dict[str, object]:
        """The forecasts as JSON, for the command that asked for them."""
        return {"families": [dataclasses.asdict(forecast) for forecast in self.forecasts]}


def forecasts_of(document: Mapping[str, Any] | None) -> list[FamilyForecast]:
    """The forecasts that `DryRun.as_json` has written."""
    return [
        FamilyForecast(
            SweepCounts(**{**family["counts"], "end": SweepEnd(family["counts"]["end"])}),
            family["failure"] and ToldFailure(**family["failure"]),
        )
        for family in (document or {}).get("families", ())
    ]


class RequestedDryRuns:
    """The requested dry runs of one account, one after the other. Raises LedgerUnavailable."""

    def __init__(self, sweeper: Sweeper, ledger: Ledger) -> None:
        self._sweeper = sweeper
        self._requests = ledger.sweep_requests
        self._request_id: str | None = None
        self._run = DryRun(sweeper, (), is_full=False)
        self._pages = self._run.pages()

    def step(self, waiting: Sequence[SweepRequest]) -> None:
        """Read a page for the first waiting dry run, or give it up if its command has withdrawn it."""
        if not waiting:
            self.forget()
            return
        request = waiting[0]
        if request.id != self._request_id:
            self._begin(request)
        failure = None
        try:
            if next(self._pages, None) is not None:
                self._requests.advance(request.id, self._run.as_json())
                return
        except (LedgerUnavailable, Stopped):
            self.forget()
            raise
        except Exception as error:  # noqa: BLE001 -- told to the command: sweeps go on
            failure = told(error)
        self._requests.end(request.id, self._run.as_json(), failure=failure)
        self.forget()

    def forget(self) -> None:
        """Forget the dry runs: another process continues them, or no command waits any more."""
        self._begin(None)

    def _begin(self, request: SweepRequest | None) -> None:
        self._request_id = None if request is None else request.id
        families, is_full = ((), False) if request is None else (request.dry_run_of, request.is_full)
        self._run = DryRun(self._sweeper, families, is_full=is_full)
        self._pages = self._run.pages()
