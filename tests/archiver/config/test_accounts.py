"""Several accounts in the TOML file: allowed settings, conflicts, one clear sentence for each mistake."""

import pathlib
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from archiver.config import doubts
from archiver.config.accounts import KEYS
from archiver.config.settings import SETTINGS, Need, Settings, SettingsError

TOKENS = {"eu": "token-of-eu-0123456789", "us": "token-of-us-0123456789"}
HIDDEN = "hidden-secret-value"
EU = f"""
[[accounts]]
name = "eu"
api_key = "{HIDDEN}-eu"
callback_token = "{TOKENS["eu"]}"
s3_prefix = "eu/"
"""
US = f"""
[[accounts]]
name = "us"
access_key = "{HIDDEN}-ak"
secret_key = "{HIDDEN}-sk"
callback_token = "{TOKENS["us"]}"
s3_prefix = "us/"
"""
GATEWAY = """
gateway = "on"
link_secret = "link-secret-0123456789-0123456789-0123456789"
public_url = "https://kling.example.com"
"""
GATEWAY_KEY = f'gateway_key = ["shop:{HIDDEN}-of-the-shop"]\n'
THE_EU = "the account 'eu' in FILE"
THE_US = "the account 'us' in FILE"
BOTH = f"{THE_EU} and {THE_US}"


