"""Links as they are signed, and which macs open what."""

import base64
import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver import families
from archiver.media import iso, jpeg, mp3, png, raster, riff, webm
from archiver.media.reader import Format
from archiver.model import Asset, Role
from archiver.store.links import LinkSigner, links_of, signer_of

SECRET = "a-link-secret-of-at-least-32-characters"
OLD = "an-old-link-secret-with-ümläut-in-it"
FOLDER = "images/generations/2026/11/26/831768251064815642"


def signer(*secrets: str) -> LinkSigner:
    return LinkSigner(secrets or (SECRET,), public_url="https://kling.example.com")


def link(*secrets: str, account: str = "default", stem: str = "0", extension: str = "png") -> str:
    return signer(*secrets).url(account=account, folder=FOLDER, stem=stem, extension=extension)


@pytest.mark.parametrize(
    ("stem", "extension", "name"),
    [
        ("0", "png", "0.png"),
        ("0.watermark", "jpg", "0.watermark.jpg"),
        ("0-1", "", "0-1"),
        ("video-0", "mp4", "video-0.mp4"),
        ("audio-0.mp3", "mp3", "audio-0.mp3"),
        ("audio-0.mp3", "wav", "audio-0.mp3.wav"),
    ],
)
def test_a_link_has_the_mac_of_the_stem_and_the_name_of_the_file(
    stem: str, extension: str, name: str
) -> None:
    digest = hmac.new(SECRET.encode(), f"default/{FOLDER}/{stem}".encode(), hashlib.sha256).digest()
    mac = base64.urlsafe_b64encode(digest).decode()[:22]

    assert link(stem=stem, extension=extension) == (
        f"https://kling.example.com/files/{mac}/default/{FOLDER}/{name}"
    )


def test_the_first_secret_signs_and_every_one_opens_until_it_is_dropped() -> None:
    with_old, with_new = (link(secret).split("/")[4] for secret in (OLD, SECRET))

    def opens(mac: str, *secrets: str) -> bool:
        return signer(*secrets).is_signed(mac, account="default", folder=FOLDER, stem="0")

    assert link(SECRET, OLD) == link(SECRET)
    assert [opens(mac, SECRET, OLD) for mac in (with_old, with_new)] == [True, True]
    assert [opens(mac, SECRET) for mac in (with_old, with_new)] == [False, True]


@pytest.mark.parametrize(
    ("account", "folder", "stem"),
    [
        ("other", FOLDER, "0"),
        ("default", FOLDER.replace("26/8", "27/8"), "0"),
        ("default", FOLDER, "1"),
        ("default", FOLDER, "0.png"),
        ("default", FOLDER, "0.watermark"),
        ("default/images", FOLDER.removeprefix("images/"), "0"),
    ],
)
def test_a_mac_opens_nothing_but_its_own_file(account: str, folder: str, stem: str) -> None:
    mac = link().split("/")[4]

    # The last case signs the same bytes: its account is none, and the route takes only names of accounts.
    expected = account == "default/images"
    assert signer().is_signed(mac, account=account, folder=folder, stem=stem) is expected


@given(st.text(st.characters(codec=None, exclude_categories=())))
def test_no_text_that_is_not_the_mac_opens_anything_and_none_raises(mac: str) -> None:
    genuine = link().split("/")[4]

    assert signer().is_signed(mac, account="default", folder=FOLDER, stem="0") is (mac == genuine)


@pytest.mark.parametrize(
    "wrong",
    [
        {"secrets": []},
        {"secrets": ["x" * 31]},
        {"secrets": [SECRET, "short"]},
        {"public_url": "kling.example.com"},
        {"public_url": "https://"},
        {"public_url": "https://kling.example.com/"},
        {"public_url": "https://kling.example.com?x"},
        {"public_url": "ftp://kling.example.com"},
    ],
)
def test_a_signer_that_could_make_no_good_link_is_refused(wrong: dict[str, list[str] | str]) -> None:
    with pytest.raises(ValueError, match="must"):
        LinkSigner(**{"secrets": [SECRET], "public_url": "https://kling.example.com"} | wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "wrong",
    [
        {"account": "a/b"},
        {"account": ""},
        {"folder": f"{FOLDER}/"},
        {"folder": f"/{FOLDER}"},
        {"folder": f"kling/{FOLDER}/x"},
        {"folder": FOLDER.replace("/831768251064815642", "/..")},
        {"folder": FOLDER + "\n"},
        {"stem": ""},
        {"stem": ".."},
        {"stem": "a/b"},
        {"stem": "manifest\0"},
        {"extension": ".png"},
        {"extension": "p/g"},
    ],
)
def test_what_no_link_may_contain_raises(wrong: dict[str, str]) -> None:
    good = {"account": "default", "folder": FOLDER, "stem": "0", "extension": "png"}

    with pytest.raises(ValueError, match="this is no"):
        signer().url(**good | wrong)


