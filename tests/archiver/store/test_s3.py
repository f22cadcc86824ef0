"""What the store promises, on every server."""

import concurrent.futures
import hashlib
import io
import os
import threading
from pathlib import Path

import httpx2
import pytest

from archiver.failures import (
    ForeignObject,
    Stopped,
    StoreError,
    StoreMismatch,
    StoreUnreachable,
)
from archiver.store import ConditionalPut, PutOutcome, S3Store, StoredObject, probing
from tests.archiver.store.conformance import CONTENT, KEY, LONGER, OTHER, outcome, place, put, stored_bytes
from tests.s3_servers import S3Server, Weakness
from tests.s3_servers.swift import LISTING_ROWS_MAX

URLLIB3_PIECE_BYTES = 16 * 1024


def test_an_object_is_created_with_its_type_and_metadata(store: S3Store) -> None:
    created = put(store)

    assert created == outcome(PutOutcome.CREATED)
    assert stored_bytes(store) == CONTENT
    assert store.head(KEY) == StoredObject(
        bytes=len(CONTENT),
        etag=hashlib.md5(CONTENT).hexdigest(),  # noqa: S324 -- what S3 calls an ETag
        content_type="image/png",
        sha256=hashlib.sha256(CONTENT).hexdigest(),
        task_id="881",
        family="images/generations",
    )


def test_a_spool_file_is_sent_from_its_start_whatever_was_read_of_it(store: S3Store, tmp_path: Path) -> None:
    content = os.urandom(3_000_000)
    (tmp_path / "spool").write_bytes(content)
    with (tmp_path / "spool").open("rb") as file:
        file.read(1_000)
        put(store, content, file=file)

    assert store.digest(KEY) == (hashlib.sha256(content).hexdigest(), 3_000_000)


def test_the_same_bytes_again_are_the_same(store: S3Store) -> None:
    put(store)

    assert put(store, look_first=True) == outcome(PutOutcome.SAME)


def test_the_same_bytes_again_are_the_same_without_looking_first(store: S3Store, s3_server: S3Server) -> None:
    put(store)
    overwrites = Weakness.CONDITION_IGNORED in s3_server.weaknesses

    assert put(store) == outcome(PutOutcome.CREATED if overwrites else PutOutcome.SAME)


@pytest.mark.parametrize("content", [OTHER, LONGER])
def test_an_earlier_attempt_of_the_same_task_is_adopted_as_it_lies_there(
    store: S3Store, content: bytes
) -> None:
    put(store, content)

    assert put(store, look_first=True) == outcome(PutOutcome.ADOPTED, content)
    assert stored_bytes(store) == content


@pytest.mark.parametrize("content", [OTHER, LONGER])
def test_an_object_of_another_task_is_foreign_and_stays(store: S3Store, content: bytes) -> None:
    put(store, content, task_id="another")

    with pytest.raises(ForeignObject):
        put(store, look_first=True)
    assert stored_bytes(store) == content


def test_a_foreign_object_stays_without_looking_first(
    store: S3Store, s3_server: S3Server, bucket: str
) -> None:
    place(s3_server, bucket, OTHER)
    if Weakness.CONDITION_IGNORED in s3_server.weaknesses:
        assert put(store) == outcome(PutOutcome.CREATED)
        assert stored_bytes(store) == CONTENT
    else:
        with pytest.raises(ForeignObject):
            put(store)
        assert stored_bytes(store) == OTHER


def test_equal_bytes_that_another_program_put_there_are_the_same(
    store: S3Store, s3_server: S3Server, bucket: str
) -> None:
    place(s3_server, bucket, CONTENT)

    assert put(store, look_first=True) == outcome(PutOutcome.SAME)


def test_a_damaged_earlier_attempt_is_not_adopted(store: S3Store, s3_server: S3Server, bucket: str) -> None:
    claimed = {"task-id": "881", "sha256": hashlib.sha256(LONGER).hexdigest()}
    place(s3_server, bucket, LONGER[:-1], **claimed)

    with pytest.raises(StoreMismatch, match="damaged"):
        put(store, look_first=True)


def test_an_object_in_parts_has_no_md5_for_an_etag_and_is_read_back(
    store: S3Store, s3_server: S3Server, bucket: str
) -> None:
    client = s3_server.client
    upload = client.create_multipart_upload(Bucket=bucket, Key=KEY)["UploadId"]
    part = client.upload_part(Bucket=bucket, Key=KEY, UploadId=upload, PartNumber=1, Body=CONTENT)
    client.complete_multipart_upload(
        Bucket=bucket,
        Key=KEY,
        UploadId=upload,
        MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]},
    )

    assert put(store, look_first=True) == outcome(PutOutcome.SAME)


def test_racing_puts_of_the_same_bytes_all_succeed(store: S3Store) -> None:
    barrier = threading.Barrier(8)

    def racer(_: int) -> PutOutcome:
        barrier.wait()
        return put(store, look_first=True).outcome

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        outcomes = set(pool.map(racer, range(8)))

    assert outcomes <= {PutOutcome.CREATED, PutOutcome.SAME}
    assert stored_bytes(store) == CONTENT


