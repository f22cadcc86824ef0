"""Values of labels: kinds of requests, and what came of them."""

import enum


class CallbackResult(enum.StrEnum):
    """The first two are those of `model.CallbackOutcome`."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    MALFORMED = "malformed"
    UNAUTHORIZED = "unauthorized"
    BAD_SIGNATURE = "bad_signature"
    TOO_LARGE = "too_large"
    UNAVAILABLE = "unavailable"


class GatewayKind(enum.StrEnum):
    """The kinds of request that clients of the gateway send."""

    CREATE = "create"
    QUERY = "query"
    """A query for one task, or for tasks by their ids."""
    LIST = "list"
    OTHER = "other"


class CreateResult(enum.StrEnum):
    """How a create through the gateway ended."""

    REGISTERED = "registered"
    REFUSED = "refused"
    """Kling refused the create, and created nothing."""
    REFUSED_URL = "refused_url"
    """The gateway refused the create because of its callback URL."""
    UNREADABLE = "unreadable"
    """Passed on untouched: its body is not one JSON object. The sweep finds the task."""
    UNREFERENCED = "unreferenced"
    """Passed on unchanged: the ledger could not be written. Kling itself calls the client."""
    NO_ANSWER = "no_answer"
    """Kling may have created a task, and has not said so."""
    JOINED = "joined"
    """Later, of those without an answer: the upkeep has found the task, by external id or time."""
    DOUBTED = "doubted"
    """Later, of those without an answer: a task may be its own, or another's."""


class LinkResult(enum.StrEnum):
    """Where a link led."""

    STORED = "stored"
    """To the file."""
    UPSTREAM = "upstream"
    """To the API's own URL, because the file is not stored."""
    GONE = "gone"
    """Nowhere: the file is not stored, and not tried any more."""
    REFUSED = "refused"
    """Nowhere: it is no link of ours, the range is not in the file, or ledger or store could not give it."""


class Endpoint(enum.StrEnum):
    """Kinds of request to the API."""

    QUERY = "query"
    LIST = "list"
    TASKS = "tasks"
    CREATE = "create"


class ForwardResult(enum.StrEnum):
    """How a try to send a forward ended."""

    OK = "ok"
    RETRY = "retry"
    GONE = "gone"
    REFUSED = "refused"
