"""Answers of the API that are wrong in one place: whatever it is, no task is lost by it and no other one is delayed.

The whole engine meets them, as in the outages. Each task's genuine document is spoilt in one field for a while, in the
single answers and in the lists alike, and then shown as it is.
"""

import copy
import json
import pathlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from archiver.kling.limiter import Priority
from tests.harness.ledgers import FAMILY, HOUR, MINUTE
from tests.harness.service import Service
from tests.simulator import faults
from tests.simulator.request_log import LoggedRequest

Path = tuple[str | int, ...]
MISSING = "(missing)"
WRONG: Sequence[object] = (MISSING, None, True, -1, 10**30, "text", "\ud800", [], {}, [None])


def document_of(service: Service, task_id: str) -> dict[str, Any]:
    """The task as the API tells it, our own copy."""
    task = service.client.query(FAMILY, task_id, priority=Priority.VERIFY)
    document: dict[str, Any] = json.loads(json.dumps(task.document))
    return document


def paths_in(value: object, here: Path = ()) -> Iterator[Path]:
    """Every place in a document, the containers included; not the whole of it."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, inner in items:
        yield (*here, name)
        yield from paths_in(inner, (*here, name))


def spoilt(document: dict[str, Any], path: Path, wrong: object) -> dict[str, Any]:
    """The document with something else in that place, or nothing at all."""
    changed: Any = copy.deepcopy(document)
    holder = changed
    for name in path[:-1]:
        holder = holder[name]
    if wrong == MISSING:
        del holder[path[-1]]
    else:
        holder[path[-1]] = wrong
    assert isinstance(changed, dict)
    return changed


def live_through(service: Service, spoil: Callable[[dict[str, Any]], list[object]]) -> None:
    """One task for each spoilt document and one good one: the good one is archived at once, the others in the end."""

    def task(name: str) -> str:
        return service.sim.create_task(images=2, watermark=True, external_task_id=name, status="succeed")

    pattern = task("the good one")
    ids = [task(f"spoilt {number}") for number in range(len(spoil(document_of(service, pattern))))]
    for number, task_id in enumerate(ids):
        service.sim.override(task_id, spoil(document_of(service, task_id))[number])
    service.tell(*ids, pattern)
    service.pass_time(10 * MINUTE)
    assert service.states(pattern) == {"archived"}

    for task_id in ids:
        service.sim.override(task_id, None)
    service.pass_time(40 * MINUTE)
    buried = [task_id for task_id in ids if service.states(task_id) == {"buried"}]
    if buried:  # by a URL that was none, also when asked afresh: tried again within a day, or when told to
        service.ledger.registrations.retry(buried, account="default")
        service.pass_time(5 * MINUTE)
    unfinished = [task_id for task_id in ids if service.states(task_id) != {"archived"}]
    assert unfinished == [], [service.ledger.views.show(task_id, account="default") for task_id in unfinished]
    for task_id in ids:
        assert_right_bytes(service, task_id)
    assert service.ledger.holds.all() == ()
    assert service.failures("unexpected") == 0
    assert service.store.complaints == []


def assert_right_bytes(service: Service, task_id: str) -> None:
    """Every object of the task is one of its files."""
    genuine = {service.sim.expected_bytes(task_id, name) for name in service.sim.expected_names(task_id)}
    objects = {key: lying.content for key, lying in service.store.objects.items() if f"/{task_id}/" in key}
    manifests = [key for key in objects if key.endswith("/manifest.json")]
    assert len(manifests) == 1
    assert {content for key, content in objects.items() if key not in manifests} <= genuine


@pytest.mark.parametrize("wrong", WRONG, ids=repr)
def test_a_wrong_or_missing_value_in_any_field_loses_no_task(service: Service, wrong: object) -> None:
    live_through(
        service,
        lambda document: [spoilt(document, path, wrong) for path in sorted(paths_in(document), key=str)],
    )


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["url", "images", "x"]), inner)
    ),
    max_leaves=6,
)


@given(st.lists(st.tuples(st.floats(0, 1, exclude_max=True), anything), min_size=15, max_size=15))
@settings(max_examples=3, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_json_in_the_place_of_any_field_loses_no_task(
    tmp_path: pathlib.Path, places: list[tuple[float, object]]
) -> None:
    def spoil(document: dict[str, Any]) -> list[object]:
        paths = sorted(paths_in(document), key=str)
        return [spoilt(document, paths[int(where * len(paths))], wrong) for where, wrong in places]

    with tempfile.TemporaryDirectory(dir=tmp_path) as own, Service(pathlib.Path(own)) as service:
        live_through(service, spoil)


# --- answers that contradict each other ------------------------------------------------------------------------------


def test_results_that_change_between_two_answers_are_united_and_none_is_lost(service: Service) -> None:
    """First one image of three, then the other two in another order, then none; the CDN is down meanwhile."""
    task_id = service.sim.create_task(images=3, status="succeed")
    document = document_of(service, task_id)
    images = document["task_result"]["images"]
    service.sim.fault("cdn", faults.Raw(500))
    for shown in (images[:1], [images[2], images[1]], []):
        service.sim.override(task_id, {**document, "task_result": {"images": shown}})
        service.tell(task_id)
        service.pass_time(6 * MINUTE)

    service.sim.clear_faults()
    service.sim.override(task_id, None)
    service.pass_time(20 * MINUTE)
    assert service.states(task_id) == {"archived"}
    names = {key.rpartition("/")[2] for key in service.store.objects if f"/{task_id}/" in key}
    assert names == {"0.png", "1.png", "2.png", "manifest.json"}
    assert_right_bytes(service, task_id)


@pytest.mark.parametrize("status", ["submitted", "processing", "failed"])
def test_a_success_that_is_taken_back_stays_a_success(service: Service, status: str) -> None:
    task_id = service.sim.create_task(status="succeed")
    document = document_of(service, task_id)
    service.tell(task_id)
    service.verify_all()
    service.sim.override(task_id, {**document, "task_status": status, "task_result": {}})
    service.tell(task_id)
    service.pass_time(10 * MINUTE)

    assert service.states(task_id) == {"archived"}
    assert_right_bytes(service, task_id)


# --- lists that move while they are read ----------------------------------------------------------------------------


def test_a_list_that_is_shuffled_anew_for_every_page_hides_a_task_for_some_sweeps_only(
    service: Service,
) -> None:
    service.sim.switches.list_order = "shuffled"
    service.sim.switches.list_page_rows_max = 10
    ids = [service.sim.create_task(status="succeed") for _ in range(60)]

    service.pass_time(HOUR)
    service.assert_archived(*ids)


def test_a_list_that_shrinks_while_it_is_read_hides_no_task_that_stays(service: Service) -> None:
    """With every page that is read, the oldest ten rows vanish, as if their 30 days were over."""
    service.sim.switches.list_page_rows_max = 10
    vanishing = [service.sim.create_task(status="succeed") for _ in range(40)]
    staying = [service.sim.create_task(status="succeed") for _ in range(40)]

    def shrink(request: LoggedRequest) -> None:
        if request.kind == "list":
            for _ in range(min(10, len(vanishing))):
                service.sim.hide_from_list(vanishing.pop(0))

    service.sim.on_request(shrink)
    service.pass_time(10 * MINUTE)
    service.assert_archived(*staying)
