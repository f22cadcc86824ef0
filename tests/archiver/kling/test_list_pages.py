"""Pages of a list: their order, their end, and rows that cannot be read."""

import json

import pytest

from archiver import failures
from archiver.kling.limiter import Priority
from tests.harness.scripted_api import TASK_ID, Api, Clients, envelope, list_page, row, sample


def test_a_page_is_read_in_the_order_of_its_rows(api: Api, clients: Clients) -> None:
    api.says(sample("expand_list.json"))
    page = clients().list_page("images/editing/expand", page=3, priority=Priority.BACKGROUND)

    assert api.asked[0].path == "/v1/images/editing/expand?pageNum=3&pageSize=500"
    assert page.ids == ("830000000000000000", "830000000000000001")
    assert [task.task_id for task in page.tasks] == list(page.ids)
    assert (page.rows, page.malformed) == (2, 0)
    assert clients.observed == [("list", "0")]


@pytest.mark.parametrize("data", [None, [], {}, {"result": []}])
def test_past_the_end_a_page_has_no_rows(api: Api, clients: Clients, data: object) -> None:
    api.says(envelope(data))

    assert list_page(clients()).rows == 0


@pytest.mark.parametrize("data", [row(), {"result": [row()], "count": 1}])
def test_one_object_in_place_of_an_array_is_a_page(api: Api, clients: Clients, data: object) -> None:
    api.says(envelope(data))

    assert list_page(clients()).ids == (TASK_ID,)


def test_a_task_with_a_result_of_its_own_is_no_wrapper(api: Api, clients: Clients) -> None:
    api.says(envelope(row(result=[])))

    assert list_page(clients()).ids == (TASK_ID,)


@pytest.mark.parametrize("data", ["x", 7, True])
def test_data_that_holds_no_rows_is_unreadable_and_not_the_end(
    api: Api, clients: Clients, data: object
) -> None:
    api.says(envelope(data))

    with pytest.raises(failures.ApiAnswerUnreadable):
        list_page(clients())


BAD_ROWS = [
    "null",
    "7",
    '"x"',
    "[]",
    "{}",
    '{"task_id":"9"}',
    '{"task_id":"9","task_status":"dancing"}',
    '{"task_id":"9","task_status":NaN}',
    '{"task_id":-Infinity,"task_status":"succeed"}',
    '{"task_id":"9","task_status":"succeed","task_status":"failed"}',
    '{"task_id":"9","task_status":"succeed","x":' + "[" * 100 + "]" * 100 + "}",
]


@pytest.mark.parametrize("bad", BAD_ROWS)
def test_a_bad_row_is_counted_and_costs_no_other(api: Api, clients: Clients, bad: str) -> None:
    good = json.dumps(row())
    api.says(f'{{"code":0,"message":"ok","data":[{bad},{good}]}}'.encode())
    page = list_page(clients())

    assert [task.task_id for task in page.tasks] == [TASK_ID]
    assert (page.rows, page.malformed, len(page.reasons)) == (2, 1, 1)
    assert page.ids in ((TASK_ID,), ("9", TASK_ID))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "9" * 5000])
def test_a_number_that_json_cannot_hold_costs_nothing_in_a_field_that_is_not_used(
    api: Api, clients: Clients, number: str
) -> None:
    odd = f'{{"task_id":"9","task_status":"succeed","created_at":{number},"x":[{{"y":{number}}}]}}'
    api.says(f'{{"code":0,"message":"ok","data":[{odd}]}}'.encode())
    page = list_page(clients())

    assert (page.malformed, page.tasks[0].created_at) == (0, None)
    assert page.tasks[0].document["x"] == [{"y": None}]
