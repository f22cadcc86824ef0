"""How fetching a file fails: its URL, its host, the file itself, the spool."""

from archiver.failures.failure import Disposition, Failure, HostVerdict


class UrlRefused(Failure):
    """The URL or address policy refuses. DNS or settings may change, so it is retried, not buried."""

    reason = "url_refused"
    what_to_do = "If the host is Kling's, add its domain to KLING_ASSET_HOSTS."


class AssetGone(Failure):
    """404 or 410. Final only at a fresh URL."""

    reason = "asset_gone"
    disposition = Disposition.BURY
    what_to_do = "The CDN no longer has this file, even at a fresh URL: look for it in Kling's console."
    host_verdict = HostVerdict.ANSWERS


class FetchRefused(Failure):
    """400, 401, 403 or another 4xx. Never final: an access rule between us and the file must not end its task."""

    reason = "fetch_refused"
    host_verdict = HostVerdict.REFUSES


class FetchTimeout(Failure):
    reason = "fetch_timeout"
    host_verdict = HostVerdict.DOWN


class FetchEnded(FetchTimeout):
    """Bytes came steadily up to the end of the time for one file: the host is slow, not down."""

    host_verdict = HostVerdict.ANSWERS


class FetchFailed(Failure):
    """No connection, reset, TLS, 429 or 5xx."""

    reason = "fetch_failed"
    host_verdict = HostVerdict.DOWN


class FileUnusable(Failure):
    """An answer that is no file: a redirect to nowhere, an encoding that we did not ask for, an odd status."""

    reason = "file_unusable"
    host_verdict = HostVerdict.ANSWERS


class BodyIncomplete(Failure):
    """Shorter than announced, or a truncated file."""

    reason = "body_incomplete"
    host_verdict = HostVerdict.ANSWERS

    def __init__(self, message: str, *, host: str | None = None, sha256: str | None = None) -> None:
        super().__init__(message, host=host)
        self.sha256 = sha256
        """Of a complete body with a truncated file, so that archive can compare two fetches; else None."""


class NotMedia(Failure):
    """Retried at first: an error page with status 200 may be over soon."""

    reason = "not_media"
    what_to_do = (
        "The CDN sent no image, video or audio file of a known type: look at the task in Kling's console."
    )
    host_verdict = HostVerdict.REFUSES


class NeverMedia(NotMedia):
    """No media for an hour."""

    disposition = Disposition.BURY


class TooLarge(Failure):
    reason = "too_large"
    disposition = Disposition.BURY
    host_verdict = HostVerdict.ANSWERS
    what_to_do = (
        "The file is larger than KLING_ASSET_BYTES_MAX (KLING_VIDEO_BYTES_MAX for video and audio): raise the setting, "
        "then retry. Images of more than 100 megapixels are always refused."
    )


class SpoolFull(Failure):
    reason = "spool_full"
    disposition = Disposition.HOLD
    what_to_do = "Free space in KLING_SPOOL_DIR, or set it to a folder on a larger file system."


class HostDown(Failure):
    """Five tasks in a row had no answer: holds that host only."""

    reason = "host_down"
    disposition = Disposition.HOLD
    what_to_do = "A CDN host gives no file: do nothing, work resumes when it answers."


class HostRefusing(Failure):
    """Ten tasks in a row, each at its first try, were refused: holds that host only."""

    reason = "host_refusing"
    disposition = Disposition.HOLD
    what_to_do = (
        "A CDN host refuses every file. If this machine's address is not banned there (try one of the URLs in a "
        "browser), do nothing: work resumes with the first whole file."
    )
