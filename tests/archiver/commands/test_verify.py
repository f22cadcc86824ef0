"""`verify` and `sums` on a real S3 server."""

import json
import os
import pathlib
import re
import signal
import subprocess
import threading

import pytest

from archiver.store import S3Store, probing
from tests.harness.archived_tasks import ArchivedTask
from tests.harness.command_line import PROCESS_SECONDS_MAX, CommandLine
from tests.harness.ledgers import DAY, START
from tests.harness.terminal import at_terminal, ended_in_time
from tests.s3_servers import FaultyProxy, S3Server
from tests.s3_servers.faulty import Exchange, Fault, Request, answering
from tests.s3_servers.rclone import BINARY as RCLONE

PREFIX = "kling/"


class Bench:
    """A bucket with three archived tasks, and the ledger that knows them."""

    def __init__(self, server: S3Server, folder: pathlib.Path) -> None:
        self.server = server
        self.bucket = server.create_bucket()
        self.store: S3Store = server.store(self.bucket)
        self.line = CommandLine(folder / "ledger.db", now=START + DAY)
        self.tasks = [ArchivedTask(f"88{number}", prefix=PREFIX) for number in range(3)]
        with self.line.ledger(daemon=False) as ledger:
            for number, task in enumerate(self.tasks):
                task.put(self.store, files=2, amended=number)
                task.record(ledger, files=2, amended=number)

    @property
    def settings(self) -> dict[str, str]:
        return {"KLING_S3_PREFIX": PREFIX, **self.server.environment(self.bucket)}

    def run(self, *arguments: str) -> tuple[int, list[str], str]:
        """Exit status, lines of standard output, standard error."""
        result = self.line.run(*arguments, **self.settings)
        return result.exit_code, result.stdout.splitlines(), result.stderr

    def spoil(self, key: str, content: bytes) -> None:
        """As bit rot does: other bytes under the key."""
        self.server.client.put_object(Bucket=self.bucket, Key=key, Body=content)

    def remove(self, key: str) -> None:
        self.server.client.delete_object(Bucket=self.bucket, Key=key)

    @property
    def keys(self) -> list[str]:
        return [key for key, _ in self.store.walk("")]


