"""How fetching a file fails: its URL, its host, the file itself, the spool."""

from collections.abc import Sequence

from archiver.failures.failure import Disposition, Failure, HostVerdict

UNLISTED_HOSTS = "*"
"""Stands for all hosts that the settings do not list, in place of a host."""
UNLISTED_NAMES_MAX = 10
_TRIED_AGAIN = "It is tried again by itself until the task's deadline (`expires` in `show`)"


class UrlRefused(Failure):
    """A URL that the program does not fetch: because of its scheme or form, or an address in place of a name. Final
    only for a fresh URL."""

    reason = "url_refused"
    disposition = Disposition.BURY
    what_to_do = (
        "The API names a URL that the daemon refuses (the message says why), also when asked again: look at the task "
        "in Kling's console. If the message says that the CDN redirects to one of Kling's hosts, add its domain to "
        "KLING_ASSET_HOSTS and restart, then retry."
    )


class RedirectRefused(UrlRefused):
    """The CDN has answered with a redirect to a URL that the program does not fetch."""

    what_to_do = (
        "The CDN redirects to a URL that the daemon refuses (the message has it): if that host is Kling's, add its "
        "domain to KLING_ASSET_HOSTS and restart, then retry."
    )
    host_verdict = HostVerdict.ANSWERS


class AssetAddressRefused(UrlRefused):
    """The host is listed, and its name has an address that is refused. Held when five tasks in a row meet it."""

    reason = "asset_address_refused"
    is_of_process = True
    host_verdict = HostVerdict.ADDRESS
    what_to_do = (
        "The name of a CDN host resolves to an address that the daemon refuses, such as 198.18.0.0/15, the fake DNS of "
        "proxy programs: exclude the CDN's names from the fake addresses, or let this machine use a real DNS server. "
        "Work resumes when the name has public addresses."
    )


class AssetHostUnlisted(Failure):
    """Files of this task on listed hosts are fetched; the others wait until the settings change."""

    reason = "asset_host_unlisted"
    disposition = Disposition.HOLD
    is_probed = False
    what_to_do = (
        "If the hosts that the message names are Kling's, add them (or their domains) to KLING_ASSET_HOSTS, and "
        "restart the daemon: it judges the waiting tasks anew when it starts."
    )

    def __init__(self, hosts: Sequence[str]) -> None:
        """`hosts` are those seen so far."""
        self.hosts = tuple(hosts)
        named = ", ".join(self.hosts[:UNLISTED_NAMES_MAX])
        if len(self.hosts) > UNLISTED_NAMES_MAX:
            named += " and others"
        super().__init__(
            f"results are on hosts that KLING_ASSET_HOSTS does not list: {named}",
            host=UNLISTED_HOSTS,
            what_to_do=f"If they are Kling's, add {named} (or their domains) to KLING_ASSET_HOSTS, and restart the "
            "daemon: it judges the waiting tasks anew when it starts.",
        )


class AssetGone(Failure):
    """404 or 410. Final only at a fresh URL."""

    reason = "asset_gone"
    disposition = Disposition.BURY
    what_to_do = "The CDN no longer has this file, even at a fresh URL: look for it in Kling's console."
    host_verdict = HostVerdict.ANSWERS


class FetchRefused(Failure):
    """400, 401, 403 or another 4xx. Never final: an access rule between us and the file must not end its task."""

    reason = "fetch_refused"
    what_to_do = (
        f"{_TRIED_AGAIN}, at times with a fresh URL. If it lasts, look for a firewall or proxy that refuses the CDN to "
        "this machine; `show` has the file's URL."
    )
    host_verdict = HostVerdict.REFUSES


class FetchTimeout(Failure):
    reason = "fetch_timeout"
    what_to_do = f"{_TRIED_AGAIN}. If it lasts, check how fast this machine reaches the host of the file."
    host_verdict = HostVerdict.DOWN


class FetchEnded(FetchTimeout):
    """Bytes came steadily until the time for one file was over: the host is slow, not down."""

    host_verdict = HostVerdict.ANSWERS


