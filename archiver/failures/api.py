"""How the Kling API fails (archiver/kling/API.md 3), and what it says of a task that cannot be archived."""

from archiver.failures.failure import Disposition, Failure, Outside
from archiver.model import Task


class ApiTimeout(Failure):
    reason = "api_timeout"
    is_of_process = True
    outside = Outside.API
    what_to_do = (
        "The API at KLING_BASE_URL accepts connections, but does not answer in time: check the network and the proxy, "
        "if there is one. Work resumes when the API answers."
    )


class ApiUnreachable(Failure):
    reason = "api_unreachable"
    is_of_process = True
    outside = Outside.API
    what_to_do = (
        "The API at KLING_BASE_URL cannot be reached: check the setting, this machine's network, DNS and firewall, and "
        "HTTPS_PROXY if you use a proxy. Work resumes when the API answers."
    )


class ApiNotReached(ApiUnreachable):
    """No connection was made: a create has created nothing."""


class ApiServerError(Failure):
    """5000, 5002, or any status ≥ 500 without a known code."""

    reason = "api_server_error"
    outside = Outside.API
    what_to_do = (
        "The API at KLING_BASE_URL answers with server errors: do nothing, work resumes when it recovers."
    )


class ApiAnswerUnreadable(Failure):
    """An answer, or one row of it, that the program cannot use: another task's id, an unknown status, a broken
    number."""

    reason = "api_answer_unreadable"
    shown: Task | None = None
    """The row's task, with `is_unread`, if its id and its creation time can be read: the task exists."""
    what_to_do = (
        "The answers from KLING_BASE_URL are not Kling's (a login page, a proxy's error page, half an answer): check "
        "the setting, and any proxy or firewall on the way."
    )


class ApiPageUnreadable(ApiAnswerUnreadable):
    """Most rows of a list page: the API lists tasks in another format."""

    outside = Outside.API
    what_to_do = (
        "The API at KLING_BASE_URL lists tasks in a format that this version cannot read: install a newer version of "
        "kling-archiver, or check the setting."
    )


class ApiEnvelopeMissing(ApiAnswerUnreadable):
    """The program can read nothing of the answer: HTML, an empty body, half a response."""

    outside = Outside.API


class ApiAnswerTooLarge(ApiAnswerUnreadable):
    """More bytes than any answer may have."""


class ListTooLong(Failure):
    """Page 1000 of a list is full, and its newest tasks may lie behind it."""

    reason = "api_list_too_long"
    what_to_do = (
        "Kling's list of this family has more than 1000 pages: tasks without a callback may not be found. Check that "
        "every create names the callback URL, or register its task (kling-archiver register)."
    )


class ApiRateLimited(Failure):
    """1302: the limiter halves its rate."""

    reason = "api_rate_limited"


class ApiConcurrencyExceeded(ApiRateLimited):
    """1303, for a create: running tasks occupy every slot of the account's pack."""

    reason = "api_concurrency_exceeded"


class ApiTokenRefused(Failure):
    """1003 or 1004, even with a fresh token: the clocks differ."""

    reason = "api_token_refused"
    is_of_process = True
    outside = Outside.API
    what_to_do = "Set this machine's clock by NTP: the API refuses tokens signed at this time."


class ApiBadParameter(Failure):
    """1201 with a message that is not about an unknown task, and every unlisted 4xx."""

    reason = "api_bad_parameter"


class ApiRefusedWithoutCode(ApiBadParameter):
    """A 4xx whose body is not the API's. It may come from a proxy that refuses every request."""

    outside = Outside.API
    what_to_do = ApiAnswerUnreadable.what_to_do


class ApiCredentialsRefused(Failure):
    reason = "api_credentials_refused"
    is_of_process = True
    disposition = Disposition.HOLD
    what_to_do = (
        "Check KLING_ACCESS_KEY and KLING_SECRET_KEY (or KLING_API_KEY), and that KLING_BASE_URL belongs to the "
        "region that issued them."
    )


class ApiAccountAbnormal(Failure):
    reason = "api_account_abnormal"
    disposition = Disposition.HOLD
    what_to_do = (
        "The Kling account is marked abnormal (1100): check Kling's console or contact Kling's support."
    )


class ApiAccountInArrears(Failure):
    reason = "api_account_in_arrears"
    disposition = Disposition.HOLD
    what_to_do = "The Kling account is in arrears (1101): pay in Kling's console."


class ApiPackUsedUp(Failure):
    reason = "api_pack_used_up"
    disposition = Disposition.HOLD
    what_to_do = "The Kling resource pack is used up or has expired (1102): renew it in Kling's console."


class ApiForbidden(Failure):
    """1103: holds its family only."""

    reason = "api_forbidden"
    disposition = Disposition.HOLD
    what_to_do = (
        "These credentials may not use this family (1103): grant them the right, or remove the family from "
        "KLING_FAMILIES."
    )


class ApiAddressNotAllowed(Failure):
    reason = "api_address_not_allowed"
    is_of_process = True
    disposition = Disposition.HOLD
    what_to_do = "This machine's IP address is not on the Kling account's allow-list (1304): add it there."


class ApiMaintenance(Failure):
    reason = "api_maintenance"
    disposition = Disposition.HOLD
    what_to_do = "Kling is under maintenance (5001): do nothing, work resumes when it ends."


class ApiRequestInvalid(Failure):
    """1200 and 1202: the API rejects this request about this task."""

    reason = "api_request_invalid"
    disposition = Disposition.BURY


class ApiModelMissing(Failure):
    reason = "api_model_missing"
    disposition = Disposition.BURY


class ApiPolicyTriggered(Failure):
    """1300, for a create."""

    reason = "api_policy_triggered"
    what_to_do = "Kling's platform policy does not allow this request (1300): change the prompt or the image."


class ApiContentRefused(Failure):
    """1301, for a create."""

    reason = "api_content_refused"
    what_to_do = "Kling's content safety refuses this request (1301): change the prompt or the image."


class CreateOutcomeUnknown(Failure):
    """A create may have made a task and been charged. Never repeat it before asking the API by its external id."""

    reason = "create_unsettled"


class ExternalIdTaken(Failure):
    """Another task of the account has this external id. The API would refuse the create (1201), at no cost."""

    reason = "external_id_taken"
    what_to_do = "Choose another external id, or leave it out: nothing was created."


class NotOffered(Failure):
    """404 or 405 for a list, `/tasks` or `/solutions`: many gateways only relay single queries."""

    reason = "api_not_offered"
    disposition = Disposition.BURY
    what_to_do = (
        "The API at KLING_BASE_URL does not offer this endpoint: the daemon works without it, and retries it "
        "occasionally."
    )


class TaskNotFound(Failure):
    """A definite "no such task" (400/1201 naming the id). After a grace period, verification decides what it means."""

    reason = "task_not_found"


class TaskNotShown(Failure):
    """A query for one task got 404, 1203 or an answer without a task: "no such task", but not as documented.

    A gateway may answer so about every task for an hour. So it counts as `TaskNotFound` only if the API otherwise
    works.
    """

    reason = "task_not_shown"


class ResultsMissing(Failure):
    """`succeed`, but no result URL anywhere (archiver/kling/API.md 11)."""

    reason = "results_missing"
    disposition = Disposition.BURY
    what_to_do = "The API says succeed but names no result URL: look at the task in Kling's console."


class NeedsApiKey(Failure):
    reason = "needs_api_key"
    disposition = Disposition.BURY
    what_to_do = "Only an API Key can read tasks of the new standard: set KLING_API_KEY."
