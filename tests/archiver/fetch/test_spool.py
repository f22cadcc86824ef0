"""Room is promised before it is used, and nothing is left behind."""

import contextlib
import errno
import os
import resource
import signal
import stat
import subprocess
import sys
import tempfile
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from archiver.failures import SpoolBusy, SpoolFull, TooLarge
from archiver.fetch.spool import MARGIN_BYTES_MAX, Space, Spool, disk_space

GIB = 1024**3


class Disk:
    """A file system whose size a test sets."""

    def __init__(self, *, free: int, total: int) -> None:
        self.space = Space(free=free, total=total)

    def __call__(self, directory: Path) -> Space:
        assert directory.is_dir()
        return self.space


def _spool(directory: Path, *, free: int, total: int = 100 * GIB) -> Spool:
    return Spool(directory, space=Disk(free=MARGIN_BYTES_MAX + free, total=total))


def test_what_is_written_can_be_read_back(tmp_path: Path) -> None:
    with Spool(tmp_path).reserve(10) as reservation:
        reservation.write(b"hello ")
        reservation.write(b"world")
        reservation.file.seek(0)

        assert reservation.file.read() == b"hello world"


def test_open_reservations_count_against_the_free_space(tmp_path: Path) -> None:
    spool = _spool(tmp_path, free=1000)
    with spool.reserve(600):
        with pytest.raises(SpoolFull):
            spool.reserve(401)
        with spool.reserve(400):
            assert spool.promised_bytes == 1000

    with spool.reserve(1000):
        pass
    assert spool.promised_bytes == 0


def test_bytes_that_are_written_no_longer_count_because_the_disk_shows_them(tmp_path: Path) -> None:
    spool = _spool(tmp_path, free=1000)
    with spool.reserve(600) as reservation:
        reservation.write(b"x" * 500)

        assert spool.promised_bytes == 100
    assert spool.promised_bytes == 0


def test_a_reservation_grows_only_into_room_that_is_not_promised(tmp_path: Path) -> None:
    spool = _spool(tmp_path, free=1000)
    with spool.reserve(300) as growing, spool.reserve(600):
        growing.resize(400)
        with pytest.raises(SpoolFull):
            growing.resize(401)

        assert growing.bytes_reserved == 400
        assert spool.promised_bytes == 1000


def test_a_reservation_shrinks_to_what_was_written_at_the_least(tmp_path: Path) -> None:
    spool = _spool(tmp_path, free=1000)
    with spool.reserve(1000) as reservation:
        reservation.write(b"x" * 10)
        reservation.resize(0)

        assert reservation.bytes_reserved == 10
        assert spool.promised_bytes == 0


def test_writing_beyond_the_reservation_reserves_more_first(tmp_path: Path) -> None:
    spool = _spool(tmp_path, free=10)
    with spool.reserve(4) as reservation:
        reservation.write(b"12345678")
        with pytest.raises(SpoolFull):
            reservation.write(b"1" * 11)

        assert reservation.bytes_reserved == 8


def test_uploads_together_get_no_more_than_they_leave_to_downloads(tmp_path: Path) -> None:
    spool = _spool(tmp_path, free=1000)
    with spool.reserve(250, is_upload=True) as growing, spool.reserve(250, is_upload=True):
        with pytest.raises(SpoolBusy):
            spool.reserve(1, is_upload=True)
        with pytest.raises(SpoolBusy):
            growing.resize(251)
        with spool.reserve(500):
            assert spool.promised_bytes == 1000

    with spool.reserve(600), spool.reserve(200, is_upload=True), pytest.raises(SpoolBusy):
        spool.reserve(1, is_upload=True)  # downloads have most of it now


def test_one_upload_alone_may_take_what_there_is_however_small_the_spool(tmp_path: Path) -> None:
    spool = _spool(tmp_path, free=1000)
    with spool.reserve(900, is_upload=True) as upload:
        upload.resize(1000)

    assert spool.promised_bytes == 0


def test_closing_twice_gives_the_room_back_once(tmp_path: Path) -> None:
    spool = _spool(tmp_path, free=1000)
    with spool.reserve(500):
        first = spool.reserve(100)
        first.close()
        first.close()

        assert spool.promised_bytes == 500


def test_what_is_larger_than_the_whole_file_system_is_too_large_and_not_a_hold(tmp_path: Path) -> None:
    spool = Spool(tmp_path, space=Disk(free=500_000, total=1_000_000))

    with pytest.raises(TooLarge):
        spool.reserve(950_001)
    with pytest.raises(SpoolFull):
        spool.reserve(950_000)
    assert spool.promised_bytes == 0


def test_a_small_file_system_keeps_a_small_margin(tmp_path: Path) -> None:
    spool = Spool(tmp_path, space=Disk(free=1_000_000, total=1_000_000))

    with spool.reserve(950_000), pytest.raises(SpoolFull):
        spool.reserve(1)