class FetchFailed(Failure):
    """No connection, a reset, a TLS error, 429 or 5xx."""

    reason = "fetch_failed"
    what_to_do = (
        f"{_TRIED_AGAIN}. If it lasts, check this machine's network, DNS and firewall for the host that the message "
        "names; `show` has the file's URL."
    )
    host_verdict = HostVerdict.DOWN


class ProxyFailed(FetchFailed):
    """The proxy of HTTPS_PROXY opens no tunnel to the host."""

    reason = "proxy_failed"
    what_to_do = (
        "The proxy in HTTPS_PROXY refuses a connection to a CDN host (the message says why): let it CONNECT to the "
        "domains of KLING_ASSET_HOSTS on port 443, correct HTTPS_PROXY, or name those domains in NO_PROXY. Work "
        "resumes with the first answer."
    )


class FileUnusable(Failure):
    """An answer without a file: a redirect to nowhere, an unrequested encoding, an odd status."""

    reason = "file_unusable"
    host_verdict = HostVerdict.ANSWERS


class BodyIncomplete(Failure):
    """Shorter than announced, or a truncated file."""

    reason = "body_incomplete"
    what_to_do = (
        f"{_TRIED_AGAIN}. If the same broken bytes still come after an hour, they are kept, marked `suspect`."
    )
    host_verdict = HostVerdict.ANSWERS

    def __init__(self, message: str, *, host: str | None = None, sha256: str | None = None) -> None:
        super().__init__(message, host=host)
        self.sha256 = sha256
        """The digest of a complete body with a truncated file, so that archive can compare two fetches; else None."""


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
        "then retry. Images of more than 200 megapixels, or 65,535 pixels on a side, are always refused."
    )


class SpoolTooSmall(TooLarge):
    """The file system of the spool cannot hold a file of this size even when it is empty."""

    reason = "spool_too_small"
    what_to_do = (
        "The file does not fit into the file system of KLING_SPOOL_DIR (or exceeds its limit for one file, or `ulimit "
        "-f`): set KLING_SPOOL_DIR to a folder on a larger file system, then retry."
    )


class SpoolFull(Failure):
    reason = "spool_full"
    is_of_process = True
    disposition = Disposition.HOLD
    what_to_do = "Free space in KLING_SPOOL_DIR, or set it to a folder on a larger file system."


class SpoolUnreadable(SpoolFull):
    reason = "spool_unreadable"
    what_to_do = (
        "The daemon cannot read back what it wrote to KLING_SPOOL_DIR: check its disk, or use another."
    )


class SpoolBusy(SpoolFull):
    """One large file does not fit now, alone or beside the files in flight; other files do."""

    reason = "spool_busy"
    is_of_process = False
    disposition = Disposition.RETRY
    what_to_do = (
        "The file does not fit into the free space of KLING_SPOOL_DIR now. The daemon tries it again; if that goes "
        "on, free space there, or set it to a folder on a larger file system."
    )


class AmendmentDropped(Failure):
    """The files of an amendment could not be fetched by its deadline. This failure is counted, and never raised."""

    reason = "amendment_dropped"


class HostDown(Failure):
    """Five tasks in a row got no answer from the host. Holds that host only."""

    reason = "host_down"
    is_of_process = True
    disposition = Disposition.HOLD
    what_to_do = (
        "A CDN host does not answer. If the message is about certificates, set SSL_CERT_FILE; if it is about names or "
        "connections, check DNS, firewall and HTTPS_PROXY. Otherwise wait: work resumes when the host answers."
    )


class HostRefusing(Failure):
    """The host refused ten tasks in a row, each at its first try. Holds that host only."""

    reason = "host_refusing"
    disposition = Disposition.HOLD
    what_to_do = (
        "A CDN host refuses every file. Open one of the URLs in a browser: if it opens, the host may have banned this "
        "machine's address. Otherwise do nothing: work resumes with the first complete file."
    )
