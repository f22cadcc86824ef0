"""One request to the API: its path, its body, and its name in messages. No I/O."""

import dataclasses
from collections.abc import Mapping
from typing import Self
from urllib.parse import quote, urlencode

from archiver import failures, model
from archiver.families import collection_of

IDENTIFIER_CHARACTERS_MAX = 1024


@dataclasses.dataclass(frozen=True, slots=True)
class Question:
    """One request; its text is what messages call it."""

    endpoint: str
    """The metric's label."""
    target: str
    """Path and query below the base URL, encoded."""
    family: str
    by_id: bool = False
    """Whether the request is about one task."""
    body: Mapping[str, object] | None = None
    """Sent as JSON by POST; with None the request is a GET."""

    @classmethod
    def create(cls, family: str, body: Mapping[str, object]) -> Self:
        """A create, below `/v1`."""
        return cls("create", f"/v1/{quote(family)}", family, body=body)

    @classmethod
    def list_page(cls, family: str, *, page: int, size: int) -> Self:
        """A page of a list, below `/v1`."""
        return cls("list", f"/v1/{quote(family)}?pageNum={page}&pageSize={size}", family)

    @classmethod
    def collection(
        cls, name: str, *, query: Mapping[str, str] | None, body: Mapping[str, object] | None
    ) -> Self:
        """`/tasks` or `/solutions`: GET with `query`, or POST with `body`."""
        target = f"/{name}" if query is None else f"/{name}?{urlencode(query, safe=',')}"
        return cls("tasks", target, f"{name}/all", body=body)

    @classmethod
    def task(cls, family: str, identifier: str, *, has_api_key: bool) -> Self:
        """One task by its id; below `/v1` also by its external id. Raises NeedsApiKey, ApiRequestInvalid."""
        collection = collection_of(family)
        if collection is None:
            return cls("query", f"/v1/{quote(family)}/{_segment(identifier)}", family, by_id=True)
        if not has_api_key:
            raise failures.NeedsApiKey(f"Tasks of {family} can be read with an API Key only.")
        if not model.TASK_ID.fullmatch(identifier):
            raise failures.ApiRequestInvalid(f"Tasks of {family} are asked for by their own id.")
        return cls("tasks", f"/{collection}?task_ids={identifier}", family, by_id=True)

    def __str__(self) -> str:
        if self.endpoint == "create":
            return f"a request to create a task of {self.family}"
        if self.endpoint == "tasks" and not self.by_id:
            return f"a question at /{self.family.partition('/')[0]}"
        return f"a question for {'one task' if self.by_id else 'a list page'} of {self.family}"


def _segment(identifier: str) -> str:
    """An id as one path segment; external ids are free text."""
    try:
        segment = quote(identifier, safe="")
    except UnicodeEncodeError:
        segment = ""
    # An empty one would ask for the list; proxies resolve dots.
    if segment in ("", ".", "..") or len(identifier) > IDENTIFIER_CHARACTERS_MAX:
        raise failures.ApiRequestInvalid("An id that cannot be asked for: empty, dots only, or too long.")
    return segment
