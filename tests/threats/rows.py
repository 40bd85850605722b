"""The threat list: what may be tried or go wrong, what stands against it, and where. `docs/threats.md` is made of it."""

from __future__ import annotations

from typing import NamedTuple


class Row(NamedTuple):
    """One row.

    `where` is the module that defends; `also` names tests outside this folder that go deeper; `missing` says what is not
    covered, and `out_of_scope` that nothing in hubcli is meant to stand against it.
    """

    attack: str
    defence: str
    where: str = ""
    also: tuple[str, ...] = ()
    missing: str = ""
    out_of_scope: bool = False


NOT_SIGNED = (
    "Indexes are not signed in this version: who controls the server or the connection to it decides what is current."
)

ROWS: dict[int, Row] = {
    # names, paths, entries
    1: Row(
        "An entry lists a file whose path leaves the adapter's folder, or means something else on another system.",
        "One rule for paths (relative, printable ASCII, no part that any system reads specially), held when the entry is read"
        " and again before anything is fetched.",
        "hubcli/index/entries.py, hubcli/installer.py",
        ("test_row_1_a_hostile_path_creates_nothing", "test_unsafe_paths"),
    ),
    2: Row(
        "A hub sends an ETag or a commit header that is a path.",
        "Headers are text from the other side: held to their form, never made into a path.",
        "hubcli/hub/transport.py",
        ("test_rows_2_and_17_headers_are_text_from_the_other_side", "test_an_etag_that_is_none_is_not_kept"),
    ),
    3: Row(
        "An entry is called con, nul or aux, which Windows reserves.",
        "Reserved names are refused when an index is checked and when it is read.",
        "hubcli/index/entries.py",
        ("test_entries::test_names",),
    ),
    4: Row(
        "A name looks like another by letters of another script, ligatures or characters that can't be seen.",
        "Names are ASCII; a message shows any other character by its code point.",
        "hubcli/refs.py, hubcli/index/entries.py",
        ("test_code_points_of_a_homoglyph_are_shown",),
    ),
    5: Row(
        "A name is one letter, a dash or an underscore away from a known one.",
        "`index check` lists every pair of names, and of groups, that may be taken for each other, of new names (`--against`) also"
        " those two edits away; a pair that is meant is listed by hand. Before the first install of a name that is near an older"
        " one of its index, a warning names that one.",
        "hubcli/index/similar.py, hubcli/index/check.py, hubcli/api/near_names.py",
        ("test_names_that_are_taken_for_each_other", "test_no_near_pair_is_missed", "test_what_a_proposal_changes"),
        "An index says nothing of how popular a name is, so the older of two counts as the one that is meant.",
    ),
    6: Row(
        "A text ends in a newline or holds a control character that a schema's pattern lets pass.",
        "Patterns end at the end, texts are single lines, and strict JSON takes no control or format character.",
        "hubcli/schema.py, hubcli/strict_json.py",
        ("test_no_string_takes_a_line_end_or_control_character",),
    ),
    7: Row(
        "A description, a file's name, a plugin's error or a hub's answer carries escape sequences for the terminal.",
        "Every line that is printed is cleaned, and JSON on stdout escapes what a terminal would obey.",
        "hubcli/cli/text.py",
        ("test_remote_text_reaches_a_terminal_without_control_characters",),
    ),
    8: Row(
        "A JSON document has a key twice, so that two readers see two documents.",
        "A key that stands twice is an error.",
        "hubcli/strict_json.py",
        ("test_hostile_documents_are_refused_fast_and_in_little_memory",),
    ),
    9: Row(
        "A JSON document has NaN, giant numbers, deep nesting, half characters, a byte order mark, or a gigabyte.",
        "Size is checked before parsing, depth and digits while parsing; each has an error of its own.",
        "hubcli/strict_json.py",
        ("test_hostile_documents_are_refused_fast_and_in_little_memory", "test_a_big_file_is_not_read"),
    ),
    10: Row(
        "A regular expression takes exponential time on a short text.",
        "The schemas' own patterns are linear, and a pattern from a config is walked over sets of positions, without"
        " backtracking. No schema comes from an index.",
        "hubcli/patterns.py, schemas/",
        ("test_patterns_are_linear_and_end_at_the_end", "test_a_hostile_pattern_takes_no_time"),
    ),
    11: Row(
        "A published version is edited, or published twice.",
        "`index check --against` compares with what is published, at a git revision too, whose own settings and hooks are not run;"
        " `--by` holds who proposes it against the owners of before; an installed version never takes other files.",
        "hubcli/index/changes.py, hubcli/index/git.py, hubcli/index/owners.py, hubcli/installer.py",
        ("test_what_is_published_stays", "test_what_a_proposal_changes", "test_nothing_of_a_hostile_repository_is_run",
         "test_who_may_change_what", "test_row_11_a_version_never_changes_its_files", "test_a_version_stands_once"),
    ),
    12: Row(
        "An entry lies in the file of another name.",
        "The name in an entry is the name of its path.",
        "hubcli/index/entries.py",
        ("test_name_and_path_differ",),
    ),
    # content and formats
    13: Row(
        "A file's body is altered and keeps its length.",
        "Every byte is hashed while it streams; wrong bytes leave nothing, and the next source is asked.",
        "hubcli/store/staging.py, hubcli/hub/fetch.py",
        ("test_rows_13_and_14_bodies_that_lie", "test_a_wrong_source_is_named_and_the_next_one_serves"),
    ),
    14: Row(
        "A body is cut, longer than stated, endless, or drips.",
        "Never more than the stated size is written; silence and slowness end a transfer.",
        "hubcli/http.py, hubcli/store/staging.py",
        ("test_rows_13_and_14_bodies_that_lie", "test_row_14_a_slow_drip_ends"),
    ),
    15: Row(
        "A download is taken up again and the server ignores the range, answers another one, or has another file.",
        "A part is continued only by the very range asked for; a wrong hash starts the file again, once.",
        "hubcli/hub/ranged.py, hubcli/hub/fetch.py",
        (
            "test_row_15_a_kept_part_is_continued_or_the_file_starts_again",
            "test_row_15_a_connection_that_breaks_is_taken_up_again",
        ),
    ),
    16: Row(
        "An index unpacks to far more than it weighs.",
        "What unpacks beyond the promised size, the ratio or the cap is not read on.",
        "hubcli/index/static.py",
        ("test_a_bomb_is_not_unpacked", "test_a_bomb_that_says_so_is_refused_before_it_is_fetched"),
    ),
    17: Row(
        "A branch or tag moves, a hub answers from another commit, a repository is gone or made anew by someone else.",
        "A release pins a commit and hashes; what is gone is told, and installs by hash from a mirror or the cache.",
        "hubcli/hub/transport.py, hubcli/lockfile.py",
        ("test_row_17_a_repository_that_is_gone_still_installs_by_hash_from_a_mirror",),
    ),
    18: Row(
        "A pickle or an archive comes as weights, under its own name or another.",
        "Formats are a list of what is allowed, by role, name and first bytes; nothing else is stored, and nothing is run."
        " Pickled weights that a person lets in (a local folder; --convert-bin) are read as tensors alone, in a process of its"
        " own with limits on memory and time and nothing of our environment; safetensors is stored, with both hashes.",
        "hubcli/store/content.py, hubcli/pickles.py, hubcli/unpickle.py",
        (
            "test_row_18_what_is_no_safetensors_is_refused_and_not_run",
            "test_rows_18_and_25_files_on_no_list_are_refused_before_they_are_fetched",
            "test_pickled_weights_become_safetensors_with_both_hashes",
            "test_killed_in_the_middle_it_leaves_a_clean_store",
        ),
    ),
    19: Row(
        "A safetensors header has a length that is absurd.",
        "The length is compared with the file and the limit before anything is read.",
        "hubcli/safetensors_header.py",
        ("test_row_19_the_length_is_checked_before_anything_is_read",),
    ),
    20: Row(
        "A safetensors header is legal and so large that reading it takes seconds and gigabytes.",
        "A header has at most 8 MiB, 50,000 tensors and 256 characters a name.",
        "hubcli/safetensors_header.py",
        ("test_rows_19_to_22_bad_headers_are_refused_fast",),
    ),
    21: Row(
        "Tensors overlap, leave holes, run backwards, overflow, or something stands behind them.",
        "Tensors must fill the file exactly, one after another.",
        "hubcli/safetensors_header.py",
        ("test_what_breaks_the_format_the_library_refuses_too",),
    ),
    22: Row(
        "Tensors with a name twice, a path as a name, or a size that only a reader without limits takes.",
        "Refused by hubcli's own reader, though the format's library lets them pass.",
        "hubcli/safetensors_header.py",
        ("test_rows_19_to_22_bad_headers_are_refused_fast",),
    ),
    23: Row(
        "Weights hold NaN, have another rank, fit no module, or were made for another base.",
        "The numbers are looked at, and the method's plugin judges config and shapes, before anything appears.",
        "hubcli/store/content.py, plugins/",
        ("test_row_23_weights_that_are_no_numbers_are_refused",),
    ),
    24: Row(
        "A config names a class, a library or another repository to be imported or fetched.",
        "Such keys are refused by name; nothing that a config names is imported. Patterns are bounded in length and depth.",
        "hubcli/store/content.py",
        ("test_row_24_keys_of_a_config_that_would_import_or_fetch_are_refused", "test_a_hostile_pattern_takes_no_time"),
    ),
    25: Row(
        "A repository brings code, or its config asks for code to be run.",
        "Code is never downloaded, and no option of `install` allows it.",
        "hubcli/store/content.py, hubcli/hub/resolve.py",
        ("test_rows_18_and_25_files_on_no_list_are_refused_before_they_are_fetched",),
    ),
    26: Row(
        "A chat template runs code when it is rendered.",
        "Template files are not installed, and a tokenizer only where the entry lists it or token embeddings were trained."
        " hubcli renders no template.",
        "hubcli/store/content.py",
        ("test_a_tokenizer_comes_along_where_token_embeddings_were_trained",),
        "`verify` does not flag a template inside a listed tokenizer_config.json; rendering it is left to transformers' sandbox.",
    ),
    27: Row(
        "An archive unpacks over other files, or brings links and devices.",
        "hubcli unpacks no archive; one that comes as a file of an adapter is refused.",
        "hubcli/store/content.py",
        ("test_row_18_what_is_no_safetensors_is_refused_and_not_run",),
    ),
    28: Row(
        "The weights themselves are a backdoor.",
        "A hash and an evaluation can't show it: hubcli says where an adapter comes from and who measured it, never 'safe'.",
        out_of_scope=True,
    ),
    # indexes, registries, time
    29: Row("A server sends an older state of the index.", "", missing=NOT_SIGNED),
    30: Row(
        "A server sends the same old state for ever.",
        "",
        missing="A snapshot has no end date. " + NOT_SIGNED,
    ),
    31: Row(
        "A server mixes parts of two states of the index.",
        "`index.json` promises size and hash of the entries, and the identity of names and bytes is computed again.",
        "hubcli/index/static.py, hubcli/index/fill.py",
        ("test_entries_can_not_be_swapped_between_snapshots", "test_entries_that_are_not_the_promised_ones"),
    ),
    32: Row("A version number is driven so high that nothing newer is accepted.", "", missing="There are no signed versions yet."),
    33: Row("Metadata carry a wrong key, too few signatures, or skip a root.", "", missing=NOT_SIGNED),
    34: Row(
        "The local cache of an index is edited.",
        "A damaged view is noticed and built again; every file of an adapter is still hashed against the entry.",
        "hubcli/index/catalog.py",
        ("test_a_damaged_view_is_built_again", "test_damage_inside_a_view_is_told", "test_a_damaged_state_is_forgotten"),
        "A view that was rewritten with care is trusted: who can write HUBCLI_HOME can also write the settings in it.",
    ),
    35: Row(
        "An index has names that are paths.",
        "Names are keys of a table, never paths, and each is held to the rule for names.",
        "hubcli/index/entries.py, hubcli/store/layout.py",
        ("test_a_name_never_leaves_the_store", "test_file_names_that_are_no_text"),
    ),
    36: Row("A signature is left out or made with a weaker algorithm.", "", missing=NOT_SIGNED + " An install plan does not say so."),
    37: Row(
        "A public index publishes the name of a private adapter.",
        "The first index that has the name wins, whatever the version; one that refuses or is silent stops; a scope pins names.",
        "hubcli/resolver.py",
        ("test_the_first_index_that_has_the_name_wins_whatever_the_version", "test_a_scope_pins_names_to_its_index"),
    ),
    38: Row(
        "A redirect, a lock, a log or a URL carries a token away.",
        "Tokens are bound to origins, URLs with credentials are refused, https never becomes http, errors quote no request.",
        "hubcli/http.py, hubcli/config/",
        ("test_row_38_https_never_becomes_http", "test_row_38_no_token_in_the_errors_of_a_failing_hub", "test_no_token_gets_into_a_lock"),
    ),
    39: Row(
        "A release was yanked, quarantined or deprecated.",
        "Yanked: by exact version or lock alone, with its reason. Quarantined: never. Deprecated: with a warning. What is"
        " installed: refused where it is quarantined, else a warning. `yank` and `deprecate` change these keys alone.",
        "hubcli/resolver.py, hubcli/api/states.py, hubcli/index/edit.py",
        ("test_withdrawn_releases", "test_one_key_of_one_release_changes", "test_the_help_says_what_happens",
         "test_what_is_installed_runs_as_the_help_says", "test_nothing_works_on_a_quarantined_copy",
         "test_row_39_withdrawn_releases", "test_row_39_withdrawn_after_it_was_locked"),
    ),
    40: Row(
        "A policy holds for the command line and not for Python, or not for one of the commands.",
        "The command line only calls the functions; every test here runs through both.",
        "hubcli/api/",
    ),
    41: Row(
        "A mirror of an index is partial or stale.",
        "Every run of `mirror` takes over what was yanked, deprecated or quarantined, checks what it is about to serve as"
        " `index check` does, and hashes every file; a mirror of files is asked by hash like any source (row 13).",
        "hubcli/mirroring/, hubcli/index/check.py",
        ("test_what_was_withdrawn_since_is_taken_over_whatever_is_asked_for", "test_a_state_with_faults_is_never_served"),
        "A mirror is as old as its last run, and does not say so by itself.",
    ),
    # crashes, races, disks
    42: Row(
        "A process is killed at any step of an install or an upgrade.",
        "An adapter appears by one rename; before it nothing, after it all. What is left over is found and removed.",
        "hubcli/store/",
        ("test_row_42_killed_at_any_step_of_an_install", "test_row_42_killed_while_an_adapter_is_taken_away"),
    ),
    43: Row(
        "The power fails when a name is on the disk and its bytes are not.",
        "Write, flush the file, rename, flush the folder; the record before the adapter.",
        "hubcli/store/staging.py",
        ("test_row_43_bytes_are_on_the_disk_before_names_point_at_them",),
    ),
    44: Row(
        "Installs, removals and pruning race.",
        "A lock an adapter saves work; unique names and renames keep the store right.",
        "hubcli/store/store.py, hubcli/store/locking.py",
        ("test_rows_44_and_45_many_processes_on_shared_files", "test_row_44_a_blob_that_an_install_holds_is_left_for_a_while"),
    ),
    45: Row(
        "The lock lies, as on some network file systems, or its holder dies.",
        "Nothing is wrong without it: the races are run with the lock stubbed out.",
        "hubcli/store/store.py",
        ("test_rows_44_and_45_many_processes_on_shared_files",),
    ),
    46: Row(
        "Another process holds the lock for long.",
        "The message names what is waited for, the lock's path and the variable; `--no-wait` fails at once.",
        "hubcli/store/locking.py",
        ("test_row_46_a_lock_that_is_held_names_what_where_and_which_variable",),
    ),
    47: Row(
        "The disk is full or can only be read.",
        "The message says how many bytes are needed and free; nothing half is left; a read-only store lists, verifies and exports.",
        "hubcli/store/files.py",
        (
            "test_row_47_a_disk_that_fills_at_any_write_leaves_nothing",
            "test_row_47_a_read_only_store_lists_verifies_and_says_why_it_can_do_no_more",
        ),
    ),
    48: Row(
        "A link is put into the store.",
        "Links are never followed, never pruned through, and named.",
        "hubcli/store/files.py",
        ("test_row_48_links_in_an_adapter_are_named_and_never_followed", "test_row_48_links_among_the_blobs_stop_prune_and_install"),
    ),
    49: Row(
        "An installed file is edited or rots.",
        "`verify` names file, expected and found; `--repair` fetches it again.",
        "hubcli/store/verify.py",
        ("test_row_49_damage_is_listed_and_repaired", "test_row_49_a_shortened_file_is_told_from_a_changed_one"),
    ),
    50: Row(
        "Pruning removes what is used, or all, because a record can't be read.",
        "One record that can't be read stops pruning, by name.",
        "hubcli/store/prune.py, hubcli/store/store.py",
        ("test_row_50_prune_takes_what_nothing_uses_and_nothing_else", "test_row_50_one_record_that_cant_be_read_stops_prune_and_nothing_else"),
    ),
    51: Row(
        "The clock is wrong, or a time in an entry does not exist.",
        "Times have one form, in UTC, and must exist; nothing is decided by this machine's clock.",
        "hubcli/index/entries.py",
        ("test_times",),
        "There is no expiry yet, so no floor for the clock.",
    ),
    52: Row(
        "A download is interrupted from the keyboard, or its terminal closed.",
        "Exit 130; the part that came is kept, and the next run continues it.",
        "hubcli/hub/fetch.py, hubcli/cli/main.py",
        ("test_row_52_a_download_that_is_interrupted_is_continued", "test_what_a_killed_download_left_is_taken_up_by_the_next"),
    ),
    53: Row(
        "There is no network, or a person switched it off.",
        "A command works from what is here, or ends with exit 7 and the name of the switch.",
        "hubcli/http.py, hubcli/index/catalog.py",
        ("test_offline_names_its_switch_and_local_sources_still_serve", "test_offline_reads_the_last_snapshot"),
    ),
    54: Row(
        "An old hubcli meets a newer index or store, a new one an older store.",
        "Every stored format has a number; an unknown one is named with what to do; stores of every release are kept as tests.",
        "hubcli/store/layout.py, hubcli/index/static.py",
        ("test_row_54_the_store_of_the_first_release_still_reads", "test_a_lock_of_a_newer_hubcli_is_refused"),
    ),
    55: Row(
        "A hub or an index refuses, is busy, fails, or a login page answers for it.",
        "Each has its own error; tries are few, wait as asked, and only where a wait can help.",
        "hubcli/http.py",
        ("test_row_55_each_status_has_its_own_id_and_tries_are_bounded", "test_row_55_a_busy_hub_is_waited_for"),
    ),
    56: Row(
        "A plugin fails to import, exits, prints, hangs, breaks the contract, or takes a name of ours.",
        "Each is loaded in a guard and only when needed; the rest works, and one line names plugin, package, reason and remedy.",
        "hubcli/plugins.py",
        ("test_a_broken_plugin_is_a_record_and_the_rest_works", "test_the_command_line_survives_every_broken_plugin"),
    ),
    57: Row(
        "An index names a hub of its own, and the person's token is sent there.",
        "`HF_TOKEN` goes to `HF_ENDPOINT`'s origin alone; any other origin gets only the token a person bound to it. An index on"
        " the hub that has a token of its own gets no other.",
        "hubcli/hub/transport.py, hubcli/http.py",
        ("test_install_from_a_private_index", "test_row_57_a_token_reaches_the_origin_it_is_bound_to_alone", "test_a_token_reaches_its_origin_alone_also_across_redirects"),
    ),
}  # fmt: skip
