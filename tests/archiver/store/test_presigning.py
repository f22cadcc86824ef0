"""For how long presigned URLs are good: never longer than the credentials that signed them."""

import datetime
from urllib.parse import parse_qs, urlsplit

import boto3
import botocore.session
import pytest
from botocore.credentials import CredentialProvider, RefreshableCredentials

from archiver.failures import StoreCredentialsMissing
from archiver.store import PRESIGNED_SECONDS_MAX, S3Store
from archiver.store.client import open_session


class _Role(CredentialProvider):
    """A role whose credentials end `seconds` after they were asked for."""

    METHOD = "role"

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds

    def load(self) -> RefreshableCredentials:
        return RefreshableCredentials.create_from_metadata(
            self._fresh(), refresh_using=self._fresh, method=self.METHOD
        )

    def _fresh(self) -> dict[str, str]:
        end = datetime.datetime.now(tz=datetime.UTC) + datetime.timedelta(seconds=self._seconds)
        return {"access_key": "A" * 20, "secret_key": "s" * 40, "token": "t", "expiry_time": end.isoformat()}


def store_of(session: boto3.Session) -> S3Store:
    return S3Store.from_settings(
        bucket="results", endpoint_url="http://127.0.0.1:9", region="us-east-1", session=session
    )


def store_with_role(seconds: float) -> S3Store:
    session = open_session()
    core: botocore.session.Session = session._session  # noqa: SLF001 -- boto3 has no way to name providers
    core.get_component("credential_provider").providers[0]._before.providers = [_Role(seconds)]  # noqa: SLF001
    return store_of(session)


@pytest.mark.parametrize(
    ("left", "asked", "good"), [(2000, 3600, 2000), (90_000, 3600, 3600), (2000, 60, 60)]
)
def test_a_url_is_not_said_to_be_good_for_longer_than_the_credentials_are(
    left: int, asked: int, good: int
) -> None:
    found = store_with_role(left).presign("k.png", seconds=asked)

    assert good - 30 <= found.seconds <= good
    assert parse_qs(urlsplit(found.url).query)["X-Amz-Expires"] == [str(found.seconds)]
    assert "X-Amz-Security-Token" in found.url
    assert found.url not in repr(found)


def test_credentials_without_an_end_sign_for_a_week_at_most() -> None:
    store = store_of(open_session(access_key="A" * 20, secret_key="s" * 40))

    assert store.presign("k.png", seconds=10**9).seconds == PRESIGNED_SECONDS_MAX


def test_without_credentials_nothing_is_signed_and_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/dev/null")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")

    with pytest.raises(StoreCredentialsMissing):
        store_of(open_session()).presign("k.png", seconds=60)