@pytest.fixture
def bench(swift_server: S3Server, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    made = Bench(swift_server, tmp_path)
    for name, value in made.settings.items():
        if name.startswith("AWS_"):
            monkeypatch.setenv(name, value)
    return made


def test_a_bucket_that_is_whole_has_a_line_for_each_object_and_status_0(bench: Bench) -> None:
    status, lines, notes = bench.run("verify")

    assert (status, lines) == (0, [f"= {key}" for key in bench.keys])
    assert "All is as it should be. 3 folders" in notes

    status, lines, notes = bench.run("verify", "--sample", "0.01%", "--seed", "1")
    assert (status, lines) == (0, []), "the ledger has tasks, of which the sample chose none"

    # At a terminal it shows how far it is.
    status, shown = at_terminal(bench.line, "verify", **bench.settings)
    assert status == 0
    assert "Verifying" in shown
    assert f"= {bench.tasks[0].asset(0).key}" in shown
    assert "All is as it should be." in shown


def test_a_run_that_finds_nothing_is_status_1_if_its_options_or_the_prefix_may_be_why(
    bench: Bench, tmp_path: pathlib.Path, swift_proxy: FaultyProxy
) -> None:
    commands = ("verify", "sums", "rebuild")
    fresh = CommandLine(tmp_path / "fresh.db", now=START + DAY).with_ledger()
    mistyped = bench.settings | {"KLING_S3_PREFIX": "klign/"}
    for command in commands:
        status, _, notes = bench.run(command, "--family", "images/generation")
        assert status == 1
        assert "does not know the family images/generation; did you mean images/generations?" in notes
        assert "Nothing fits --family" in notes
        assert "All is as it should be" not in notes

        result = fresh.run(command, **mistyped)
        assert result.exit_code == 1
        assert "none below klign/: look at KLING_S3_PREFIX" in result.stderr

    # Whose rights end at the prefix: then it is right.
    denied = answering(403, "AccessDenied")
    swift_proxy.rule = lambda request: denied if re.search(r"[?&]prefix=(&|$)", request.path) else None
    result = fresh.run("sums", **mistyped | {"KLING_S3_ENDPOINT_URL": swift_proxy.endpoint_url})
    assert (result.exit_code, result.stderr) == (0, "kling-archiver: No manifest was found.\n")

    result = fresh.run("verify", "--sample", "0.01%", "--seed", "1", **bench.settings)
    assert result.exit_code == 0, "only the sample is why"

    for key in bench.keys:
        bench.remove(key)
    bench.spoil(f"{PREFIX}{probing.KEY}", b"put by doctor")
    for command in commands:
        assert fresh.run(command, **bench.settings).exit_code == 0, "a new installation"


def test_a_span_that_ends_before_it_begins_is_a_usage_error(bench: Bench) -> None:
    status, _, notes = bench.run("verify", "--since", "2026-09-22", "--until", "2026-09-21")

    assert status == 2
    assert "--since is later than --until" in notes


def test_every_fault_is_printed_with_its_reason_and_status_1(bench: Bench) -> None:
    rotten, cut, missing = (task.asset(0).key for task in bench.tasks)
    bench.spoil(rotten, bench.tasks[1].content(0))
    bench.spoil(cut, b"cut")
    bench.remove(missing)
    broken = f"{bench.tasks[2].folder}amendment-2.json"
    bench.spoil(broken, b'{"schema_version": 1')
    extra = f"{bench.tasks[0].folder}extra.bin"
    bench.spoil(extra, b"extra")
    bench.spoil(probing.KEY, probing.CONTENT)

    status, lines, notes = bench.run("verify", "--differences", "--repair")

    assert status == 1
    assert sorted(lines) == sorted([f"* {rotten}", f"* {cut}", f"+ {missing}", f"* {broken}", f"- {extra}"])
    assert f"{rotten}: its bytes have the SHA-256" in notes
    assert f"{cut}: it has 3 bytes, not 100." in notes
    assert f"{broken}: the manifest is not JSON" in notes
    assert "4 faults." in notes
    assert "1 object will be put back: a file if Kling still has its bytes." in notes
    assert "No kling-receiver has been seen" in notes

    status, lines, _ = bench.run("verify", "--json", "--differences")

    *findings, summary = map(json.loads, lines)
    assert status == 1
    assert {each["symbol"] for each in findings} == {"*", "+", "-"}
    assert summary["summary"]["faults"] == 4
    assert summary["summary"]["resumed_from"] is None
    assert {"key", "symbol", "bytes", "message", "what_to_do", "task_id"} == findings[0].keys()


def test_a_wrong_choice_is_status_2(tmp_path: pathlib.Path) -> None:
    line = CommandLine(tmp_path / "ledger.db").with_ledger()

    for arguments, words in (
        (["verify", "--sample", "0%"], "--sample must be a share"),
        (["verify", "--sample", "a tenth"], "--sample must be a share"),
        (["verify", "--family", "Images/.."], "--family must be a family"),
        (["verify", "--since", "yesterday"], "--since and --until must be a time"),
        (["verify", "--account", "nobody"], "--account must be one of"),
        (["sums", "--until", "2026-13-01"], "--since and --until must be a time"),
    ):
        result = line.run(*arguments, KLING_S3_BUCKET="bucket")

        assert (result.exit_code, result.stdout) == (2, "")
        assert words in result.stderr
    assert line.run("verify").exit_code == 2, "there is no bucket"


def test_an_interrupted_run_beside_a_hanging_store_ends_names_its_place_and_can_be_resumed(
    bench: Bench, swift_proxy: FaultyProxy
) -> None:
    last = bench.tasks[2].asset(0).key
    is_asked = threading.Event()

    def hang(exchange: Exchange) -> None:
        is_asked.set()
        exchange.wait_until_gone()

    def rule(request: Request) -> Fault | None:
        return hang if request.method == "GET" and last in request.path else None

    swift_proxy.rule = rule
    settings = {**bench.settings, "KLING_S3_ENDPOINT_URL": swift_proxy.endpoint_url}
    process = bench.line.start("verify", settings=settings)
    with ended_in_time(process):
        assert process.stdout is not None
        # The first folder has three: its place counts as reached before a line of the second is printed.
        first = [process.stdout.readline().rstrip("\n") for _ in range(4)]
        assert is_asked.wait(PROCESS_SECONDS_MAX)
        process.send_signal(signal.SIGINT)
        # Not communicate(): it passes over what readline() has read ahead.
        rest = process.stdout.read()
        assert process.stderr is not None
        notes = process.stderr.read()
    assert process.returncode == 130
    assert re.search(r"ended after [12] folders?, the last one kling/images/generations/.*/88[01]/\.", notes)
    assert "Within a day, the same command goes on there." in notes
    assert "interrupted. Nothing is lost" in notes
    printed = [*first, *rest.splitlines()]

    reached = bench.line.path.read_bytes()
    swift_proxy.rule = lambda _: None

    def run(*arguments: str) -> tuple[int, list[str], str]:
        result = bench.line.run(*arguments, **settings)
        return result.exit_code, result.stdout.splitlines(), result.stderr

    status, lines, notes = run("verify")

    assert status == 0
    assert list(dict.fromkeys([*printed, *lines])) == [f"= {key}" for key in bench.keys]
    assert "goes on after" in notes
    assert "This includes what an interrupted run has checked since 2026-" in notes
    assert len(lines) < len(bench.keys)

    bench.line.path.write_bytes(reached)  # as it was after the interruption
    assert "goes on after" not in bench.run("verify")[2], "another endpoint may be another bucket"

    bench.line.path.write_bytes(reached)
    status, lines, notes = run("verify", "--restart")
    assert lines == [f"= {key}" for key in bench.keys]
    assert "goes on after" not in notes


def test_a_copy_of_the_bucket_may_take_its_place(bench: Bench) -> None:
    keys, old = bench.keys, bench.bucket
    bench.bucket = bench.server.create_bucket()
    for key in keys:
        bench.server.client.copy_object(Bucket=bench.bucket, Key=key, CopySource={"Bucket": old, "Key": key})
        bench.server.client.delete_object(Bucket=old, Key=key)

    status, lines, _ = bench.run("verify")

    assert (status, lines) == (0, [f"= {key}" for key in keys])


# --- sums -----------------------------------------------------------------------------------------------------------


def test_sums_fit_a_copy_of_the_bucket_and_the_bucket_itself(bench: Bench, tmp_path: pathlib.Path) -> None:
    status, lines, _ = bench.run("sums")
    assert status == 0
    assert sorted(line.partition("  ")[2] for line in lines) == sorted(bench.keys)
    sums = tmp_path / "SUMS"
    sums.write_text("".join(f"{line}\n" for line in lines))

    copy = tmp_path / "copy"
    assert _rclone(bench, "copy", f"bucket:{bench.bucket}", str(copy)).returncode == 0
    command = ["sha256sum", "--quiet", "--strict", "-c", str(sums)]
    checked = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")

    remote = ("checksum", "sha256", str(sums), f"bucket:{bench.bucket}", "--download", "--combined", "-")
    checked = _rclone(bench, *remote)
    assert checked.returncode == 0, checked.stderr
    assert sorted(checked.stdout.splitlines()) == [f"= {key}" for key in sorted(bench.keys)]

    bench.spoil(bench.tasks[0].asset(0).key, b"rotten")
    bench.remove(bench.tasks[1].asset(0).key)
    bench.spoil(f"{bench.tasks[0].folder}extra.bin", b"extra")
    theirs = _rclone(bench, *remote)
    assert theirs.returncode == 1
    ours = bench.run("verify")[1]
    assert sorted(theirs.stdout.splitlines()) == sorted(ours), "the symbols are rclone's"


def test_sums_of_a_span_and_a_manifest_that_cannot_be_used(bench: Bench) -> None:
    status, lines, _ = bench.run("sums", "--since", "2026-09-22")
    assert (status, lines) == (1, [])

    broken = f"{bench.tasks[0].folder}manifest.json"
    bench.spoil(broken, b"{}")
    status, lines, notes = bench.run("sums", "--json")

    found = [json.loads(line) for line in lines]
    assert status == 1
    assert broken not in {each["key"] for each in found}
    assert found[0].keys() == {"key", "sha256", "bytes"}
    assert "the manifest has no schema_version" in notes


def _rclone(bench: Bench, *arguments: str) -> subprocess.CompletedProcess[str]:
    server = bench.server
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(bench.line.path.parent),
        "RCLONE_CONFIG": os.devnull,
        "RCLONE_CONFIG_BUCKET_TYPE": "s3",
        "RCLONE_CONFIG_BUCKET_PROVIDER": "Other",
        "RCLONE_CONFIG_BUCKET_ENDPOINT": server.endpoint_url,
        "RCLONE_CONFIG_BUCKET_REGION": server.region,
        "RCLONE_CONFIG_BUCKET_ACCESS_KEY_ID": server.access_key,
        "RCLONE_CONFIG_BUCKET_SECRET_ACCESS_KEY": server.secret_key,
    }
    return subprocess.run(
        [str(RCLONE), *arguments], env=environment, capture_output=True, text=True, check=False
    )
