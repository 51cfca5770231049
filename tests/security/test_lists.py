"""The published holes, and the failures that users of comparable servers report, each with the test that would notice.

A list is worth what its tests are, so each that is named here must be there.
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]

HOLES = """\
vLLM CVE-2026-48746, a Host that dodges the guard
    security/test_published.py::test_no_header_opens_a_server_that_has_a_key
vLLM CVE-2025-48956, endless headers
    security/test_http_limits.py::test_a_head_over_64_kib_is_431
vLLM CVE-2026-34756, CVE-2024-8939, CVE-2024-8768, CVE-2025-48944
    security/test_published.py::test_every_published_body_is_refused_and_the_server_lives_on
the same, what they take of the memory; vLLM CVE-2026-22773, CVE-2026-5497
    security/test_bounded_memory.py::test_what_is_refused_or_odd_takes_no_memory
vLLM GHSA-mgrm-fgjv-mhv8, schemas without end
    security/test_grammar_cache.py::test_thousands_of_tiny_schemas_leave_a_bounded_cache
vLLM CVE-2025-61620, CVE-2025-62426
    security/test_published.py::test_what_is_left_out_of_a_request_changes_nothing
vLLM CVE-2026-22773, CVE-2026-5497, CVE-2026-24779, CVE-2025-6242, images
    security/test_published.py::test_every_published_body_is_refused_and_the_server_lives_on
vLLM CVE-2025-66448, CVE-2026-22807, CVE-2026-27893; mlx-lm CVE-2026-5843
    security/test_models_are_data.py::test_no_code_of_a_model_runs
vLLM CVE-2025-46570, prefixes probed by time
    security/test_probed_prefixes.py::test_the_time_to_the_first_token_tells_nothing_of_another_keys_requests
the same, by what is found or used
    security/test_probed_prefixes.py::test_a_guess_finds_nothing_and_touches_no_block_of_the_other_key
the same, by a key that is made anew under an old one's name
    security/test_cache_namespaces.py::test_a_key_made_anew_under_a_name_finds_nothing_of_the_one_before
the same, of what is remembered beside the prefixes
    security/test_cache_namespaces.py::test_what_one_key_had_encoded_is_encoded_anew_for_another
the same, of schemas and tools that answers are held to
    security/test_grammar_cache.py::test_what_one_key_had_compiled_is_compiled_anew_for_another
vLLM CVE-2025-25183, crafted collisions
    cache/test_prefix_cache.py::test_a_blocks_name_is_a_sha256_of_all_before_it
vLLM CVE-2025-59425, keys by time
    api/test_keys.py::test_keys_are_compared_as_hashes_in_constant_time
SGLang CVE-2026-3059, CVE-2026-3060, CVE-2026-7301; vLLM CVE-2025-32444, CVE-2025-47277
    security/test_models_are_data.py::test_the_sources_hold_nothing_that_runs_what_it_reads
the same, an open port of an engine
    security/test_models_are_data.py::test_an_engine_listens_on_no_port
the same, of the server and all that it starts
    security/test_open_ports.py::test_the_server_and_its_engines_listen_for_http_alone
SGLang CVE-2026-5760; llama-cpp-python CVE-2024-34359
    prompts/test_template_process.py::test_what_does_not_end_or_takes_everything_is_refused
LiteLLM CVE-2026-42203; vLLM GHSA-46cm, a template in a request
    security/test_published.py::test_a_template_in_a_request_is_a_text_like_any_other
the same, in a model's folder
    prompts/test_template_process.py::test_what_does_not_end_or_takes_everything_is_refused
LiteLLM CVE-2026-42208
    security/test_published.py::test_no_header_opens_a_server_that_has_a_key
LiteLLM, a sub-key on admin routes; Ollama CVE-2025-63389
    api/admin/test_access.py::test_every_admin_route_but_the_log_in_asks_for_the_admin_key
LiteLLM 1.82.7, a poisoned dependency
    packaging/test_audit.py::test_every_locked_package_has_its_hashes
Ollama CVE-2024-28224; MLflow CVE-2026-2611
    api/test_guard.py::test_a_rebound_name_is_refused
the same, by Origin
    api/test_guard.py::test_a_foreign_origin_is_refused
Ollama CVE-2024-37032, CVE-2024-45436, CVE-2025-44779, CVE-2026-7020
    models/test_hub.py::test_a_name_that_is_no_repository_is_refused_without_a_request
Ollama CVE-2024-39720, CVE-2024-12055, CVE-2026-7482
    models/test_safetensors_file.py::test_damage_is_named
Ollama CVE-2024-12886, CVE-2025-0315
    security/test_published.py::test_a_packed_body_is_never_unpacked
Ollama CVE-2025-0312, CVE-2025-0317, CVE-2024-8063
    models/test_footprint.py::test_a_config_of_nonsense_has_a_footprint
Ollama CVE-2025-51471
    models/test_hub.py::test_the_token_goes_to_the_hub_and_to_nobody_else
llama.cpp CVE-2026-21869
    security/test_published.py::test_a_number_that_is_none_is_refused
llama.cpp #25960, #4492, kinds of formats and broken grammars
    security/test_published.py::test_every_published_body_is_refused_and_the_server_lives_on
the same, of a tool of Responses
    security/test_published.py::test_a_tools_own_grammar_is_told_in_words_whatever_its_kind
llama.cpp #26600, #25308, #10380
    security/test_published.py::test_every_published_body_is_refused_and_the_server_lives_on
the same, by rules and references that go on and on
    security/test_deep_grammars.py::test_what_would_take_a_process_with_it_is_refused_or_compiled
