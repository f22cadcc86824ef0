"""One task object of an answer → a `Task`: where its results sit, and what their files are called. No I/O.

1. Nothing is dropped: a URL in a place that no table knows becomes an asset too, reported in `unknown_fields`. Only a
   watermark's field may hold something else, "None" or "-", and then there is no watermark: most tasks have none.
2. For any JSON `read_task` returns a `Task` or raises `ApiAnswerUnreadable`.

`reading` reads the whole object: its rows by `arrays`, their URLs by `urls`, the names of the files by `stems`.
"""

from archiver.kling.results.arrays import ResultArray, result_arrays
from archiver.kling.results.reading import read_task, readable_external_id, readable_id, unread_task
from archiver.kling.results.urls import strings_in

__all__ = [
    "ResultArray",
    "read_task",
    "readable_external_id",
    "readable_id",
    "result_arrays",
    "strings_in",
    "unread_task",
]
