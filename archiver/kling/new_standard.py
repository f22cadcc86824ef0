"""A task as `/tasks` and `/solutions` show it, and the families that it may belong to. No I/O.

`/tasks` names no family, and its product types cannot be trusted, so a task is judged by the types of its outputs.
While it has none, every family is possible: archiving too much is a nuisance, archiving too little loses results.

Images of virtual try-on look like all others, so `tasks/try_on` covers all images.
"""

import dataclasses
from collections.abc import Mapping, Sequence

from archiver.families import (
    FAMILIES,
    OUTPUTS,
    ROLE_OF_ARRAY,
    ROLE_OF_OUTPUT_TYPE,
    SOLUTIONS,
    arrays_shown_as,
    collection_of,
    families_fitting,
    roles_shown,
    shown_as,
)
from archiver.model import Role

_RARE = frozenset({Role.AUDIO, Role.VOICE, Role.ELEMENT})
"""Roles that only one or two families make, and no family of the new standard."""


@dataclasses.dataclass(frozen=True, slots=True)
class NewStandardTask:
    """A task as `/tasks` or `/solutions` shows it."""

    collection: str
    document: Mapping[str, object]
    """The API's own object, fit to be stored."""


def roles_of(document: Mapping[str, object]) -> frozenset[Role]:
    """What the task has made, as far as its outputs tell; empty while it has none, `OTHER` for an unknown type."""
    outputs = document.get(OUTPUTS)
    roles = {_role(row) for row in outputs} if isinstance(outputs, list) else set()
    result = document.get("task_result")
    for holder in (document, result if isinstance(result, dict) else {}):
        roles |= {shown_as(role) for array, role in ROLE_OF_ARRAY.items() if holder.get(array)}
    return frozenset(roles)


def _role(row: object) -> Role:
    output_type = row.get("type") if isinstance(row, dict) else None
    return ROLE_OF_OUTPUT_TYPE.get(output_type, Role.OTHER) if isinstance(output_type, str) else Role.OTHER


def covers(families: Sequence[str], roles: frozenset[Role]) -> bool:
    """Whether an account with these families archives a task of `/tasks` that made `roles`."""
    if not roles or Role.OTHER in roles:
        return True
    return any(roles & (roles_shown(family) or frozenset()) for family in families)


def own_paths(hint: str | None, families: Sequence[str], roles: frozenset[Role]) -> list[str]:
    """The families below `/v1/` to ask for a task of `/tasks` that made `roles`: the hint, then the configured ones
    that may have made it. None where the hint is a collection: that has answered."""
    if collection_of(hint) is not None:
        return []
    fitting = families_fitting(arrays_shown_as(roles), families)
    if roles and roles <= _RARE:
        fitting += [family for family in FAMILIES if family not in fitting]
    found = [family for family in fitting if collection_of(family) is None and _may_make(family, roles)]
    return list(dict.fromkeys([hint, *found] if hint is not None else found))


def _may_make(family: str, roles: frozenset[Role]) -> bool:
    made = roles_shown(family)
    return not roles or Role.OTHER in roles or made is None or bool(made & roles)


def guess_family(shown: NewStandardTask, preferred: Sequence[str | None]) -> str:
    """A family for a task that only its collection knows, which names none.

    The guess is the first of `preferred` that belongs to the collection and makes what the task has made. Otherwise, at
    `/solutions`, it is virtual try-on, the only solution this version knows. At `/tasks` it goes by what the task has
    made, video before image before the rest. A task that has made nothing yet is taken for a video until it ends (see
    `is_provisional`).
    """
    roles = roles_of(shown.document)
    for family in preferred:
        if family is not None and collection_of(family) == shown.collection and _fits(family, roles):
            return family
    if shown.collection == SOLUTIONS:
        return "solutions/virtual_try_on"
    if not roles or Role.VIDEO in roles:
        return "tasks/video"
    return "tasks/image" if Role.IMAGE in roles else f"tasks/{min(roles)}"


def _fits(family: str, roles: frozenset[Role]) -> bool:
    if collection_of(family) == SOLUTIONS or not roles:
        return True
    makes: Sequence[str] = FAMILIES.get(family) or [family.partition("/")[2]]
    return any(role in roles for role in makes)
