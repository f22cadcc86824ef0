"""Every fault from outside that the program must survive, what it does then, and the tests that show it.

`test_fault_table` checks that each row names existing tests, and that each test in `tests/**/test_*faults.py` has one.
`python -m tests.project.fault_table` prints it.
"""

import dataclasses
import sys


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One fault. `tests` are node ids without parameters, `file::function` below `tests/`."""

    area: str
    fault: str
    answer: str
    """What the program does."""
    tests: tuple[str, ...]


def _row(area: str, fault: str, answer: str, *tests: str) -> Row:
    return Row(area, fault, answer, tuple(f"tests/{test}" for test in tests))


_KLING = (
    ("1302", "halves the query rate, which recovers slowly; the task only waits",
     "archiver/kling/test_refusals.py::test_too_fast_halves_the_rate_of_all",
     "archiver/verify/test_stage.py::test_too_fast_slows_all_queries_and_only_postpones_the_task"),
    ("a burst of 1302", "every question is answered in the end, and far fewer are asked than the rate allows",
     "pipeline/test_outage_faults.py::test_a_burst_of_1302_slows_the_questions_down_and_each_is_answered_in_the_end",
     "archiver/kling/test_limiter.py::test_complaints_about_requests_sent_side_by_side_count_once"),
    ("5000, 5002 and every other documented code", "each is the failure that knows what to do: retry, hold or bury",
     "archiver/kling/test_refusals.py::test_every_documented_refusal_is_the_failure_that_knows_what_to_do",
     "archiver/verify/test_stage.py::test_an_answer_that_fails_is_asked_for_again"),
    ("5001, wrong keys, arrears, no right, address not allowed",
     "holds what it concerns, probes every 30 s, charges no task an attempt, goes on by itself",
     "archiver/verify/test_stage.py::test_a_failure_of_the_account_holds_verification_until_a_probe_succeeds",
     "archiver/engine/worker/test_work.py::test_refused_credentials_hold_verify_and_sweep_and_both_go_on_when_one_is_let_in",
     "daemon/test_outages.py::test_an_outage_is_a_hold_that_says_what_to_do_and_ends_by_itself"),
    ("hang, dripping answer", "left after 15 s of silence or 30 s in all",
     "archiver/kling/test_wire.py::test_silence_is_a_timeout",
     "archiver/kling/test_wire.py::test_an_answer_that_drips_is_given_up_at_the_deadline_in_headers_and_in_the_body"),
    ("half an answer, broken connection, no listener", "is no answer; asked again",
     "archiver/kling/test_wire.py::test_a_connection_that_breaks_is_unreachable_and_not_an_answer",
     "archiver/kling/test_wire.py::test_an_api_without_a_listener_is_unreachable"),
    ("HTML, a gateway's empty body", "the HTTP status decides, and nothing of the body is believed",
     "archiver/kling/test_refusals.py::test_without_a_readable_code_the_http_status_decides",
     "archiver/kling/test_wire.py::test_bytes_that_are_no_envelope_are_unreadable"),
    ("endless answer, compression bomb", "cut off at the largest body",
     "archiver/kling/test_wire.py::test_an_endless_body_is_cut_off",
     "archiver/kling/test_wire.py::test_a_compressed_body_that_is_broken_or_a_bomb_is_unreadable"),
    ("wrong type, null or missing in any field; arrays null or missing",
     "read as far as it can be, else asked again; no neighbour is delayed, no task lost",
     "pipeline/test_answer_faults.py::test_a_wrong_or_missing_value_in_any_field_loses_no_task",
     "pipeline/test_answer_faults.py::test_any_json_in_the_place_of_any_field_loses_no_task",
     "archiver/kling/test_results.py::test_any_json_is_a_task_or_unreadable",
     "archiver/kling/test_results.py::test_an_empty_result_in_any_spelling_has_no_assets_and_nothing_to_report"),
    ("an answer about another task", "does not count",
     "archiver/kling/test_client.py::test_an_answer_about_anything_else_does_not_count",
     "archiver/verify/test_stage.py::test_an_answer_about_another_task_is_none"),
    ("succeed without results", "buried with its reason, nothing put; any answer with results ends the burial",
     "archiver/archive/stage/test_gone_upstream.py::test_a_success_without_results_is_buried_and_puts_nothing",
     "archiver/ledger/test_states.py::test_results_that_appear_later_end_a_burial_in_any_answer"),
    ("results that change between queries", "assets of all answers are united, none ever goes",
     "pipeline/test_answer_faults.py::test_results_that_change_between_two_answers_are_united_and_none_is_lost",
     "archiver/ledger/test_records.py::test_assets_of_all_answers_are_united_and_none_ever_goes"),
    ("a success that is taken back", "stays a success",
     "pipeline/test_answer_faults.py::test_a_success_that_is_taken_back_stays_a_success"),
    ("a list that shuffles", "is read to its end by every sweep; what one hides another shows",
     "pipeline/test_answer_faults.py::test_a_list_that_is_shuffled_anew_for_every_page_hides_a_task_for_some_sweeps_only",
     "archiver/sweep/test_stage.py::test_a_list_without_order_is_read_to_its_end_by_every_sweep"),
    ("a list that shrinks while it is read", "no task that stays is passed over",
     "pipeline/test_answer_faults.py::test_a_list_that_shrinks_while_it_is_read_hides_no_task_that_stays",
     "archiver/kling/test_listing.py::test_a_list_that_shrinks_to_nothing_ends",
     "archiver/kling/test_listing.py::test_old_tasks_that_vanish_while_a_list_is_read_backwards_hide_none_that_stays"),
    ("a list that grows while it is read", "no other task is hidden",
     "archiver/sweep/test_stage.py::test_tasks_that_come_while_pages_are_read_hide_no_other"),
    ("an hour of outage", "some 200 questions for a handful of tasks; nothing lost, and all archived within 20 minutes",
     "pipeline/test_outage_faults.py::test_an_hour_without_the_api_loses_nothing_and_costs_a_few_hundred_questions"),
    ("a night of outage", "under 250 questions an hour for a handful of tasks; nothing lost",
     "pipeline/test_outage_faults.py::test_a_night_without_the_api_loses_nothing_and_costs_some_questions_a_minute"),
    ("an outage with a large backlog", "asked at a tenth of the rate at most, however much waits",
     "pipeline/test_outage_faults.py::test_however_much_waits_an_api_that_is_down_is_asked_a_tenth_as_often",
     "archiver/kling/test_limiter.py::test_from_the_fifth_unanswered_query_in_a_row_the_rate_falls"),
    ("an outage while files are fetched", "needs no API",
     "pipeline/test_outage_faults.py::test_tasks_that_are_being_archived_when_the_api_fails_need_no_api"),
    ("lists that cannot be read", "tried after 30 s doubling to the sweep interval",
     "pipeline/test_outage_faults.py::test_a_list_that_cannot_be_read_is_tried_ever_more_rarely_and_as_soon_as_before_once_it_can"),
)  # fmt: skip

_CDN = (
    ("truncation with a length; lying length, too large and too small; nothing at all",
     "not stored, fetched again",
     "archiver/archive/test_faults.py::test_what_is_not_the_whole_file_is_not_stored_and_fetched_again",
     "archiver/fetch/test_fetcher.py::test_a_cut_transfer_is_incomplete_and_has_no_digest"),
    ("truncation without a length", "the file's own end tells; identical an hour later it is stored and marked",
     "archiver/fetch/test_fetcher.py::test_a_file_that_is_not_whole_is_incomplete_and_tells_its_digest",
     "archiver/archive/stage/test_unusable_files.py::test_a_file_that_is_incomplete_twice_an_hour_apart_is_stored_and_marked",
     "archiver/archive/stage/test_unusable_files.py::test_incomplete_bytes_that_differ_each_time_are_never_believed"),
    ("a file without what makes it a picture, film or sound", "is fetched again; identical an hour later it is marked",
     "archiver/archive/stage/test_unusable_files.py::test_a_file_that_is_no_picture_film_or_sound_is_fetched_again",
     "archiver/archive/stage/test_unusable_files.py::test_a_file_that_stays_broken_for_an_hour_is_stored_and_marked",
     "archiver/media/test_corpus.py::test_what_a_decoder_cannot_show_is_not_called_whole"),
    ("endless body", "cut off at the cap or at the deadline",
     "archiver/fetch/test_fetcher.py::test_a_body_that_grows_too_large_is_cut_off",
     "archiver/fetch/test_fetch_time.py::test_a_fast_body_without_end_does_not_get_past_the_deadline",
     "archiver/archive/test_faults.py::test_what_is_no_image_at_all_is_buried_and_asked_for_again_by_itself"),
    ("dripping and silent servers", "left at the deadline or after the idle time",
     "archiver/fetch/test_fetch_time.py::test_a_server_that_drips_does_not_get_past_the_deadline",
     "archiver/fetch/test_fetch_time.py::test_a_silent_server_is_left_after_the_idle_time"),
    ("HTML with 200", "is never an image",
     "archiver/archive/stage/test_unusable_files.py::test_a_page_instead_of_an_image_is_not_stored_and_asked_for_again",
     "archiver/archive/test_faults.py::test_what_is_no_media_for_an_hour_is_buried_and_before_that_tried_again",
     "archiver/fetch/test_fetcher.py::test_an_error_page_is_not_media_whatever_its_content_type"),
    ("wrong type", "the bytes decide",
     "archiver/archive/test_faults.py::test_a_wrong_type_in_the_headers_is_not_believed",
     "archiver/archive/test_transfer.py::test_the_bytes_give_the_extension_whatever_the_url_ends_in"),
    ("compression bomb", "an encoding that was not requested is refused, and so is a picture of too many pixels",
     "archiver/fetch/test_heads.py::test_a_content_encoding_is_refused_by_name",
     "archiver/fetch/test_fetcher.py::test_a_picture_that_declares_too_many_pixels_is_too_large"),
    ("redirect loop", "three are followed",
     "archiver/fetch/test_redirects.py::test_three_redirects_are_followed_and_a_fourth_is_not"),
    ("redirect to http, to a private or the metadata address, to a stranger",
     "refused before anything is connected to",
     "archiver/fetch/test_redirects.py::test_a_redirect_goes_through_the_same_gate",
     "archiver/fetch/test_tls.py::test_a_redirect_from_https_to_http_is_refused_even_to_a_listed_origin",
     "archiver/fetch/test_dns_faults.py::test_a_redirect_is_judged_like_the_first_url"),
    ("DNS name whose answer changes between check and connect",
     "looked up once, and connected to what was judged (real resolver, real DNS server)",
     "archiver/fetch/test_dns_faults.py::test_the_address_that_was_judged_is_the_one_that_is_connected_to",
     "archiver/fetch/test_dns_faults.py::test_every_connection_looks_its_name_up_and_judges_it_anew"),
    ("DNS name with private answers", "refused, if any answer is",
     "archiver/fetch/test_dns_faults.py::test_a_name_that_resolves_to_anything_but_public_addresses_is_not_connected_to"),
    ("DNS name that does not exist, resolver that hangs", "tried again later; holds no thread",
     "archiver/fetch/test_dns_faults.py::test_a_name_that_does_not_exist_is_tried_again_later",
     "archiver/fetch/test_connecting.py::test_a_resolver_that_never_answers_does_not_hold_the_caller"),
    ("403 until asked for again", "one question to the API brings the fresh URL",
     "archiver/archive/stage/test_gone_upstream.py::test_a_revoked_url_is_followed_by_the_fresh_one_of_the_api",
     "archiver/archive/stage/test_gone_upstream.py::test_a_dead_url_is_exchanged_for_a_fresh_one_by_one_question_of_verification"),
    ("purge before day 30", "buried with its other files saved, lost at the deadline, loudly",
     "archiver/archive/test_faults.py::test_files_that_are_purged_before_day_30_are_buried_loudly_and_lost_at_the_deadline",
     "archiver/archive/stage/test_gone_upstream.py::test_a_file_that_is_gone_at_a_fresh_url_too_buries_the_task_with_its_other_assets_saved",
     "archiver/engine/test_upkeep.py::test_a_lost_task_is_loud"),
    ("one host that fails", "a quarter of the slots at most; held when it is down or refuses everything",
     "archiver/engine/worker/test_work.py::test_a_failing_host_gets_a_quarter_of_the_slots",
     "archiver/engine/worker/test_work.py::test_a_host_without_an_answer_to_five_tasks_is_held_and_a_fresh_task_is_tried_once_all_the_same",
     "archiver/engine/worker/test_work.py::test_a_host_that_refuses_ten_tasks_is_held_without_a_burial_until_the_first_whole_file"),
)  # fmt: skip

_STORE = (
    ("refused", "retried; what was stored is kept",
     "archiver/store/test_rights.py::test_an_endpoint_without_a_listener_is_unreachable",
     "archiver/store/test_faults.py::test_the_server_itself_may_be_gone_and_come_back"),
    ("timing out, 500, 503 SlowDown: failed", "retried, one set of objects in the end (Swift, Ceph)",
     "archiver/store/test_faults.py::test_a_put_that_failed_is_made_good_by_the_next",
     "archiver/store/test_faults.py::test_a_store_that_fails_for_a_while_delays_a_task_and_costs_none_of_it"),
    ("timing out, 500, 503, lost answer: failed but happened", "the next attempt finds the same bytes",
     "archiver/store/test_faults.py::test_a_put_that_failed_but_happened_is_found_by_the_next",
     "archiver/store/test_faulty_answers.py::test_a_412_that_answers_our_own_lost_first_try_is_the_same"),
    ("credentials revoked midway", "holds, says so, goes on when they are taken again",
     "archiver/store/test_faults.py::test_credentials_that_are_refused_from_the_second_put_on_hold_the_stage_until_they_are_taken_again",
     "archiver/store/test_faults.py::test_keys_that_ceph_really_revokes_before_the_manifest_hold_the_stage"),
    ("bucket deleted midway", "holds; the new bucket gets the whole set",
     "archiver/store/test_faults.py::test_a_bucket_that_is_deleted_before_the_manifest_holds_the_stage_and_is_filled_anew"),
    ("bucket missing, read-only, out of space, quota", "holds, says what to do, goes on by itself",
     "daemon/test_outages.py::test_an_outage_is_a_hold_that_says_what_to_do_and_ends_by_itself",
     "archiver/store/test_rights.py::test_a_used_up_quota_is_a_full_store"),
    ("200 and stored nothing", "is no success: the ETag tells",
     "archiver/store/test_faults.py::test_a_200_that_stored_nothing_is_no_success",
     "archiver/store/test_faults.py::test_a_manifest_that_the_store_said_it_took_and_did_not_is_put_again"),
    ("200, the right ETag, and the object gone", "seen before the manifest, fetched and put again",
     "archiver/archive/stage/test_manifest_last.py::test_no_manifest_is_put_over_an_object_that_is_gone_or_of_another_size",
     "archiver/archive/stage/test_manifest_last.py::test_an_object_that_vanished_is_fetched_and_put_again"),
    ("200 and stored other bytes", "is no success; nothing is overwritten, an operator is told",
     "archiver/store/test_faults.py::test_a_200_that_stored_other_bytes_is_no_success_and_what_lies_there_is_not_overwritten",
     "archiver/store/test_faults.py::test_an_object_that_became_another_one_stops_its_task_only_until_an_operator_removes_it"),
    ("connection cut at every tenth of an upload", "nothing half is there, the next attempt creates",
     "archiver/store/test_faults.py::test_an_upload_cut_at_any_tenth_leaves_nothing_half_and_succeeds_the_next_time"),
    ("413 of a proxy before it", "buried at once, named for what it is; smaller files pass; tried again by itself",
     "archiver/store/test_faults.py::test_an_upload_that_a_proxy_refuses_for_its_size_is_named_at_once_and_holds_no_smaller_one",
     "archiver/store/test_faults.py::test_an_upload_that_was_refused_for_its_size_is_tried_again_by_itself"),
    ("a piece of an upload now and then", "the put ends with its lease, or after half an hour; nothing half is there",
     "archiver/store/test_stopping.py::test_a_put_is_stopped_between_two_pieces_and_not_sent_a_second_time",
     "archiver/store/test_stopping.py::test_a_stopped_put_leaves_nothing_in_the_bucket_and_nothing_in_the_way_of_the_next"),
    ("nonsense for an answer", "ends in a failure that is named, never in a crash",
     "archiver/store/test_faulty_answers.py::test_nonsense_for_an_answer_ends_in_an_answer_or_a_failure",
     "archiver/store/test_faulty_answers.py::test_a_web_page_in_place_of_an_answer_is_never_a_success"),
    ("no conditional puts, or ignored ones", "looked at first",
     "archiver/store/test_faulty_answers.py::test_a_server_without_conditional_puts_is_remembered_and_looked_at_first"),
)  # fmt: skip

_MACHINE = (
    ("disk full for the ledger", "503 on the door and in /readyz; goes on by itself",
     "daemon/test_machine_faults.py::test_a_ledger_without_disk_closes_the_door_with_503",
     "daemon/test_machine_faults.py::test_a_machine_that_runs_short_loses_nothing_and_goes_on_by_itself",
     "archiver/ledger/file/test_refusals.py::test_a_full_disk_refuses_without_writing_and_recovers_by_itself"),
    ("disk full for the spool", "holds downloads; the door stays open; goes on by itself",
     "daemon/test_outages.py::test_an_outage_is_a_hold_that_says_what_to_do_and_ends_by_itself",
     "archiver/fetch/test_spool.py::test_a_disk_that_fills_up_while_writing_is_a_hold_and_gives_the_room_back"),
    ("ledger that becomes read-only", "503 on the door, open again by itself",
     "daemon/test_machine_faults.py::test_a_ledger_that_became_read_only_closes_the_door_and_opens_it_again_by_itself"),
    ("ledger on a read-only disk at the start", "a sentence and exit status 1; starts once it is writable",
     "daemon/test_machine_faults.py::test_a_ledger_on_a_read_only_file_system_is_a_sentence_and_works_once_it_is_writable",
     "archiver/ledger/file/test_access.py::test_a_file_that_may_not_be_written_is_refused"),
    ("ledger deleted or replaced under the process", "nothing is committed to a file that is no longer there",
     "archiver/ledger/file/test_refusals.py::test_nothing_is_committed_to_a_file_that_is_no_longer_there"),
    ("ledger locked or hanging", "503 within 10 s",
     "archiver/ledger/file/test_refusals.py::test_the_door_gets_a_refusal_within_10_seconds",
     "receiver/callbacks/test_endpoint.py::test_an_unavailable_ledger_is_503_with_retry_after"),
    ("file descriptors run out", "new connections are refused, what is answered 200 is archived; goes on by itself",
     "daemon/test_machine_faults.py::test_a_machine_that_runs_short_loses_nothing_and_goes_on_by_itself",
     "receiver/server/test_server.py::test_an_overloaded_server_answers_503_but_not_to_health_checks"),
    ("memory runs out", "what cannot be done waits; the process neither dies nor freezes; goes on by itself",
     "daemon/test_machine_faults.py::test_a_machine_that_runs_short_loses_nothing_and_goes_on_by_itself",
     "daemon/test_machine_faults.py::test_without_memory_callbacks_are_committed_or_refused_and_the_health_checks_answer"),
    ("no more threads to be had", "pools have theirs from the start; work for which none can be had is given back",
     "daemon/test_machine_faults.py::test_a_pool_has_all_of_its_threads_before_there_is_any_work",
     "daemon/test_machine_faults.py::test_look_ups_whose_threads_never_began_do_not_use_up_the_number_of_look_ups",
     "archiver/engine/worker/test_crashes.py::test_work_for_which_no_thread_can_be_had_is_given_back_and_costs_no_attempt"),
    ("clock wrong or set", "no deadline is decided while it differs from the API's",
     "archiver/engine/test_upkeep.py::test_no_deadline_is_decided_while_the_clocks_differ_and_that_is_said_once",
     "archiver/engine/test_upkeep.py::test_a_clock_that_is_set_decides_nothing_before_the_api_has_answered_by_it",
     "archiver/engine/test_upkeep.py::test_answers_without_a_date_do_not_let_a_clock_decide_that_is_known_to_be_wrong"),
    ("clock wrong, callbacks signed", "judged by the API's clock; 503 where no clock can judge",
     "receiver/callbacks/test_signatures.py::test_a_clock_of_ours_that_is_off_refuses_no_callback_of_now",
     "receiver/callbacks/test_endpoint.py::test_a_signed_time_that_cannot_be_judged_is_asked_for_again_and_not_refused"),
    ("API without `Date`", "the local clock decides, and `/readyz` says that nothing checks it",
     "archiver/engine/test_upkeep.py::test_an_api_that_sends_no_date_leaves_the_deadlines_to_our_clock_and_that_is_said"),
)  # fmt: skip

_CRASH = (
    ("any effect of an attempt fails, or fails but happens", "the next attempt makes it good",
     "archiver/archive/stage/test_effects.py::test_an_effect_that_fails_is_made_good_by_the_next_attempt"),
    ("the process dies before or after any effect", "the next one finishes",
     "archiver/archive/stage/test_effects.py::test_a_process_that_dies_at_an_effect_leaves_what_the_next_one_can_finish"),
    ("kill -9 of the daemon under load", "nothing that was answered 200 is lost",
     "daemon/test_kill.py::test_eight_kills_of_daemon_and_store_lose_nothing_that_was_answered_200"),
    ("kill -9 of a committing process, power loss", "every commit is on the disk",
     "archiver/ledger/file/test_durability.py::test_kill_9_of_a_committing_process_loses_no_committed_row",
     "archiver/ledger/file/test_durability.py::test_every_commit_is_synced_to_the_disk"),
    ("kill -9 of the store", "what it acknowledged is there",
     "archiver/store/test_s3.py::test_what_was_stored_outlives_the_death_of_the_server"),
    ("the ledger is lost", "filled anew from lists and manifests, without a fetch",
     "archiver/archive/stage/test_adoption.py::test_a_lost_ledger_is_filled_from_manifests_without_a_single_fetch"),
)  # fmt: skip

_FAULTS_OF_POSTGRES = "archiver/ledger/test_postgres_faults.py::test_"

_POSTGRES = (
    ("connections or sessions that break while idle, or before COMMIT", "done again within the call",
     f"{_FAULTS_OF_POSTGRES}what_certainly_did_not_happen_is_done_again_within_the_call"),
    ("serialization failure, deadlock", "the transaction begins again",
     f"{_FAULTS_OF_POSTGRES}what_certainly_did_not_happen_is_done_again_within_the_call",
     "archiver/ledger/test_postgres.py::test_a_deadlock_is_undone_and_begun_again"),
    ("connection broken at COMMIT", "unavailable, and done or not done; the caller goes on as after a crash",
     f"{_FAULTS_OF_POSTGRES}a_commit_without_an_answer_is_unavailable_whether_or_not_it_happened",
     f"{_FAULTS_OF_POSTGRES}a_callback_that_is_repeated_after_its_commit_had_no_answer_is_one_task"),
    ("restart, kill -9 of the server", "unavailable until it is back",
     "archiver/ledger/test_postgres.py::test_a_server_that_goes_away_is_unavailable_and_all_goes_on_when_it_is_back"),
    ("not reached, hanging, locked, full, read-only, too many connections, another password, shutting down, moved",
     "door_closed with what to do; goes on by itself",
     f"{_FAULTS_OF_POSTGRES}a_fault_that_lasts_is_not_now_with_what_to_do_and_ends_by_itself",
     "receiver/test_postgres_faults.py::test_the_door_says_503_and_opens_again_by_itself"),
    ("failover to a standby", "views still work, the door is closed; new connections go to the server that writes",
     f"{_FAULTS_OF_POSTGRES}a_server_that_only_reads_can_still_be_looked_at_and_its_door_is_closed",
     f"{_FAULTS_OF_POSTGRES}of_several_servers_one_that_writes_is_taken"),
    ("primary killed, standby promoted, COMMIT waits for a standby that is gone",
     "503 meanwhile; nothing that was answered is missing (`deploy/postgres.md` says for which settings)",
     "archiver/ledger/test_replication.py::test_after_a_failover_nothing_that_was_answered_is_missing_and_all_goes_on",
     "archiver/ledger/test_replication.py::test_while_no_standby_takes_them_nothing_is_committed_and_all_goes_on_when_it_is_back",
     "archiver/ledger/test_replication.py::test_a_wait_for_the_standby_that_an_operator_ends_is_no_commit"),
    ("the server's disk full to the last byte", "door_closed with what to do, although rows can still be changed",
     "archiver/ledger/test_full_server.py::test_a_full_disk_of_the_server_refuses_callbacks_says_so_and_loses_none"),
    ("time-outs, isolation and synchronous_commit = off, set by an operator for others", "do not count",
     "archiver/ledger/test_postgres_settings.py::test_what_an_operator_has_set_for_others_costs_no_transaction"),
    ("a session that waits for wake-ups is ended", "is begun anew",
     "archiver/ledger/test_postgres_settings.py::test_sessions_that_wait_for_wake_ups_and_are_ended_are_begun_anew"),
    ("a pooler that gives each transaction another session", "no statement is prepared",
     f"{_FAULTS_OF_POSTGRES}behind_a_pooler_no_statement_is_prepared_unless_the_url_says_so"),
    ("one session stands still", "left after 3 s, and another one taken",
     f"{_FAULTS_OF_POSTGRES}a_hanging_session_of_the_server_delays_no_other"),
    ("a machine vanishes in a transaction", "the server ends it after 30 s, and frees its rows",
     f"{_FAULTS_OF_POSTGRES}a_client_that_stands_still_in_a_transaction_loses_its_locks"),
)  # fmt: skip

TABLE: tuple[Row, ...] = tuple(
    _row(area, *row)
    for area, rows in (
        ("Kling", _KLING),
        ("CDN", _CDN),
        ("S3", _STORE),
        ("PostgreSQL", _POSTGRES),
        ("machine", _MACHINE),
        ("crash", _CRASH),
    )
    for row in rows
)


def main() -> None:
    """Print the table, a fault and its tests at a time."""
    for row in TABLE:
        sys.stdout.write(f"{row.area}: {row.fault}\n    {row.answer}\n")
        sys.stdout.writelines(f"        {test}\n" for test in row.tests)


if __name__ == "__main__":
    main()
