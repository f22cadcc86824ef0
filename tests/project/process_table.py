"""What goes wrong where several processes work on one ledger as if each were alone, and what rested on there being one:
each with the tests that show that it does not, on SQLite and PostgreSQL unless `only_on` says why not.

`test_process_table` checks that each test exists, and runs on both databases.
"""

import dataclasses

_LEDGER = "tests/archiver/ledger/"
_ENGINE = "tests/archiver/engine/"
_RACES = f"{_LEDGER}test_races.py::"
_POSTGRES = f"{_LEDGER}test_postgres.py::"


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """`tests` are node ids without parameters."""

    what: str
    tests: tuple[str, ...]
    only_on: str = ""
    """One database, and why."""


_SQLITE_HAS_ONE_WRITER = "PostgreSQL: SQLite has one writer, and one daemon"

SEEN = (
    Row(
        "two leases for one row",
        (
            f"{_RACES}test_no_row_is_leased_twice_and_none_is_forgotten",
            f"{_RACES}test_no_id_is_asked_about_twice",
        ),
    ),
    Row(
        "a stale `failed` over a committed `succeeded`",
        (
            f"{_RACES}test_no_stale_answer_is_written_over_a_success",
            f"{_LEDGER}test_statements.py::test_a_transaction_whose_row_has_moved_meanwhile_begins_again_and_sees_it",
        ),
    ),
    Row(
        "deadlocks of sessions that record rows in no order",
        (f"{_RACES}test_a_page_that_all_record_at_once_and_in_any_order_is_recorded_once",),
    ),
    Row("a verdict passed by each process", (f"{_RACES}test_each_deadline_is_judged_once",)),
    Row("several sweeps of one family", (f"{_RACES}test_one_process_sweeps_a_family",)),
    Row("a unique violation of register", (f"{_RACES}test_an_id_that_all_register_at_once_is_new_to_one",)),
    Row("of set_hold", (f"{_RACES}test_a_hold_that_all_set_at_once_is_new_to_one",)),
    Row(
        "of set_fact and beat", (f"{_RACES}test_values_and_signs_of_life_that_all_write_at_once_are_written",)
    ),
    Row("of add_missed", (f"{_RACES}test_each_missing_callback_is_counted_once",)),
    Row("of enrol", (f"{_RACES}test_ids_that_all_find_in_a_collection_at_once_are_new_once",)),
    Row("of unite_assets", (f"{_RACES}test_an_asset_that_several_answers_name_first_is_one",)),
    Row(
        "of callbacks that are merged",
        (f"{_RACES}test_a_callback_that_comes_to_all_doors_at_once_is_one_row",),
    ),
    Row(
        "statements that PostgreSQL does not take",
        (f"{_LEDGER}test_two_databases.py::test_both_databases_answer_the_same_and_hold_the_same",),
    ),
    Row(
        "one row that all doors wait for",
        (f"{_POSTGRES}test_no_door_waits_for_another_to_say_when_the_last_callback_came",),
        _SQLITE_HAS_ONE_WRITER,
    ),
    Row(
        "keys of four bytes",
        (f"{_POSTGRES}test_rows_are_numbered_by_eight_bytes",),
        "PostgreSQL: every integer of SQLite has eight",
    ),
    Row("a view of two moments", (f"{_RACES}test_a_view_is_one_moment_however_long_it_reads",)),
)

RESTED_ON_ONE_PROCESS = (
    Row(
        "one writer for what is read and then written",
        (f"{_LEDGER}test_statements.py::test_every_write_names_what_it_relies_on_or_says_why_it_need_not",),
    ),
    Row(
        "the confirmation before a manifest, which reads and does not write",
        (
            f"{_RACES}test_a_task_is_archived_while_answers_about_it_come_and_nothing_is_lost",
            f"{_LEDGER}claims/test_leases.py::test_a_worker_that_lost_its_lease_changes_nothing",
        ),
    ),
    Row(
        "one wall clock",
        (
            f"{_POSTGRES}test_a_process_whose_clock_is_ahead_takes_over_no_lease",
            f"{_POSTGRES}test_the_servers_clock_goes_on_between_two_words_of_it",
        ),
        "PostgreSQL: all processes of an SQLite ledger are on one machine",
    ),
    Row(
        "leases that a start frees",
        (f"{_POSTGRES}test_a_starting_daemon_leaves_the_leases_of_living_ones_and_those_of_dead_ones_end",),
        "PostgreSQL: on SQLite a start does free them (claims/test_leases)",
    ),
    Row(
        "wake-ups within one process",
        (f"{_ENGINE}test_wakeups.py::test_a_wake_up_reaches_other_processes_and_not_its_sender",),
        _SQLITE_HAS_ONE_WRITER,
    ),
    Row(
        "the limiter of an account, in memory",
        (
            f"{_LEDGER}test_duties.py::test_a_second_process_gets_its_share_as_soon_as_the_first_gives_it_and_no_more",
            f"{_LEDGER}test_duties.py::test_the_writes_of_a_process_that_was_deposed_are_refused_and_its_reads_are_not",
        ),
    ),
    Row(
        "times of sweeps, pace of matching, in memory: they begin afresh with each asker",
        (
            f"{_RACES}test_one_process_sweeps_a_family",
            f"{_LEDGER}test_duties.py::test_a_sweep_under_way_can_be_given_back_by_a_process_that_was_deposed",
        ),
    ),
    Row(
        "what an API offers, in memory",
        (f"{_RACES}test_values_and_signs_of_life_that_all_write_at_once_are_written",),
    ),
    Row(
        "a lease that a process judges by its own clock before it puts",
        (
            f"{_RACES}test_what_a_dead_process_held_is_taken_over_once",
            f"{_LEDGER}claims/test_leases.py::test_a_lease_is_left_alone_for_five_seconds_after_its_end",
        ),
    ),
    Row(
        "one upkeep",
        (
            f"{_RACES}test_each_duty_is_taken_by_one_process_and_none_by_none",
            f"{_RACES}test_counts_are_folded_while_they_change",
            f"{_LEDGER}test_duties.py::test_a_process_without_the_duty_writes_nothing",
        ),
    ),
    Row(
        "what a store can do, learnt by each",
        (
            "tests/archiver/archive/test_trust.py::test_what_a_store_does_with_a_second_put_is_learned_once",
            f"{_ENGINE}test_shared_store.py::test_several_workers_on_a_store_that_overwrites_are_a_problem",
        ),
        "SQLite: of the engine, which knows no database; that the row is written on both, test_statements shows",
    ),
    Row(
        "transfer slots, and the watch on hosts, in memory: each process has its own, and holds itself",
        (
            f"{_ENGINE}test_process_holds.py::test_a_host_that_one_machine_does_not_reach_stops_only_its_files_and_only_there",
        ),
        "SQLite: of the engine, which knows no database",
    ),
    Row(
        "room in the spool, promised by each: a disk that fills up all the same is a hold",
        (
            "tests/archiver/fetch/test_spool.py::test_a_disk_that_fills_up_while_writing_is_a_hold_and_gives_the_room_back",
        ),
        "SQLite: the spool knows no database",
    ),
)

TABLE = (*SEEN, *RESTED_ON_ONE_PROCESS)
