"""A lease of the archive stage, as a claim would give it, for what needs no ledger."""

import dataclasses
from typing import Any

from archiver.model import DiscoveredBy, Lease, Stage, State

_LEASE = Lease(
    row_id=1,
    token="t",
    stage=Stage.ARCHIVE,
    account="default",
    task_id="1",
    external_task_id=None,
    state=State.SUCCEEDED,
    attempt=1,
    asked=0,
    family="images/generations",
    family_hint=None,
    result_arrays=(),
    confirmed=True,
    created_at=0,
    updated_at=0,
    deadline_at=0,
    discovered_by=DiscoveredBy.SWEEP,
    asset_host="cdn.klingai.com",
    document={},
    request=None,
)


def archive_lease(**changes: Any) -> Lease:
    """The lease of a succeeded task, with these fields changed."""
    return dataclasses.replace(_LEASE, **changes)
