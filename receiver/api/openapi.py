"""`/api` as an OpenAPI 3.1 document; a test holds it against what the API does."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, Final

from archiver.ledger.views.filters import TEXT_CHARACTERS_MAX
from archiver.model import FAMILY, State
from archiver.version import VERSION
from receiver.api.queries import LIMIT, LIMIT_MAX

Schema = dict[str, Any]

_TEXT: Final[Schema] = {"type": "string"}
_TEXT_OR_NULL: Final[Schema] = {"type": ["string", "null"]}
_TIME: Final[Schema] = {"type": "string", "format": "date-time"}
_TIME_OR_NULL: Final[Schema] = {"type": ["string", "null"], "format": "date-time"}
_NUMBER: Final[Schema] = {"type": "integer", "minimum": 0}
_NUMBER_OR_NULL: Final[Schema] = {"type": ["integer", "null"], "minimum": 0}
_FLAG: Final[Schema] = {"type": "boolean"}
_COUNTS: Final[Schema] = {"type": "object", "additionalProperties": _NUMBER}
_WRITTEN_TIME: Final[Schema] = {
    "type": "string",
    "examples": ["2026-11-20", "2026-11-20T08:00Z", "36h", "7d"],
}


def _object(properties: Mapping[str, Schema], **more: Any) -> Schema:
    """An object whose properties are always present."""
    return {"type": "object", "properties": dict(properties), "required": [*properties], **more}


def _list_of(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _envelope(data: Schema) -> Schema:
    return _object({"code": {"const": 0}, "message": _TEXT, "request_id": _TEXT, "data": data})


_LISTED: Final = {
    "task_id": _TEXT,
    "account": _TEXT,
    "family": _TEXT_OR_NULL,
    "external_task_id": _TEXT_OR_NULL,
    "state": {"enum": [*map(str, State)]},
    "reason": _TEXT_OR_NULL,
    "message": _TEXT_OR_NULL,
    "created_at": _TIME_OR_NULL,
    "updated_at": _TIME_OR_NULL,
    "archived_at": _TIME_OR_NULL,
    "expires_at": _TIME,
    "discovered_by": _TEXT,
    "manifest_key": _TEXT_OR_NULL,
    "prompt": {**_TEXT_OR_NULL, "description": "The first 500 characters of what was asked for."},
}
_ASSET: Final = {
    "name": _TEXT_OR_NULL,
    "stem": _TEXT,
    "key": _TEXT_OR_NULL,
    "stored": _FLAG,
    "bytes": _NUMBER_OR_NULL,
    "sha256": _TEXT_OR_NULL,
    "link": {**_TEXT_OR_NULL, "description": "A URL that stays valid; null without a link secret."},
    "reason": _TEXT_OR_NULL,
    "url": {**_TEXT_OR_NULL, "description": "Kling's own URL of a file that is not stored; else null."},
}
_FORWARD: Final = {
    "target": _TEXT,
    "event": _TEXT,
    "state": {"enum": ["waiting", "delivered", "dead"]},
    "attempts": _NUMBER,
    "due_at": _TIME_OR_NULL,
    "last_status": _NUMBER_OR_NULL,
}
_TASK: Final = {
    "task_id": _TEXT,
    "account": _TEXT,
    "family": _TEXT_OR_NULL,
    "external_task_id": _TEXT_OR_NULL,
    "state": {"enum": [*map(str, State), "forgotten"]},
    "reason": _TEXT_OR_NULL,
    "message": _TEXT_OR_NULL,
    "what_to_do": _TEXT_OR_NULL,
    "attempts": _NUMBER,
    "due_at": _TIME_OR_NULL,
    "created_at": _TIME_OR_NULL,
    "updated_at": _TIME_OR_NULL,
    "expires_at": _TIME_OR_NULL,
    "discovered_by": _TEXT_OR_NULL,
    "callbacks": _NUMBER,
    "manifest_key": _TEXT_OR_NULL,
    "amendment_keys": _list_of(_TEXT),
    "assets": _list_of(_object(_ASSET)),
    "forwards": _list_of(_object(_FORWARD)),
    "history": _list_of(_object({"at": _TIME, "event": _TEXT, "detail": _TEXT})),
}
_STATS: Final = {
    "states": _COUNTS,
    "earliest_deadline": _TIME_OR_NULL,
    "last_callback_at": _TIME_OR_NULL,
    "last_sweep": {"type": "object", "additionalProperties": _TIME_OR_NULL},
    "missed_callbacks": _COUNTS,
    "holds": _list_of(_object({"stage": _TEXT, "reason": _TEXT, "since": _TIME, "what_to_do": _TEXT})),
    "daemons": _list_of(_object({"name": _TEXT, "pid": _NUMBER, "version": _TEXT})),
    "problems": _list_of(
        _object(
            {
                "code": _TEXT,
                "message": _TEXT,
                "what_to_do": _TEXT,
                "account": _TEXT_OR_NULL,
                "since": _TIME_OR_NULL,
            }
        )
    ),
}
_REGISTRATION: Final[Schema] = {
    "type": "object",
    "required": ["task_id", "family"],
    "additionalProperties": False,
    "properties": {
        "task_id": {**_TEXT, "description": "Its id, or its external id."},
        "family": {**_TEXT, "pattern": f"^(?:{FAMILY.pattern})$"},
        "external_task_id": _TEXT_OR_NULL,
        "account": {**_TEXT_OR_NULL, "description": "Which account, if there are several."},
        "request": {"type": ["object", "null"], "description": "What was asked for, without image data."},
        "created_at": {"description": "As RFC 3339 text, or as Unix time in milliseconds or seconds."},
    },
}
_SCHEMAS: Final = {
    "ListedTask": _object(_LISTED),
    "TaskPage": _object(
        {
            "tasks": _list_of(_ref("ListedTask")),
            "next_page": {**_TEXT_OR_NULL, "description": "For `page`; null on the last page."},
            "searched_back_to": {
                **_TIME_OR_NULL,
                "description": "How far back `text` was looked for; null: in all, in none yet, or without `text`.",
            },
            "further_page": {
                **_TEXT_OR_NULL,
                "description": "For `page` of a search for `text` that goes on behind `searched_back_to`.",
            },
        }
    ),
    "Task": {
        **_object(_TASK),
        "properties": {**_TASK, "forgotten_at": {**_TIME, "description": "Only of a forgotten task."}},
    },
    "Stats": _object(_STATS),
    "Registration": _REGISTRATION,
    "Registered": _envelope(
        _object(
            {
                "task_id": _TEXT,
                "account": _TEXT,
                "family": _TEXT,
                "external_task_id": _TEXT_OR_NULL,
                "new": _FLAG,
            }
        )
    ),
    "Retried": _envelope(_object({"task_id": _TEXT, "account": _TEXT, "was": {"enum": [*map(str, State)]}})),
    "Error": {
        "type": "object",
        "required": ["code", "message"],
        "properties": {"code": {"type": "integer"}, "message": _TEXT, "request_id": _TEXT},
    },
}

_MEANINGS: Final = {
    400: "What is wrong stands in `message`.",
    401: "The admin token is missing or wrong.",
    404: "No task has this id or external id.",
    408: "The body did not arrive in time.",
    409: "The task is archived or forgotten.",
    413: "The body is too large.",
    500: "An internal error; it has been logged.",
    503: "The ledger cannot be used now; please try again.",
}


def _parameter(name: str, schema: Schema, description: str, *, place: str = "query") -> Schema:
    return {
        "name": name,
        "in": place,
        "required": place == "path",
        "description": description,
        "schema": schema,
    }


_ID: Final = _parameter("id", {**_TEXT, "minLength": 1}, "Id or external id of the task.", place="path")
_ACCOUNT: Final = _parameter("account", _TEXT, "Which account, if several have the id.")
_FILTERS: Final = (
    _parameter("state", {"enum": [*map(str, State)]}, "Only these."),
    _parameter("family", {**_TEXT, "pattern": f"^(?:{FAMILY.pattern})$"}, "Only of this family."),
    _parameter("account", {**_TEXT, "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"}, "Only of this account."),
    _parameter("since", _WRITTEN_TIME, "Created then or later."),
    _parameter("until", _WRITTEN_TIME, "Created before then."),
    _parameter(
        "text",
        {**_TEXT, "maxLength": TEXT_CHARACTERS_MAX},
        "A task id: its tasks, as the first page. Else, and on the next pages: what is in external id, request or "
        "message, whatever its case; in the newest 50,000 tasks.",
    ),
    _parameter(
        "limit", {"type": "integer", "minimum": 1, "maximum": LIMIT_MAX, "default": LIMIT}, "How many."
    ),
    _parameter(
        "page",
        {**_TEXT, "pattern": r"^[0-9]{1,15}\.[0-9]{1,18}\.[0-9]{1,9}$"},
        "Of `next_page` or `further_page`.",
    ),
)


def _operation(
    name: str,
    summary: str,
    schema: Schema,
    *,
    refusals: Sequence[int] = (),
    parameters: Sequence[Schema] = (),
    body: Schema | None = None,
) -> Schema:
    def described(description: str, of: Schema) -> Schema:
        return {"description": description, "content": {"application/json": {"schema": of}}}

    made: Schema = {
        "operationId": name,
        "summary": summary,
        "parameters": [*parameters],
        "responses": {
            "200": described("Done.", schema),
            **{
                str(status): described(_MEANINGS[status], _ref("Error"))
                for status in sorted({*refusals, 401, 500, 503})
            },
        },
    }
    if body is not None:
        made["requestBody"] = {"required": True, "content": {"application/json": {"schema": body}}}
    return made


@functools.cache
def document() -> Schema:
    """The whole document."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "kling-archiver",
            "version": VERSION,
            "description": "Tasks of Kling AI, and what is archived of them.",
        },
        "security": [{"admin": []}],
        "paths": {
            "/api/tasks": {
                "get": _operation(
                    "list", "Tasks, the newest first.", _ref("TaskPage"), refusals=[400], parameters=_FILTERS
                ),
                "post": _operation(
                    "register",
                    "Follow a task.",
                    _ref("Registered"),
                    refusals=[400, 408, 409, 413],
                    body=_ref("Registration"),
                ),
            },
            "/api/tasks/{id}": {
                "get": _operation(
                    "show", "One task.", _ref("Task"), refusals=[400, 404], parameters=[_ID, _ACCOUNT]
                )
            },
            "/api/tasks/{id}/retry": {
                "post": _operation(
                    "retry",
                    "Ask the API for it again, now.",
                    _ref("Retried"),
                    refusals=[400, 404, 409],
                    parameters=[_ID, _ACCOUNT],
                )
            },
            "/api/stats": {"get": _operation("stats", "The whole ledger at a glance.", _ref("Stats"))},
            "/api/openapi.json": {"get": _operation("describe", "This document.", {"type": "object"})},
        },
        "components": {
            "schemas": _SCHEMAS,
            "securitySchemes": {"admin": {"type": "http", "scheme": "bearer"}},
        },
    }