def test_threads_together_are_never_promised_more_than_there_is(tmp_path: Path) -> None:
    spool = _spool(tmp_path, free=1000)
    gate = threading.Barrier(16)
    granted = []

    def ask() -> None:
        gate.wait()
        with contextlib.suppress(SpoolFull):
            granted.append(spool.reserve(300))

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(granted) == 3
    for reservation in granted:
        reservation.close()
    assert spool.promised_bytes == 0


def test_the_folder_shows_no_file_while_one_is_open(tmp_path: Path) -> None:
    with Spool(tmp_path / "spool").reserve(5) as reservation:
        reservation.write(b"12345")

        assert list((tmp_path / "spool").iterdir()) == []


def test_a_folder_that_is_missing_is_made_for_us_alone(tmp_path: Path) -> None:
    with Spool(tmp_path / "a" / "spool").reserve(1):
        assert stat.S_IMODE((tmp_path / "a" / "spool").stat().st_mode) == 0o700


def test_a_folder_swept_away_while_we_run_is_made_again(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    spool.reserve(1).close()
    (tmp_path / "spool").rmdir()

    spool.reserve(1).close()


def test_an_operators_folder_keeps_its_mode(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    Spool(tmp_path).reserve(1).close()

    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755


def test_a_folder_that_cannot_be_one_is_a_hold(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(SpoolFull, match="cannot be written"):
        Spool(tmp_path / "file").reserve(1)


@pytest.fixture
def temporary(tmp_path: Path) -> Iterator[Path]:
    """The system's temporary folder, for a while."""
    before = tempfile.tempdir
    tempfile.tempdir = str(tmp_path)
    yield tmp_path
    tempfile.tempdir = before


def test_without_a_setting_the_folder_is_private_and_found_again(temporary: Path) -> None:
    Spool(None).reserve(1).close()
    Spool(None).reserve(1).close()

    (folder,) = temporary.iterdir()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.parametrize("trap", ["open", "link", "file"])
def test_a_folder_under_our_name_that_is_not_private_to_us_is_avoided(temporary: Path, trap: str) -> None:
    ours = temporary / f"kling-archiver-spool-{os.getuid()}"
    if trap == "open":
        ours.mkdir()
        ours.chmod(0o777)
    elif trap == "link":
        (temporary / "elsewhere").mkdir(mode=0o700)
        ours.symlink_to(temporary / "elsewhere")
    else:
        ours.write_bytes(b"")

    Spool(None).reserve(1).close()

    (folder,) = [entry for entry in temporary.iterdir() if entry.name not in (ours.name, "elsewhere")]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_disk_that_cannot_be_asked_is_a_hold(tmp_path: Path) -> None:
    def gone(_directory: Path) -> Space:
        raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(SpoolFull):
        Spool(tmp_path, space=gone).reserve(1)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's device that is always full")
def test_a_disk_that_fills_up_while_writing_is_a_hold_and_gives_the_room_back(tmp_path: Path) -> None:
    spool = _spool(tmp_path, free=1000)
    with spool.reserve(100) as reservation:
        reservation.file.close()
        with Path("/dev/full").open("wb", buffering=0) as full:
            reservation.file = full
            with pytest.raises(SpoolFull, match="No space left"):
                reservation.write(b"x")

    assert spool.promised_bytes == 0


def test_a_file_size_limit_concerns_that_asset_only(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    with Spool(tmp_path).reserve(10_000) as reservation:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
        try:
            with pytest.raises(TooLarge):
                reservation.write(b"x" * 10_000)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            signal.signal(signal.SIGXFSZ, before)


def test_a_killed_process_leaves_nothing_in_the_folder(tmp_path: Path) -> None:
    script = textwrap.dedent("""
        import pathlib, sys, time
        from archiver.fetch.spool import Spool
        reservation = Spool(pathlib.Path(sys.argv[1])).reserve(1000)
        reservation.write(b"x" * 1000)
        print("written", flush=True)
        time.sleep(600)
    """)
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"written\n"
        process.kill()

    assert list(tmp_path.iterdir()) == []


def test_the_real_disk_has_no_more_free_than_in_all(tmp_path: Path) -> None:
    space = disk_space(tmp_path)

    assert 0 <= space.free <= space.total
    assert space.total > 0


# --- memory -------------------------------------------------------------------------------------------------


def test_a_small_file_within_the_memory_allowed_never_asks_the_disk(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "never-made", memory_bytes_max=100)

    with spool.reserve(60) as reservation:
        reservation.write(b"x" * 60)
        reservation.file.seek(0)

        assert reservation.file.read() == b"x" * 60
        assert not (tmp_path / "never-made").exists()


def test_what_exceeds_the_memory_of_all_together_goes_to_disk_and_comes_back_when_memory_is_free(
    tmp_path: Path,
) -> None:
    spool = Spool(tmp_path, memory_bytes_max=100)

    with spool.reserve(60), spool.reserve(60):
        assert spool.promised_bytes == 60

    with spool.reserve(60):
        assert spool.promised_bytes == 0


def test_uploads_together_get_half_of_the_memory(tmp_path: Path) -> None:
    spool = Spool(tmp_path, memory_bytes_max=100)

    with spool.reserve(30, is_upload=True) as growing, spool.reserve(20, is_upload=True) as other:
        with spool.reserve(1, is_upload=True) as upload, spool.reserve(50) as download:
            assert (upload.is_in_memory, download.is_in_memory) == (False, True)
        other.close()
        for bytes_, is_in_memory in ((50, True), (51, False)):
            growing.resize(bytes_)
            assert growing.is_in_memory == is_in_memory
        with spool.reserve(50, is_upload=True) as upload:
            assert upload.is_in_memory, "what moved to disk and what was closed is given back"


def test_uploads_get_everything_where_nothing_is_downloaded(tmp_path: Path) -> None:
    disk = Disk(free=MARGIN_BYTES_MAX + 1000, total=10**10)
    spool = Spool(tmp_path, memory_bytes_max=100, has_downloads=False, space=disk)

    with spool.reserve(60, is_upload=True) as first, spool.reserve(40, is_upload=True) as second:
        assert first.is_in_memory
        assert second.is_in_memory
        with spool.reserve(600, is_upload=True), spool.reserve(400, is_upload=True):
            assert spool.promised_bytes == 1000


def test_a_file_that_outgrows_its_memory_goes_on_on_disk_with_all_its_bytes(tmp_path: Path) -> None:
    spool = Spool(tmp_path, memory_bytes_max=100)

    with spool.reserve(50) as reservation:
        reservation.write(b"a" * 50)
        reservation.write(b"b" * 100)
        reservation.file.seek(0)

        assert reservation.file.read() == b"a" * 50 + b"b" * 100
        assert reservation.bytes_written == 150
        with spool.reserve(100):  # its memory is free again
            assert spool.promised_bytes == 0


def test_a_file_that_outgrows_its_memory_on_a_full_disk_is_a_hold_and_leaves_nothing_booked(
    tmp_path: Path,
) -> None:
    spool = Spool(tmp_path, memory_bytes_max=100, space=Disk(free=0, total=10**9))

    with spool.reserve(50) as reservation, pytest.raises(SpoolFull):
        reservation.resize(200)

    assert spool.promised_bytes == 0
    with spool.reserve(100):
        pass


@pytest.mark.parametrize(
    ("free", "bytes_", "kind"),
    [
        (600, 2000, SpoolBusy),  # a large file, and room for others
        (60, 2000, SpoolFull),
        (66, 30, SpoolFull),  # no large file, and no room for it
    ],
)
def test_a_large_file_waits_for_room_and_holds_no_other(
    tmp_path: Path, free: int, bytes_: int, kind: type[SpoolFull]
) -> None:
    spool = Spool(tmp_path, space=Disk(free=free * 1024 * 1024, total=10_000 * 1024 * 1024))

    with pytest.raises(SpoolFull) as raised:
        spool.reserve(bytes_ * 1024 * 1024)
    assert type(raised.value) is kind


def test_a_file_that_fits_once_others_are_done_waits_and_holds_no_other(tmp_path: Path) -> None:
    spool = _spool(tmp_path, free=1000)

    with spool.reserve(600), pytest.raises(SpoolBusy):
        spool.reserve(401)


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "Free space"),
        (errno.EDQUOT, "Free space"),
        (errno.ENOENT, "missing"),
        (errno.EEXIST, "no folder"),
        (errno.EMFILE, "ulimit -n"),
        (errno.EIO, "Check the disk"),
    ],
)
def test_a_spool_that_fails_says_what_helps_against_just_that(
    tmp_path: Path, number: int, advice: str
) -> None:
    def failing(_directory: Path) -> Space:
        raise OSError(number, os.strerror(number))

    with pytest.raises(SpoolFull) as raised:
        Spool(tmp_path, space=failing).reserve(1)
    assert advice in raised.value.what_to_do


def test_the_refusal_of_a_file_that_never_fits_names_the_setting_of_the_spool(tmp_path: Path) -> None:
    with pytest.raises(TooLarge) as raised:
        Spool(tmp_path, space=Disk(free=500_000, total=1_000_000)).reserve(950_001)
    assert "KLING_SPOOL_DIR" in raised.value.what_to_do
    assert "KLING_ASSET_BYTES_MAX" not in raised.value.what_to_do