URL = "https://cdn.klingai.com/bs2/upload/"


@pytest.mark.parametrize(
    ("stem", "role", "url", "stored", "name"),
    [
        # not stored yet: the URL's own extension
        ("0", Role.IMAGE, URL + "0.png?Expires=1", None, "0.png"),
        ("0", Role.IMAGE, URL + "0.JPEG", None, "0.jpeg"),
        ("0", Role.VIDEO, URL + "a.b/x.webm", None, "0.webm"),
        ("audio-0.mp3", Role.AUDIO, URL + "x.mp3", None, "audio-0.mp3"),
        ("audio-0.mp3", Role.AUDIO, URL + "x.wav", None, "audio-0.mp3.wav"),
        # else that of the role
        ("0", Role.IMAGE, URL + "origin?name=x.webp", None, "0.png"),
        ("series-0", Role.SERIES_IMAGE, URL + "v1.2/origin", None, "series-0.png"),
        ("element-0", Role.ELEMENT, URL + "x.exe", None, "element-0.png"),
        ("video-0", Role.VIDEO, URL, None, "video-0.mp4"),
        ("audio-0", Role.AUDIO, "https://[::1", None, "audio-0.mp3"),
        ("audio-0.wav", Role.AUDIO, URL, None, "audio-0.wav"),
        ("voice-0", Role.VOICE, URL, None, "voice-0.mp3"),
        ("covers-0", Role.OTHER, URL, None, "covers-0"),
        # stored: the stored name's
        ("0", Role.IMAGE, URL + "0.png", "0.jpg", "0.jpg"),
        ("0.watermark", Role.IMAGE, URL + "0.png", "0.watermark.webp", "0.watermark.webp"),
        ("audio-0.mp3", Role.AUDIO, URL + "x.mp3", "audio-0.mp3", "audio-0.mp3"),
        ("audio-0.mp3", Role.AUDIO, URL + "x.mp3", "audio-0.mp3.wav", "audio-0.mp3.wav"),
    ],
)
def test_the_extension_is_that_of_the_stored_file_else_of_its_url_else_of_its_role(
    stem: str, role: Role, url: str, stored: str | None, name: str
) -> None:
    asset = Asset(stem=stem, url=url, role=role, index=None, watermarked=False)
    links = links_of(
        signer(),
        [asset],
        account="default",
        family="images/generations",
        created_at=1_795_651_200_000,
        task_id="831768251064815642",
        names={} if stored is None else {stem: stored},
    )

    mac = link(stem=stem, extension="").split("/")[4]
    assert links == {stem: f"https://kling.example.com/files/{mac}/default/{FOLDER}/{name}"}


@pytest.mark.parametrize("lacking", ["signer", "family", "created_at"])
def test_without_a_secret_or_a_folder_there_is_no_link(lacking: str) -> None:
    assert signer_of([], "https://kling.example.com") is None
    assert signer_of([SECRET], None) is None
    asset = Asset(stem="0", url=URL, role=Role.IMAGE, index=None, watermarked=False)

    assert (
        links_of(
            None if lacking == "signer" else signer(),
            [asset],
            account="default",
            family=None if lacking == "family" else "images/generations",
            created_at=None if lacking == "created_at" else 1_795_651_200_000,
            task_id="1",
            names={},
        )
        == {}
    )


def test_every_format_that_is_stored_has_its_extension_and_type_in_the_table_of_families() -> None:
    modules = (iso, jpeg, mp3, png, raster, riff, webm)
    formats = [value for module in modules for value in vars(module).values() if isinstance(value, Format)]

    assert {found.extension: found.content_type for found in formats} == families.CONTENT_TYPES