prompts in the log, in an exception's words too
    security/test_logs.py::test_an_exception_that_quotes_the_prompt_brings_kind_and_place_alone_into_the_log
llama.cpp, forged log lines
    security/test_logs.py::test_what_a_client_writes_cannot_forge_a_line
Claude Code CVE-2026-21852, keys of the user's own in an agent's reach
    integrations/test_claude.py
"""

FAILURES = """\
macOS panics where the wired limit is raised
    security/test_models_are_data.py::test_the_sources_hold_nothing_that_runs_what_it_reads
freed buffers without a bound
    models/test_device_memory.py::test_freed_buffers_are_bounded_on_any_machine
the engine's abort takes the server along
    api/test_engine_crash.py::test_every_dialects_stream_ends_with_its_error
over-size requests end a process
    security/test_large_bodies.py::test_over_size_prompts_end_no_process_under_a_limit_of_memory
a disconnect leaks its slot
    torture/test_torture.py::test_no_answer_is_lost_doubled_or_crossed_while_clients_come_and_go
a waiting client's disconnect is not noticed
    api/test_server.py::test_a_client_that_leaves_while_it_waits_stops_the_work
a request leaves something behind
    api/test_nothing_stays.py::test_the_hundredth_request_finds_as_many_objects_as_the_tenth
a slot is held when all is idle
    engine/test_worker.py::test_an_engine_that_still_holds_a_row_when_it_is_idle_ends
health is green while the engine is stuck
    api/test_engine_crash.py::test_an_engine_that_hangs_is_killed_and_replaced
the server is killed while it answers
    e2e/test_killed_server.py::test_a_killed_server_comes_back_with_its_prefixes_and_leaves_no_engine
a crash loop
    api/test_engine_crash.py::test_three_crashes_in_a_row_stop_the_model_and_health_says_why
a crash loop of the service
    commands/test_fast_deaths.py::test_a_service_that_keeps_dying_ends_well_with_the_reason_in_the_log
an engine outlives its server
    engine/test_worker.py::test_the_process_ends_with_its_parent_and_never_loads_mlx
the same, while it loads
    engine/test_process.py::test_an_engine_whose_server_has_gone_does_not_load_to_the_end
warm answers are not the cold ones
    cache/test_every_kind.py::test_warm_from_memory_from_disk_and_after_a_restart_writes_the_same
damaged blocks are served
    torture/test_torture.py::test_a_damaged_block_is_never_served
the disk cache passes its cap
    cache/test_disk_tier.py::test_two_engines_in_one_folder_never_pass_the_cap_together
the disk cache removes what is not its own
    cache/test_own_files.py::test_what_others_put_there_is_neither_counted_nor_removed
the disk cache passes its cap for what it cannot remove
    cache/test_disk_cap.py::test_what_cannot_be_removed_counts_is_served_and_goes_when_it_can
the disk cache fails while the server answers
    api/test_failing_disk.py::test_answers_go_on_health_says_why_and_all_is_well_again_with_the_disk
the disk cache fills the disk
    cache/test_disk_tier.py::test_the_share_of_the_free_disk_bounds_too
the disk cache wears the disk
    cache/test_disk_tier.py::test_the_days_budget_outlives_the_process_and_ends_with_the_day
a fault at every call of the disk
    cache/test_disk_faults.py::test_a_fault_at_every_call_is_survived_and_never_gives_wrong_values
arrays cross threads
    engine/test_process.py::test_it_answers_like_the_model_survives_ctrl_c_and_ends_with_its_parent
markers of reasoning leak
    parsers/test_fuzz.py
arguments of calls are buffered
    parsers/test_transcripts.py
small requests are refused beside large ones
    security/test_large_bodies.py::test_a_small_body_finds_room_whatever_the_large_ones_take
side requests wait for a long prompt
    engine/test_scheduler.py::test_the_shortest_remaining_prompt_goes_first
a full queue resets connections
    api/test_server.py::test_a_full_queue_is_503_with_when_to_come_back
a refusal resets the connection
    security/test_http_limits.py::test_who_is_refused_while_still_sending_reads_the_refusal
the memory guard cannot be cleared
    security/test_large_bodies.py::test_the_room_is_free_again_when_the_answer_has_ended_well_or_badly
drafts change answers
    engine/test_speculation.py::test_a_repeating_answer_takes_fewer_steps_and_is_the_same
drafts slow answers down
    engine/test_speculation.py::test_a_drafter_that_loses_time_is_left_alone_and_the_count_says_so
a slow reader
    api/test_slow_reader.py::test_clients_that_do_not_read_hold_up_nobody_take_little_and_lose_nothing
a reader that has stopped for good
    api/test_slow_reader.py::test_a_client_that_reads_nothing_for_long_is_dropped_and_its_model_is_free
a second signal
    api/test_shutdown.py::test_a_second_signal_ends_the_server_at_once_and_leaves_no_child
any order of events in the scheduler
    engine/test_scheduler_machine.py::test_any_order_of_events
any order of prompts in the cache
    cache/test_prefix_cache_machine.py::test_any_order_of_prompts
any order of changes of settings
    settings/test_store_machine.py::test_any_order_of_changes
the API against its own document
    clients/test_openapi.py
"""
_LINES = (HOLES + FAILURES).splitlines()


@cache
def _tests(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return names


@pytest.mark.parametrize(("what", "test"), list(zip(_LINES[::2], map(str.strip, _LINES[1::2]), strict=True)))
def test_each_has_its_test(what: str, test: str):
    path, _, name = test.partition("::")
    assert (TESTS / path).is_file(), what
    assert not name or name in _tests(TESTS / path), what
