"""The settings of the demo's processes, as an operator would write them."""

import secrets

from tests.demo.plans import EXPAND, GENERATIONS
from tests.harness.consumer import SECRET, Consumer
from tests.simulator import KlingSimulator


def settings_of_daemon(sim: KlingSimulator, *, url: str, token: str, admin_token: str) -> dict[str, str]:
    """What the main job needs, without bucket, spool and ledger."""
    return {
        "KLING_ACCESS_KEY": sim.access_key,
        "KLING_SECRET_KEY": sim.secret_key,
        "KLING_BASE_URL": sim.base_url,
        "KLING_ASSET_HOSTS": sim.origin,
        "KLING_FAMILIES": f"{GENERATIONS},{EXPAND}",
        "KLING_CALLBACK_TOKEN": token,
        "KLING_ADMIN_TOKEN": admin_token,
        "KLING_PORT": url.rpartition(":")[2],
        "KLING_PUBLIC_URL": url,
        "KLING_SWEEP_INTERVAL_SECONDS": "3",
        "KLING_QUERY_RATE_PER_SECOND": "10",
        "KLING_DRAIN_SECONDS": "0",
        "KLING_SHUTDOWN_SECONDS": "5",
        "KLING_LOG_FORMAT": "json",
    }


def settings_of_application(consumer: Consumer) -> dict[str, str]:
    """Links, the gateway, and forwards to the consumer."""
    return {
        "KLING_LINK_SECRET": secrets.token_hex(32),
        "KLING_GATEWAY": "on",
        "KLING_FORWARD_URL": consumer.url,
        "KLING_FORWARD_SECRET": SECRET,
    }
