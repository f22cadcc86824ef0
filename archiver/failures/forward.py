"""How forwards fail. No task depends on its forward, which is tried again."""

from archiver.failures.failure import Disposition, Failure


class ConsumerNotReached(Failure):
    """No status came within 15 s."""

    reason = "consumer_not_reached"
    disposition = Disposition.RETRY
    what_to_do = (
        "Let the application answer within 15 seconds. The daemon sends its forwards again for 7 days; after that: "
        "kling-archiver forwards retry --dead."
    )


class ConsumerRefused(Failure):
    """The application answered with a status other than 2xx or 410."""

    reason = "consumer_refused"
    disposition = Disposition.RETRY
    what_to_do = (
        "The application's log says why it refuses. The daemon sends its forwards again for 7 days; after that: "
        "kling-archiver forwards retry --dead."
    )


class ConsumerNotAllowed(Failure):
    """A client's callback URL leads to an address that is not allowed."""

    reason = "consumer_not_allowed"
    disposition = Disposition.RETRY
    what_to_do = (
        "A client's callback URL must lead to a public address by https. If this one is your own, add its origin to "
        "KLING_FORWARD_HOSTS."
    )