@pytest.fixture
def path(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / "kling.toml"


def load(path: pathlib.Path, text: str, **more: str) -> Settings:
    """Settings from a file with this text; `more` are variables without their prefix."""
    path.write_text(text)
    environ = {"KLING_CONFIG": str(path), "KLING_S3_BUCKET": "results"}
    return Settings.load(environ | {f"KLING_{name}": value for name, value in more.items()})


def problems(path: pathlib.Path, text: str, **more: str) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        load(path, text, **more)
    assert HIDDEN not in str(caught.value)
    assert not any(token in str(caught.value) for token in TOKENS.values())
    return tuple(problem.replace(str(path), "FILE") for problem in caught.value.problems)


def test_each_account_has_settings_as_if_it_were_the_only_one(path: pathlib.Path) -> None:
    settings = load(path, 'port = 9000\nfamilies = ["images/omni-image"]\n' + EU + US)
    eu, us = settings.accounts

    assert [account.name for account in (eu, us)] == ["eu", "us"]
    assert [account.s3_prefix for account in (eu, us)] == ["eu/", "us/"]
    assert eu.api_key is not None
    assert eu.api_key.get_secret_value() == f"{HIDDEN}-eu"
    assert (us.api_key, us.access_key is None) == (None, False)
    assert [[token.get_secret_value() for token in account.callback_token] for account in (eu, us)] == [
        [TOKENS["eu"]],
        [TOKENS["us"]],
    ]
    assert {(each.port, each.s3_bucket, each.families) for each in (settings, eu, us)} == {
        (9000, "results", ("images/omni-image",))
    }
    assert doubts.sentences(settings) == ()


def test_one_account_by_environment_is_its_own_only_account() -> None:
    settings = Settings.load({"KLING_API_KEY": "k" * 20}, need=[Need.KLING])

    assert settings.accounts == (settings,)


def test_a_shared_setting_holds_for_all_accounts_that_have_none_of_their_own(path: pathlib.Path) -> None:
    own = 'base_url = "https://gateway.example/kling"\nquery_rate_per_second = 7\nfamilies = "videos/text2video"\n'
    settings = load(path, EU + own + US, QUERY_RATE_PER_SECOND="5", PUBLIC_URL="https://kling.example.com")
    eu, us = settings.accounts

    assert (eu.base_url, eu.query_rate_per_second, eu.families) == (
        "https://gateway.example/kling",
        7,
        ("videos/text2video",),
    )
    assert (us.base_url, us.query_rate_per_second) == ("https://api-singapore.klingai.com", 5)
    assert {account.public_url for account in settings.accounts} == {"https://kling.example.com"}


def test_secrets_of_an_account_also_come_from_files_and_tokens_as_lists(
    path: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    (tmp_path / "key").write_text("from-a-file\n")
    text = EU.replace(f'api_key = "{HIDDEN}-eu"', f'api_key_file = "{tmp_path}/key"')
    text = text.replace(f'"{TOKENS["eu"]}"', f'["{TOKENS["eu"]}", "another-token-0123456789"]')
    (eu,) = load(path, text).accounts

    assert eu.api_key is not None
    assert eu.api_key.get_secret_value() == "from-a-file"
    assert len(eu.callback_token) == 2


def test_every_secret_of_every_account_is_known_to_the_log_and_none_is_shown(path: pathlib.Path) -> None:
    settings = load(path, EU + US)

    assert set(settings.secrets()) == {*TOKENS.values(), f"{HIDDEN}-eu", f"{HIDDEN}-ak", f"{HIDDEN}-sk"}
    told = repr(settings) + str(settings) + settings.model_dump_json() + repr(settings.model_dump())
    assert [secret for secret in settings.secrets() if secret in told] == []


def test_a_command_reads_only_the_secret_files_it_needs(path: pathlib.Path) -> None:
    text = '[[accounts]]\nname = "eu"\napi_key_file = "/nowhere"\n'

    path.write_text(text)
    (eu,) = Settings.load({"KLING_CONFIG": str(path)}, need=()).accounts
    assert eu.name == "eu"
    assert "'api_key_file' names a file that cannot be read" in problems(path, text)[0]


def test_the_keys_of_a_table_are_settings_of_the_contract() -> None:
    names = {setting.name.removeprefix("KLING_").lower() for setting in SETTINGS}

    assert set(KEYS) - {"name", "former_names"} <= names


@pytest.mark.parametrize(
    ("text", "said"),
    [
        # What a table says.
        ("accounts = 3", "'accounts' in FILE must be tables: write [[accounts]] above each account."),
        ("accounts = []", "'accounts' in FILE must be tables: write [[accounts]] above each account."),
        ("[accounts]\nname = 'eu'", "'accounts' in FILE must be tables: write [[accounts]] above each account."),
        ("accounts = ['eu']", "'accounts' in FILE must be tables: write [[accounts]] above each account."),
        (
            EU.replace('name = "eu"', ""),
            ("number 1 of the [[accounts]] in FILE: 'name' is missing: ledger, manifests and logs use it for the "
            "account."),
        ),
        (
            EU.replace('"eu"', '"e u"', 1),
            ("number 1 of the [[accounts]] in FILE: 'name' must be a name of 1 to 64 letters, digits, `.`, `_` or `-`, "
            "not 'e u'."),
        ),
        (
            EU.replace('"eu"', "7", 1),
            ("number 1 of the [[accounts]] in FILE: 'name' must be a name of 1 to 64 letters, digits, `.`, `_` or `-`, "
            "not 7."),
        ),
        (
            EU + 'acces_key = "x"',
            (f"{THE_EU}: 'acces_key' here is not a setting; did you mean 'access_key'? Correct or remove "
            "it."),
        ),
        (EU + "account = 'x'", f"{THE_EU}: 'account' here is not a setting. Correct or remove it."),
        (EU + "port = 1", f"{THE_EU}: 'port' here is not a setting. Correct or remove it."),
        (
            EU + "s3_bucket = 'x'",
            f"{THE_EU}: 's3_bucket' here is not a setting. Correct or remove it.",
        ),
        (
            EU + 'secret_key = "x"',
            (f"{THE_EU}: 'api_key' and 'secret_key' are both set: keep either the API Key or the pair of "
            "keys."),
        ),
        (
            US.replace(f'secret_key = "{HIDDEN}-sk"', ""),
            f"{THE_US}: 'access_key' is set without 'secret_key': set both.",
        ),
        (
            EU.replace(f'api_key = "{HIDDEN}-eu"', ""),
            (f"{THE_EU}: 'access_key' and 'secret_key' (or 'api_key' instead) are missing: copy them "
            "from Kling's developer console."),
        ),
        (
            EU.replace(f"{HIDDEN}-eu", f"{HIDDEN} eu"),
            (f"{THE_EU}: 'api_key' must be plain characters without spaces or quotes: copy it again, "
            "unquoted."),
        ),
        (
            EU + 'api_key_file = "/x"',
            f"{THE_EU}: 'api_key' and 'api_key_file' are both set: remove one of them.",
        ),
        (
            EU + 'base_url = "http://gateway.example"',
            (f"{THE_EU}: 'base_url' must begin with https:// (plain http is for this machine only, "
            "127.0.0.1)."),
        ),
        (
            EU + "query_rate_per_second = 0",
            f"{THE_EU}: 'query_rate_per_second' must be a number above 0, at most 1000, not 0.",
        ),
        (
            EU + 'signature = "required"',
            (f"{THE_EU}: 'signature' is `required`, but 'signing_secret' is missing: every callback would "
            "be refused."),
        ),
        (
            EU.replace('"eu/"', '"/eu"'),
            (f"{THE_EU}: 's3_prefix' must be empty or like `kling/`: letters, digits and -_.!*'()=@+,: "
            "separated by single slashes, with no leading slash."),
        ),
        # What two may not share.
        (
            EU + US.replace('"us"', '"eu"'),
            f"{THE_EU} and {THE_EU} have the same 'name': give each account its own name.",
        ),
        (
            EU + US.replace(TOKENS["us"], f"other-token-0123456789,{TOKENS['eu']}"),
            (f"{BOTH} have the same 'callback_token', but the token tells which account a callback is for: make a "
            "different token for each."),
        ),
        (
            EU + US.replace('"us/"', '"eu/"'),
            (f"{BOTH} would mix their results: both have the same 's3_prefix'. Give each account its own folder, not "
            "inside the other's."),
        ),
        (
            EU + US.replace('"us/"', '"eu/us/"'),
            (f"{BOTH} would mix their results: one 's3_prefix' begins with the other. Give each account its own "
            "folder, not inside the other's."),
        ),
        (
            EU.replace('s3_prefix = "eu/"', "") + US,
            (f"{BOTH} would mix their results: one account has no 's3_prefix', so the whole bucket belongs to it. Give "
            "each account its own folder, not inside the other's."),
        ),
        (
            GATEWAY + EU + GATEWAY_KEY + US + GATEWAY_KEY,
            (f"{BOTH} have a key of their clients in common (an access key, an API Key, or a gateway key or its name), "
            "and the gateway tells accounts by it: give each its own."),
        ),
        # What stands beside the tables.
        (
            's3_prefix = "x/"\n' + EU,
            ("'s3_prefix' in FILE is set outside [[accounts]], but belongs to one account: move it into the table of "
            "that account, or remove it."),
        ),
        (
            'signature = "never"\n' + EU,
            "'signature' in FILE must be optional or required, not 'never'.",
        ),
        (
            'signature = "required"\n' + EU,
            (f"{THE_EU}: 'signature' in FILE is `required`, but 'signing_secret' is missing: every callback would be "
            "refused."),
        ),
    ],
)  # fmt: skip
def test_each_mistake_is_one_sentence_that_names_account_and_setting(
    path: pathlib.Path, text: str, said: str
) -> None:
    assert problems(path, text) == (said,)


@pytest.mark.parametrize(
    "name",
    [
        "ACCOUNT",
        "ACCESS_KEY",
        "SECRET_KEY_FILE",
        "API_KEY",
        "CALLBACK_TOKEN",
        "SIGNING_SECRET",
        "S3_PREFIX",
    ],
)
def test_a_setting_of_one_account_cannot_come_from_the_environment_beside_tables(
    path: pathlib.Path, name: str
) -> None:
    found = problems(path, EU, **{name: "x"})

    assert [f"KLING_{name} is set outside [[accounts]]" in problem for problem in found].count(True) == 1


def test_tables_under_a_misspelled_name_are_pointed_out_and_nothing_in_them_is_repeated(
    path: pathlib.Path,
) -> None:
    found = problems(path, (EU + US).replace("[[accounts]]", "[[account]]"))

    assert (
        "'account' in FILE must be a name of 1 to 64 letters, digits, `.`, `_` or `-`; for several accounts write "
        "[[accounts]]."
    ) in found


def test_a_longer_name_that_begins_alike_is_no_folder_within_another(path: pathlib.Path) -> None:
    assert len(load(path, EU + US.replace('"us/"', '"eu-2/"')).accounts) == 2
    assert (
        "one 's3_prefix' begins with the other"
        in problems(path, EU.replace('"eu/"', '"eu"') + US.replace('"us/"', '"eu-2/"'))[0]
    )


def test_the_problems_of_all_accounts_come_at_once(path: pathlib.Path) -> None:
    text = (
        "port = 99999\n"
        + EU.replace("api_key", "api_kee")
        + US.replace('"us/"', '"eu/"')
        + 'signature = "maybe"'
    )
    found = problems(path, text, ACCOUNT="x")

    whose = [re.sub(r"(account '\w+'|number \d).*", r"\1", problem) for problem in found]
    assert whose == [
        (
            "KLING_ACCOUNT is set outside [[accounts]], but belongs to one account: move it into the table of that "
            "account, or remove it."
        ),
        "the account 'eu'",
        "the account 'eu'",
        "the account 'us'",
        "the account 'eu'",
        "'port' in FILE must be a whole number from 0 to 65535, not 99999.",
    ]


def test_the_warning_about_a_prefix_without_slash_names_the_account(path: pathlib.Path) -> None:
    (warning,) = doubts.sentences(load(path, EU.replace('"eu/"', '"eu"') + US))

    assert warning.startswith("'s3_prefix' of the account 'eu' does not end with a slash")


SNIPPETS = (
    '"eu"',
    '"us/"',
    '""',
    '"\\u0000"',
    "7",
    "-0.5",
    "nan",
    "true",
    "[]",
    '["a", 1]',
    "{a = 1}",
    "1979-05-27",
    "[[1]]",
)
WRITTEN = st.dictionaries(
    st.sampled_from([*KEYS, "api_key_file", "callback_token_file", "accounts", "unknown"]),
    st.sampled_from(SNIPPETS),
)


@given(st.lists(WRITTEN, min_size=1, max_size=3), WRITTEN)
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_contents_of_the_tables_become_settings_or_sentences(
    path: pathlib.Path, tables: list[dict[str, str]], beside: dict[str, str]
) -> None:
    lines = [f"{key} = {value}" for key, value in beside.items()]
    for table in tables:
        lines += ["[[accounts]]", *(f"{key} = {value}" for key, value in table.items())]
    try:
        load(path, "\n".join(lines))
    except SettingsError as error:
        assert error.problems  # noqa: PT017 - either outcome is right
        assert all(text.isprintable() and text.endswith(".") for text in error.problems)  # noqa: PT017


def test_two_accounts_with_one_key_are_a_warning_since_everything_would_be_archived_twice(
    path: pathlib.Path,
) -> None:
    twin = US.replace(f'access_key = "{HIDDEN}-ak"', f'api_key = "{HIDDEN}-eu"')
    twin = twin.replace(f'secret_key = "{HIDDEN}-sk"', "")

    (warning,) = doubts.sentences(load(path, EU + twin))
    assert warning.startswith("the accounts 'eu' and 'us' have the same key and share families")
    assert doubts.sentences(load(path, EU + twin + 'families = "videos/text2video"')) == ()
