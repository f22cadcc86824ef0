"""How a task is written in the three places where it can be read: legacy query, callback, new standard. No HTTP.

They differ on purpose as the real ones do (archiver/kling/API.md 1.3, 5.1, 5.3): callbacks and `/tasks` lose fields,
list rows of some families carry more than single answers, and what is empty is an empty object here, an empty array
there, missing elsewhere.
"""

import json
from collections.abc import Callable

from tests.simulator.account import SimulatedFile, SimulatedTask
from tests.simulator.families import ResultArray

Sign = Callable[[SimulatedFile], str]
Row = dict[str, object]


def json_bytes(document: object) -> bytes:
    """UTF-8 as the real API sends it; only what UTF-8 cannot say (a lone surrogate) turns into escapes."""
    try:
        return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        return json.dumps(document, separators=(",", ":")).encode()


def _task_info(task: SimulatedTask) -> Row:
    info: Row = {}
    if task.external_task_id:
        info["external_task_id"] = task.external_task_id
    if task.family.parent_video:
        parent = f"https://v15-kling.klingai.com/parent/{task.task_id}.mp4"
        info["parent_video"] = {"id": str(int(task.created_at)), "url": parent, "duration": "5"}
    return info


def _rows(task: SimulatedTask, array: ResultArray, *, sign: Sign, watermark: bool) -> list[Row]:
    rows: list[Row] = []
    for number, index in enumerate(task.indexes):
        row: Row = {}
        if array.id_field != "index":
            row[array.id_field] = f"{task.created_at}{number:05}"
        elif index is not None:
            row["index"] = index
        for file in task.files:
            if (file.array, file.row) == (array.name, number) and (
                watermark or file.field != "watermark_url"
            ):
                row[file.field] = sign(file)
        rows.append({**row, **array.extra})
    return rows


def _task_result(task: SimulatedTask, *, sign: Sign, watermark: bool) -> Row:
    if task.status != "succeed":
        return {}
    result: Row = {}
    if task.family.series:
        result["result_type"] = "series" if task.series else "single"
    for array in task.arrays:
        result[array.name] = _rows(task, array, sign=sign, watermark=watermark)
    return result


def _empty_watermarks(task: SimulatedTask, result: Row) -> None:
    """Where there is no watermarked file the field is missing in lists and an empty text here."""
    if task.watermark or not task.family.watermark_in_single:
        return
    for array in task.arrays:
        rows = result.get(array.name)
        if isinstance(rows, list) and any(file.watermark for file in array.files):
            for row in rows:
                row["watermark_url"] = ""


def created_document(task: SimulatedTask) -> Row:
    """`data` of a create answer."""
    return {
        "task_id": task.task_id,
        "task_info": _task_info(task),
        "task_status": task.status,
        "created_at": task.created_at,
        "updated_at": task.updated_at,
    }


def legacy_document(task: SimulatedTask, *, sign: Sign, in_list: bool) -> object:
    """`data` of a legacy single query, or one row of a list."""
    if task.override is not None:
        return task.override
    watermark = in_list or task.family.watermark_in_single
    result = _task_result(task, sign=sign, watermark=watermark)
    if not in_list:
        _empty_watermarks(task, result)
    document = created_document(task) | {
        "task_status_msg": task.message,
        "watermark_info": {"enabled": task.watermark},
        "task_result": result,
    }
    if task.status == "succeed":
        document["final_unit_deduction"] = str(len(task.indexes))
    return document


def callback_document(
    task: SimulatedTask, status: str, *, sign: Sign, solution_shape: str = "outputs"
) -> Row:
    """The body of a callback, in the dialect of the task's family; of a solution, in either."""
    if task.family.standard == "new" or (task.family.standard == "solution" and solution_shape == "outputs"):
        return new_standard_document(task, sign=sign, status=status)
    return _legacy_callback(task, status, sign=sign)


def _legacy_callback(task: SimulatedTask, status: str, *, sign: Sign) -> Row:
    """No wrapper, no watermark, every result array there though empty."""
    result: Row = {"images": [], "videos": [], "audios": []}
    if status == "succeed":
        for array in task.arrays:
            if array.name in result:
                result[array.name] = _rows(task, array, sign=sign, watermark=False)
    return {
        "task_id": task.task_id,
        "task_status": status,
        "task_status_msg": task.message if status == "failed" else "",
        "created_at": task.created_at,
        "updated_at": task.updated_at,
        "task_info": _task_info(task),
        "task_result": result,
    }


def solution_document(task: SimulatedTask, *, sign: Sign, shape: str) -> Row:
    """A task as `/solutions` tells it: the success word of the legacy standard, the rest of either."""
    if shape == "outputs":
        return new_standard_document(task, sign=sign) | {"status": task.status}
    return created_document(task) | {
        "task_status_msg": task.message,
        "task_result": _task_result(task, sign=sign, watermark=True),
    }


def new_standard_document(task: SimulatedTask, *, sign: Sign, status: str | None = None) -> Row:
    """A task as `/tasks` tells it, or a callback of the new standard: `outputs` in array order, no index."""
    status = status or task.status
    outputs: list[Row] = []
    if status == task.status == "succeed":
        for array in task.arrays:
            kind = array.name.removeprefix("series_").removesuffix("s")
            for row in _rows(task, array, sign=sign, watermark=True):
                renamed = {_NEW_NAMES.get(key, key): value for key, value in row.items() if key != "index"}
                outputs.append({"type": kind, **renamed})
    return {
        "id": task.task_id,
        "status": "succeeded" if status == "succeed" else status,
        "message": task.message,
        "create_time": task.created_at,
        "update_time": task.updated_at,
        "external_id": task.external_task_id or "",
        "outputs": outputs,
        "billing": [],
    }


_NEW_NAMES = {
    "url_mp3": "mp3_url",
    "url_wav": "wav_url",
    "duration_mp3": "mp3_duration",
    "duration_wav": "wav_duration",
    "voice_id": "id",
    "voice_name": "name",
    "trial_url": "url",
}