def test_racing_tasks_leave_one_whole_object_and_at_most_one_believes_it_created(
    store: S3Store, s3_server: S3Server
) -> None:
    barrier = threading.Barrier(8)

    def racer(number: int) -> bool:
        barrier.wait()
        try:
            put(store, CONTENT + b"%d" % number, task_id=str(number))
        except (ForeignObject, StoreMismatch):
            return False
        return True

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        created = sum(pool.map(racer, range(8)))

    assert stored_bytes(store)[:-1] == CONTENT
    if Weakness.CONDITION_RACES not in s3_server.weaknesses:
        assert created == 1


def test_bytes_that_are_not_what_their_md5_says_are_not_stored(store: S3Store) -> None:
    with pytest.raises(StoreError):
        put(store, CONTENT, file=io.BytesIO(OTHER))

    assert store.head(KEY) is None


def test_a_listing_shows_the_folder_and_nothing_beside_it(store: S3Store) -> None:
    put(store, key="ä b+c/881/0.png")
    put(store, LONGER, key="ä b+c/881/0.watermark.png")
    put(store, key="ä b+c/8812/0.png")

    assert store.list("ä b+c/881/") == {
        "ä b+c/881/0.png": len(CONTENT),
        "ä b+c/881/0.watermark.png": len(LONGER),
    }
    assert store.list("ä b+c/nothing/") == {}


def test_a_listing_goes_through_all_pages(store: S3Store) -> None:
    keys = [f"881/{number:03}.png" for number in range(2 * LISTING_ROWS_MAX + 5)]
    for key in keys:
        put(store, b"x", key=key)

    assert list(store.walk("881/")) == [(key, 1) for key in keys]


def test_what_is_missing_reads_as_missing(store: S3Store) -> None:
    assert store.head(KEY) is None
    with pytest.raises(StoreMismatch, match="no object"):
        store.read(KEY, bytes_max=1)
    with pytest.raises(StoreMismatch, match="no object"):
        store.digest(KEY)


def test_reading_stops_at_its_limit(store: S3Store) -> None:
    put(store)

    assert store.read(KEY, bytes_max=len(CONTENT)) == CONTENT
    with pytest.raises(StoreMismatch, match="larger"):
        store.read(KEY, bytes_max=len(CONTENT) - 1)


def test_a_presigned_link_reads_the_object_without_credentials(store: S3Store) -> None:
    put(store)
    link = store.presigned(KEY, seconds=60)

    assert httpx2.get(link, trust_env=False, timeout=60).content == CONTENT


def test_the_probe_tells_what_a_second_create_only_put_does(store: S3Store, s3_server: S3Server) -> None:
    ignored = Weakness.CONDITION_IGNORED in s3_server.weaknesses

    expected = ConditionalPut.IGNORED if ignored else ConditionalPut.RESPECTED
    assert probing.probe(store, "archive/").second_put == expected


def test_what_was_stored_outlives_the_death_of_the_server(store: S3Store, s3_server: S3Server) -> None:
    put(store)
    s3_server.kill()
    with pytest.raises(StoreUnreachable):
        store.check()
    with pytest.raises(StoreUnreachable):
        put(store, look_first=True)
    s3_server.start()

    assert put(store, look_first=True) == outcome(PutOutcome.SAME)
    forgotten = Weakness.METADATA_FORGOTTEN in s3_server.weaknesses
    found = store.head(KEY)
    assert found is not None
    assert found.task_id == (None if forgotten else "881")


def test_a_listing_may_begin_after_any_key(store: S3Store) -> None:
    keys = [f"881/{number:03}.png" for number in range(LISTING_ROWS_MAX + 5)]
    for key in keys:
        put(store, b"x", key=key)

    assert [key for key, _ in store.walk("881/", after=keys[3])] == keys[4:]
    assert [key for key, _ in store.walk("881/", after="881/0030")] == keys[4:]
    assert list(store.walk("881/", after="8810")) == []


def test_a_reader_of_a_digest_sees_each_piece_and_may_stop(store: S3Store) -> None:
    put(store)
    pieces: list[int] = []

    store.digest(KEY, on_piece=pieces.append)

    def stop(_size: int) -> None:
        raise Stopped

    assert sum(pieces) == len(CONTENT)
    with pytest.raises(Stopped):
        store.digest(KEY, on_piece=stop)


@pytest.mark.parametrize("size", [0, 1, URLLIB3_PIECE_BYTES, 3 * URLLIB3_PIECE_BYTES + 1])
def test_what_is_stored_is_the_same_from_memory_and_from_a_file(
    size: int, store: S3Store, tmp_path: Path
) -> None:
    content = (bytes(range(251)) * (size // 251 + 1))[:size]
    path = tmp_path / "spool"
    path.write_bytes(content)
    put(store, content, key="archive/memory.png")
    with path.open("rb", buffering=0) as file:
        put(store, content, key="archive/file.png", file=file)

    stored = [store.read(f"archive/{name}.png", bytes_max=size) for name in ("memory", "file")]
    assert stored == [content, content]
