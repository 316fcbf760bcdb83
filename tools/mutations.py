"""For each site in the store's source that `sites` finds: the tests that fail without it.

A site is removed as `sites` says, unless `instead` says what stands in its place. What may be removed without any harm
has no place in the source, so there is no other list.
"""

# ruff: noqa: E501 - a site is named by its text, on a line of its own

from __future__ import annotations

from typing import NamedTuple

SYNCS = "tests/crash/test_needed_syncs.py"
COPIES = "tests/crash/test_needed_copies.py"
CHECKS = "tests/store/test_needed_checks.py"
LEASES = "tests/store/test_needed_leases.py"
LOCKS = "tests/store/test_needed_locks.py"
LOOKING = "tests/store/test_looking_works.py"
LOG_FOUND = "tests/store/test_log_found.py"
CLAIMS = "tests/store/test_claims.py"
KEPT = "tests/store/test_checkpoints.py"
ARRIVING = "tests/store/test_arriving.py"
REGISTER = "tests/store/test_register.py"
EXPORTED = "tests/store/test_exported.py"
JOINT_FOUND = "tests/crash/test_joint_found.py"
KEPT_FOUND = "tests/store/test_checkpoints_found.py"
FORGOTTEN = "tests/store/test_forgotten.py"
KEPT_SYNCS = "tests/crash/test_needed_checkpoints.py"
ORDER = "tests/store/test_needed_order.py"
REPAIRS = "tests/store/test_needed_repairs.py"
REPAIRED_ARRIVALS = "tests/store/test_repair_arrivals.py"
RESTORES = "tests/crash/test_needed_restores.py"
BACKED_UP = "tests/store/test_backup_found.py"
ERASING = "tests/crash/test_erasing.py"
CARRYING_OUT = "tests/store/test_carrying_out.py"
TORN = "tests/store/test_torn_transactions.py"
FOLLOWING = "tests/store/test_following.py"
RECEIVING = "tests/store/test_receiving.py"
HOPPED = "tests/store/test_hopped.py"
BUNDLES = "tests/store/test_bundles.py"
WRITTEN_OUT = "tests/store/test_written_out.py"
IN_A_ROW = "tests/store/test_versions_in_a_row.py"
SPOOL = "tests/crash/test_spool.py::test_t02_d24_a_power_cut_loses_no_event_and_doubles_none"


class Mutation(NamedTuple):
    """The tests of which at least one must fail, and what stands in place of the site, if not what `sites` says."""

    tests: tuple[str, ...]
    instead: str | None = None


def by(*tests: str, instead: str | None = None) -> Mutation:
    """An entry of the table."""
    return Mutation(tests, instead)


# fmt: off
MUTATIONS: dict[str, Mutation] = {
    # --- codec/frame.py ---
    "codec/frame.py::intact::crc32(memoryview(data)[at + _CHECKED_FROM : end], seed(header.file_id, offset)) == header.checksum": by("tests/store/test_format.py::test_d10_a_frame_is_bound_to_its_file_and_place"),
    # --- codec/bodies.py ---
    "codec/bodies.py::unpack_block::block_checksum(stored) != block.checksum": by("tests/store/test_streams.py::test_a_damaged_block_is_told_with_its_place", "tests/store/test_repair.py::test_e10_each_damage_is_named_and_mended"),
    # --- streams.py ---
    "streams.py::_StoredBytes._check::self._digest.hexdigest() != self._checksum": by("tests/store/test_streams.py::test_a_value_that_is_not_what_its_output_says_is_told_at_its_end"),
    # --- validation.py ---
    "validation.py::inspect::_checksum(view) != view.checksum": by("tests/test_workflows.py::test_a_wrong_checksum_is_found"),
    "validation.py::_bad_value::(output.size_bytes, output.checksum) != (len(data), sha256(data).hexdigest())": by("tests/test_workflows.py::test_what_does_not_fit_together_is_found"),
    # --- migrations.py ---
    "migrations.py::_commit::tx.commit_id != made.view.commit_id": by("tests/test_migrations.py::test_a_migration_depends_on_all_that_its_steps_may_have_read"),
    # --- store/directory/beside.py ---
    "store/directory/beside.py::_remove::folder.sync()": by(f"{ERASING}::test_t02_an_erasure_is_promised_when_no_loss_of_power_brings_it_back"),
    "store/directory/beside.py::remove_leftovers::layout.folder(decisions.FOLDER).sync()": by(f"{ERASING}::test_t02_a_decision_that_held_it_does_not_come_back"),
    "store/directory/beside.py::scrub_files::folder.sync()": by(f"{ERASING}::test_t02_an_erasure_is_promised_when_no_loss_of_power_brings_it_back"),
    # --- store/directory/__init__.py ---
    "store/directory/__init__.py::DirectoryStore._alone::share.try_alone()": by("tests/store/test_backup.py::test_c03_no_restore_while_another_process_writes"),
    "store/directory/__init__.py::DirectoryStore._alone::share.share_again()": by("tests/store/test_backup.py::test_c05_who_opens_the_store_during_a_restore_waits"),
    "store/directory/__init__.py::DirectoryStore._alone::share.is_current()": by(f"{LEASES}::test_c03_who_lost_the_lease_while_asking_to_be_alone_takes_it_again"),
    "store/directory/__init__.py::DirectoryStore._sync_all::document.sync()": by(f"{ORDER}::test_d19_what_was_acknowledged_before_its_sync_is_synced_every_so_often"),
    "store/directory/__init__.py::DirectoryStore::self._lock": by(f"{LOCKS}::test_c05_threads_take_turns_on_the_list_of_open_documents"),
    "store/directory/forks.py::_forking": by(f"{LOCKS}::test_c01_no_store_is_opened_while_another_thread_forks"),
    "store/directory/driving.py::Drivers::self._lock": by("tests/store/test_shared_regressions.py::test_a_change_that_comes_in_as_its_driver_ends_is_told_though_the_store_closes"),
    # --- store/directory/backup.py ---
    "store/directory/backup.py::write::parent.sync()": by(f"{COPIES}::test_t20_a_backup_that_has_its_name_is_whole_and_one_that_was_told_of_is_there"),
    "store/directory/backup.py::_CheckpointFiles._copy::file.sync_all()": by(f"{KEPT_SYNCS}::test_t20_a_backup_that_has_its_name_has_its_checkpoints"),
    "store/directory/backup.py::_CheckpointFiles.keep_only::self.folder.sync()": by(f"{KEPT_SYNCS}::test_t20_a_backup_that_has_its_name_has_its_checkpoints"),
    "store/directory/backup.py::_read_to_its_end::log.lock()": by(f"{LOCKS}::test_c04_what_others_wrote_is_taken_in_under_the_lock"),
    "store/directory/backup.py::_read_to_its_end::log.sync_to(log.data_end)": by(f"{COPIES}::test_t20_a_backup_passes_on_nothing_that_the_store_could_still_lose"),
    "store/directory/backup.py::_point::folder.identity(name) is not None": by(f"{CARRYING_OUT}::test_d12_a_backup_holds_what_got_its_place_while_it_was_looked_for", instead="False"),
    "store/directory/backup.py::_point::context.decisions.confirm(piece.transaction_id)": by(f"{COPIES}::test_t20_a_backup_passes_on_no_decision_that_the_store_could_still_lose", instead="True"),
    "store/directory/backup.py::_fill::folder.sync()": by(f"{COPIES}::test_t20_a_backup_that_has_its_name_is_whole_and_one_that_was_told_of_is_there"),
    "store/directory/backup.py::_fill::root.sync()": by(f"{COPIES}::test_t20_a_backup_that_has_its_name_is_whole_and_one_that_was_told_of_is_there"),
    "store/directory/backup.py::_put::file.sync_all()": by(f"{COPIES}::test_t20_a_backup_that_has_its_name_is_whole_and_one_that_was_told_of_is_there"),
    "store/directory/backup.py::_copied::file.sync_all()": by(f"{COPIES}::test_t20_a_backup_that_has_its_name_is_whole_and_one_that_was_told_of_is_there"),
    # --- store/directory/batch.py ---
    "store/directory/batch.py::Prepared.__init__::written.file_id not in (0, before.file_id)": by("tests/store/test_streams.py::test_a_compaction_on_the_way_has_the_stream_written_again"),
    "store/directory/batch.py::Prepared.check_told::told[1:3] != (after.commit_id, after.time_us)": by(f"{FOLLOWING}::test_what_is_not_what_its_id_says_is_refused"),
    "store/directory/batch.py::Prepared.check_told::(told.size_bytes, told.checksum) != (after.size_bytes, after.checksum)": by(f"{FOLLOWING}::test_what_is_not_what_its_id_says_is_refused"),
    # --- store/directory/log_check.py ---
    "store/directory/log_check.py::_is_named_right::commits.id_behind(parent, body, content_hash) == commit_id": by("tests/store/test_repair.py::test_e10_each_damage_is_named_and_mended"),
    'store/directory/log_check.py::_LogCheck._check_sums::(checksum % _MODULUS).to_bytes(32, "big") != header.document_checksum': by("tests/store/test_repair.py::test_e10_each_damage_is_named_and_mended"),
    "store/directory/log_check.py::_LogCheck._read_what_was_being_written::log.lock()": by("tests/store/test_checked_meanwhile.py::test_c06_what_is_being_written_is_no_torn_tail[100]"),
    # --- store/directory/claims.py ---
    "store/directory/claims.py::Claims.sight::file.try_lock(shared=True)": by(f"{CLAIMS}::test_s07_a_claim_is_one_s_alone"),
    "store/directory/claims.py::Claims.sweep::logs.identity(name) is None": by(f"{CLAIMS}::test_s02_whoever_sweeps_is_not_taken_for_a_holder", instead="True"),
    "store/directory/claims.py::Claims::self._lock": by(f"{CLAIMS}::test_c11_a_claim_is_not_let_go_of_under_a_sign_of_life"),
    "store/directory/claims.py::_is_named::named[:2] == file.identity()[:2]": by(f"{CLAIMS}::test_c04_a_claim_of_a_file_that_was_swept_is_made_anew"),
    "store/directory/claims.py::Claims.alone::file.lock(LOCK_TIMEOUT_S, partial(locked_too_long, file, LOCK_TIMEOUT_S))": by(f"{CLAIMS}::test_s07_whoever_lets_go_takes_nobody_s_claim_away"),
    "store/directory/claims.py::_locked::file.try_lock()": by(f"{CLAIMS}::test_s02_a_holder_that_died_holds_nothing"),
    "store/directory/claims.py::_sweep::file.try_lock()": by(f"{CLAIMS}::test_c09_what_somebody_is_about_to_make_is_not_swept"),
    "store/directory/claims.py::_sweep::logs.identity(name) is None": by(f"{CLAIMS}::test_c07_what_was_made_while_it_was_about_to_be_swept_stays", instead="True"),
    "store/directory/claims.py::parse::_text(beat) == data": by("tests/store/test_beats.py::test_t09_only_what_was_written_is_a_sign_of_life"),
    # --- store/directory/context.py ---
    "store/directory/context.py::Context.open_log::log.file_id == decided[0].file_id": by(f"{TORN}::test_d12_what_was_decided_is_not_laid_over_a_log_that_was_compacted_meanwhile"),
    "store/directory/context.py::Context.set_aside::file.sync_all()": by(f"{COPIES}::test_t20_bytes_that_are_moved_aside_are_durable_before_they_are_cleared"),
    "store/directory/context.py::Context.set_aside::folder.sync()": by(f"{COPIES}::test_t20_bytes_that_are_moved_aside_are_durable_before_they_are_cleared"),
    "store/directory/context.py::Context.put_backup::folder.sync()": by(f"{COPIES}::test_t20_a_copy_before_a_migration_is_durable"),
    "store/directory/context.py::Context.drop_backups::folder.sync()": by(f"{COPIES}::test_t20_a_log_whose_history_is_shortened_is_kept_durably"),
    # --- store/directory/checkpointed.py ---
    "store/directory/checkpointed.py::CheckpointedDocument.keep_checkpoints::self.sync()": by(f"{KEPT_SYNCS}::test_d19_no_file_is_ahead_of_the_log"),
    "store/directory/checkpointed.py::CheckpointedDocument.sync::log.sync_to(log.end)": by(f"{ORDER}::test_d19_what_was_acknowledged_before_its_sync_is_synced_every_so_often"),
    # --- store/directory/checkpoints.py ---
    "store/directory/forgotten.py::Told.fate::known == [standing.commit_id]": by(f"{FORGOTTEN}::test_a_repair_has_checkpoints_adopted_that_their_log_has_lost"),
    "store/directory/checkpoints.py::Kept._adds_up::(sums.add_to_checksum(checksum, added), size + grown) == (self.checksum, self.size_bytes)": by(f"{KEPT_FOUND}::test_d10_a_file_of_another_store_is_no_part_of_a_checkpoint"),
    "store/directory/checkpoints.py::_layers::is_current(folder, layer)": by(f"{KEPT_FOUND}::test_c06_a_reader_meets_files_that_are_written_again"),
    "store/directory/checkpoints.py::is_current::folder.identity(file_name(layer.name)) == layer.blocks.file.identity()": by(f"{KEPT_FOUND}::test_c06_a_reader_meets_files_that_are_written_again"),
    "store/directory/checkpoints.py::check_extent::(digest.digest(), length) != (extent.digest, extent.length)": by("tests/store/test_repair.py::test_e10_each_damage_is_named_and_mended"),
    # --- store/directory/decisions.py ---
    "store/directory/decisions.py::Decisions.confirm::_sync_if_possible(self._folder)": by(f"{SYNCS}::test_t20_who_finds_a_decision_makes_sure_of_it[reader]"),
    "store/directory/decisions.py::Decisions.confirm::folder.identity(transaction_id) is None": by(f"{CARRYING_OUT}::test_d12_a_decision_that_was_carried_out_does_not_come_back"),
    "store/directory/decisions.py::Decisions._locked::folder.lock(LOCK_TIMEOUT_S, partial(locked_too_long, folder, LOCK_TIMEOUT_S), shared=shared)": by(f"{CARRYING_OUT}::test_d12_no_decision_is_removed_while_it_is_written_again", instead="None"),
    "store/directory/decisions.py::Decisions._put::file.sync_all()": by(f"{SYNCS}::test_t20_a_commit_over_two_documents_needs_its_syncs"),
    "store/directory/decisions.py::Decisions._put::folder.sync()": by(f"{SYNCS}::test_t20_a_commit_over_two_documents_needs_its_syncs"),
    "store/directory/decisions.py::Decisions.carry_out::self.confirm(piece.transaction_id)": by(f"{SYNCS}::test_t20_who_finds_a_decision_makes_sure_of_it[commits]", instead="True"),
    "store/directory/decisions.py::may_be_missing_from::log.file_id == piece.file_id": by(f"{JOINT_FOUND}::test_d12_a_log_that_was_written_anew_since_a_decision_is_not_taken_to_lack_it"),
    "store/directory/decisions.py::_sync_if_possible::folder.sync()": by(f"{SYNCS}::test_t20_who_finds_a_decision_makes_sure_of_it[reader]"),
    "store/directory/decisions.py::read::frame.intact(header, data, 0, 0)": by("tests/store/test_joint.py::test_a_damaged_decision_is_refused_by_name"),
    "store/directory/decisions.py::read::body.transaction_id != (transaction_id or name)": by(f"{TORN}::test_e10_a_decision_under_the_name_of_another_is_refused"),
    "store/directory/decisions.py::Decisions::self._lock": by(f"{LOCKS}::test_c05_threads_take_turns_on_cached_blocks_and_decisions"),
    # --- store/directory/document.py ---
    "store/directory/document.py::Document._acknowledge::self.sync_to(log, covered)": by(f"{SYNCS}::test_t20_a_commit_over_two_documents_needs_its_syncs"),
    "store/directory/document.py::Document._run::self._current().standing.commit_id != before": by(f"{LOOKING}::test_c01_what_a_work_takes_in_by_looking_is_not_written_over"),
    "store/directory/document.py::Document._was_behind::log.is_current()": by(f"{CHECKS}::test_c04_nothing_is_concluded_from_a_file_that_was_replaced"),
    "store/directory/document.py::Document._append_unless_beaten::log.lock()": by(f"{LOCKS}::test_c04_whatever_is_written_is_locked"),
    "store/directory/document.py::Document._append_unless_beaten::log.lock() #2": by(f"{LOG_FOUND}::test_c08_a_long_torn_tail_is_cleared_with_the_lock_held"),
    "store/directory/document.py::Document._append_ahead::log.lock()": by(f"{LOCKS}::test_c04_whatever_is_written_is_locked"),
    "store/directory/document.py::Document._append_ahead::file_id not in (0, log.file_id)": by(f"{CHECKS}::test_d13_content_that_was_written_ahead_goes_with_its_file"),
    "store/directory/document.py::Document.settle::self.enter(wait=False)": by(f"{LOCKS}::test_c04_whatever_is_written_is_locked", instead="int()"),
    "store/directory/document.py::Document.settle::self.sync_to(log, covered)": by(f"{SYNCS}::test_t20_a_commit_over_two_documents_needs_its_syncs"),
    "store/directory/document.py::Document._seal::log.sync_to(log.end)": by(f"{SYNCS}::test_t20_closing_makes_all_of_it_durable_and_says_so"),
    "store/directory/document.py::Document._seal::log.lock()": by(f"{LOCKS}::test_c04_whatever_is_written_is_locked"),
    "store/directory/document.py::Document._seal::log.file.sync_all()": by(f"{SYNCS}::test_t20_closing_makes_all_of_it_durable_and_says_so"),
    # --- store/directory/files.py ---
    "store/directory/files.py::File.sync::_sync_data(self.descriptor)": by(f"{SYNCS}::test_t20_a_commit_over_two_documents_needs_its_syncs"),
    "store/directory/files.py::File.sync_all::_sync_full(self.descriptor)": by(f"{SYNCS}::test_t20_a_commit_over_two_documents_needs_its_syncs"),
    "store/directory/files.py::_Opened.try_lock::fcntl.flock(self.descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)": by(f"{LOCKS}::test_c04_whatever_is_written_is_locked", "tests/store/test_repair.py::test_c07_two_repairs_do_not_meet"),
    "store/directory/files.py::_Opened.lock::self.try_lock(shared=shared)": by(f"{LOCKS}::test_c04_whatever_is_written_is_locked"),
    "store/directory/files.py::_Opened.lock::self.try_lock(shared=shared) #2": by(f"{LOCKS}::test_c05_a_lock_that_another_holds_is_waited_for"),
    "store/directory/files.py::_sync_full::fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)": by(f"{ORDER}::test_d16_macos_syncs_through_the_drive_and_falls_back_where_that_is_unknown"),
    "store/directory/files.py::_sync_full::os.fsync(descriptor)": by(f"{ORDER}::test_d16_macos_syncs_through_the_drive_and_falls_back_where_that_is_unknown"),
    "store/directory/files.py::_sync_data::os.fdatasync(descriptor)": by(f"{SYNCS}::test_t20_a_commit_over_two_documents_needs_its_syncs"),
    "store/directory/files.py::_sync_full::os.fsync(descriptor) #2": by(f"{SYNCS}::test_t20_a_commit_over_two_documents_needs_its_syncs"),
    "store/directory/files.py::Directory.sync::_sync_full(self.descriptor)": by(f"{SYNCS}::test_t20_a_commit_over_two_documents_needs_its_syncs"),
    "store/directory/files.py::make_path::parent.sync()": by(f"{COPIES}::test_t20_a_backup_that_has_its_name_is_whole_and_one_that_was_told_of_is_there"),
    "store/directory/files.py::sync_above::open_path(above).sync()": by(f"{SYNCS}::test_t20_a_store_below_directories_that_it_made_is_found_again"),
    # --- store/directory/following.py ---
    "store/directory/following.py::_work.work::tx.commit_id != head": by(f"{FOLLOWING}::test_another_process_comes_in_between"),
    # --- store/directory/index.py ---
    "store/directory/index.py::recall::data.startswith(_head(content))": by(f"{CHECKS}::test_derived_data_that_is_torn_is_as_good_as_not_there"),
    # --- store/directory/joint.py ---
    "store/directory/joint.py::_is_as_read::state.standing.commit_id == opened.view.commit_id": by("tests/store/test_joint_found.py::test_c15_a_version_that_was_taken_back_is_not_known_by_its_number"),
    "store/directory/joint.py::_is_same::then.commit_id == now.commit_id": by("tests/store/test_joint.py::test_write_skew_is_a_conflict"),
    "store/directory/joint.py::_is_same::_identity(then.part(key)) == _identity(now.part(key))": by("tests/store/test_joint.py::test_write_skew_is_a_conflict"),
    "store/directory/joint.py::_read_at_one_moment::one.commit_id == other.commit_id": by("tests/store/test_joint.py::test_t12_what_goes_and_comes_back_is_not_read_beside_what_it_never_stood_beside"),
    "store/directory/joint.py::_entering::each.document.enter()": by(f"{LOCKS}::test_c05_all_locks_of_a_commit_over_several_are_held_at_once"),
    "store/directory/joint.py::_remove_if_empty::log.file.identity().size == 0": by(f"{CHECKS}::test_c10_a_new_log_that_a_commit_was_written_to_is_not_taken_away"),
    "store/directory/joint.py::_remove_if_empty::log.is_current()": by(f"{RECEIVING}::test_c10_an_interrupt_behind_its_arrival_does_not_take_a_log_away"),
    "store/directory/joint.py::_decide::each.entered.opened.document.sync_to(each.entered.log, each.entered.log.end)": by(f"{SYNCS}::test_t20_logs_are_synced_up_to_where_decided_frames_will_stand"),
    "store/directory/joint.py::_acknowledge::document.sync_to(log, log.end)": by(f"{SYNCS}::test_t20_a_commit_over_two_documents_that_changes_one_is_synced"),
    # --- store/directory/past.py ---
    "store/directory/past.py::LogPast._find::(log.file_id, last.header.commit_id) == known.upto": by(f"{HOPPED}::test_places_of_another_generation_or_line_are_not_believed"),
    # --- store/directory/receiving.py, bundle.py ---
    "store/directory/receiving.py::Received._opened::made.try_lock()": by(f"{RECEIVING}::test_c05_what_a_living_process_takes_in_is_left_alone"),
    "store/directory/receiving.py::Received.take::file.sync_all()": by(f"{RECEIVING}::test_d12_a_decision_comes_after_all_that_it_names_is_durable"),
    "store/directory/receiving.py::Received.sync::self._folder.sync()": by(f"{RECEIVING}::test_d12_a_decision_comes_after_all_that_it_names_is_durable"),
    'store/directory/receiving.py::Received.sync::self._context.layout.folder("temp").sync()': by(f"{RECEIVING}::test_d12_a_decision_comes_after_all_that_it_names_is_durable"),
    "store/directory/receiving.py::sweep::folder.try_lock()": by(f"{RECEIVING}::test_c05_what_a_living_process_takes_in_is_left_alone"),
    "store/directory/joint.py::_decide::received.sync()": by(f"{RECEIVING}::test_d12_a_decision_comes_after_all_that_it_names_is_durable"),
    "store/directory/decisions.py::Decisions.place::self.confirm(piece.transaction_id)": by(f"{RECEIVING}::test_d12_who_puts_it_in_place_makes_sure_of_the_decision", instead="True"),
    "store/directory/decisions.py::Decisions._place::whole.file.lock(timeout_s, partial(locked_too_long, whole.file, timeout_s))": by(f"{CARRYING_OUT}::test_c08_nobody_gives_a_log_its_name_while_another_does"),
    "store/directory/decisions.py::Decisions._place::log.is_current()": by(f"{CARRYING_OUT}::test_c04_who_has_waited_to_give_a_log_its_name_sees_that_another_did"),
    "store/directory/decisions.py::Decisions._whole::folder.identity(f\"{name}{_PLACED}\") is not None": by(f"{CARRYING_OUT}::test_d12_a_log_that_arrived_keeps_its_name_while_two_carry_it_out", instead="False"),
    "store/directory/decisions.py::Decisions._stands::self._layout.folder(FOLDER).identity(transaction_id) is not None": by(f"{CARRYING_OUT}::test_d12_who_finds_a_decision_gone_takes_no_name_away"),
    "store/directory/decisions.py::Decisions.place_for_good::log.folder.identity(log.name) == whole.file.identity()": by(f"{RECEIVING}::test_d13_a_log_that_was_written_anew_since_keeps_its_place"),
    "store/directory/decisions.py::Decisions.remove_arrived::self._layout.folder(FOLDER).sync()": by(f"{RECEIVING}::test_d12_the_decision_is_gone_for_good_before_what_it_names"),
    "store/directory/decisions.py::Whole.note_place::folder.sync()": by(f"{RECEIVING}::test_d02_the_name_of_a_log_is_durable_once_it_has_its_place"),
    "store/directory/decisions.py::Decisions._whole::self._folder.identity(body.transaction_id) is None": by(f"{RECEIVING}::test_what_was_carried_out_while_it_was_looked_for_is_no_damage"),
    "store/directory/bundle.py::_Walk.parts::found.header.file_id != opening.header.file_id": by(f"{BUNDLES}::test_x19_right_checksums_do_not_make_a_bundle_sound"),
    "store/directory/bundle.py::_Walk._frame::header.file_id == closing[0]": by(f"{BUNDLES}::test_a_bundle_is_read_back"),
    "store/directory/bundle.py::_Walk._frame::frame.intact(header, data, 0, at - start)": by(f"{BUNDLES}::test_t08_every_flipped_bit_is_told"),
    "store/directory/bundle.py::_Walk._frame::(header.file_id, header.link) != expected": by(f"{BUNDLES}::test_x19_right_checksums_do_not_make_a_bundle_sound"),
    "store/directory/bundle.py::_Walk._close::told != digest": by(f"{BUNDLES}::test_x19_right_checksums_do_not_make_a_bundle_sound"),
    "store/directory/bundle.py::_Walk._close::listed != [ _Listed(log.body.kind, log.body.id, log.standing.version, log.standing.commit_id) for log in logs ]": by(f"{BUNDLES}::test_x19_right_checksums_do_not_make_a_bundle_sound"),
    # --- store/directory/arriving.py, exported.py ---
    "store/directory/arriving.py::_check_is_alike::(there.document, there.checksum) != (version.document, version.checksum)": by(f"{ARRIVING}::test_another_import_under_the_same_id_has_to_wait"),
    "store/directory/arriving.py::_remove_leftover::folder.identity(file_name(name)) is None": by(f"{ARRIVING}::test_what_came_too_late_to_be_removed_is_not_read_for_what_is_adopted_next", instead="True"),
    "store/directory/arriving.py::_settle::file.try_lock()": by(f"{ARRIVING}::test_a_living_process_keeps_what_it_took_in"),
    "store/directory/arriving.py::take_in::file.sync_all()": by(f"{ARRIVING}::test_d01_it_is_durable_before_it_is_adopted"),
    "store/directory/arriving.py::take_in::temp.sync()": by(f"{ARRIVING}::test_d01_it_is_durable_before_it_is_adopted"),
    "store/directory/checkpoints.py::view_now::log.sync_to(log.data_end)": by(f"{ARRIVING}::test_d23_it_gets_its_place_once_the_commit_is_durable"),
    "store/directory/exported.py::_check_frames::frame.block_checksum(file.read(block.stored, block.offset)) != block.checksum": by(f"{EXPORTED}::test_x19_right_checksums_do_not_make_an_export_sound"),
    "store/directory/exported.py::_frame_at::frame.intact(header, data, 0, offset)": by(f"{EXPORTED}::test_t08_every_flipped_bit_is_told"),
    "store/directory/exported.py::_frame_at::header.file_id != file_id": by(f"{EXPORTED}::test_x19_right_checksums_do_not_make_an_export_sound"),
    "store/directory/exported.py::_frame_at::header.link != link": by(f"{EXPORTED}::test_x19_right_checksums_do_not_make_an_export_sound"),
    # --- store/directory/keeping.py ---
    "store/directory/keeping.py::_locked::folder.identity(LOCK) == file.identity()": by(f"{KEPT_FOUND}::test_c04_the_folder_is_locked_by_the_file_that_has_the_name"),
    "store/directory/keeping.py::alone_if_free::file.try_lock()": by(f"{REGISTER}::test_c07_who_finds_the_folder_locked_leaves_it_to_others"),
    "store/directory/keeping.py::alone_if_free::context.layout.folder(FOLDER).identity(LOCK) == file.identity()": by(f"{REGISTER}::test_c04_the_folder_is_locked_by_the_file_that_has_the_name"),
    "store/directory/register.py::_is_stale::file.read(_HEAD_BYTES, 0).startswith(_head(folder.changed_ns()))": by(f"{REGISTER}::test_whoever_closes_writes_what_others_left_undone"),
    "store/directory/register.py::parse::checksum != f'{crc32(text):08x}\"}}\\n'.encode()": by(f"{REGISTER}::test_it_is_told_when_it_is_amiss_and_written_anew"),
    "store/directory/keeping.py::_lock::file.lock(patience, partial(locked_too_long, file, patience))": by(f"{KEPT_FOUND}::test_c04_the_folder_is_locked_by_the_file_that_has_the_name"),
    "store/directory/keeping.py::write_missing::folder.identity(file_name(name)) is None": by(f"{KEPT}::test_trap_13_every_checkpoint_comes_back_whatever_is_lost"),
    "store/directory/keeping.py::_place_arrivals::folder.identity(file_name(name)) is None": by(f"{ARRIVING}::test_what_is_adopted_gets_its_place_beside_its_log"),
    "store/directory/keeping.py::_place_arrivals::temp.identity(arrival_name(name)) is not None": by(f"{ARRIVING}::test_what_another_process_gave_its_place_meanwhile_has_it"),
    "store/directory/keeping.py::give_place::folder.sync()": by(f"{ARRIVING}::test_d14_what_a_dead_process_was_giving_its_place_has_it"),
    "store/directory/keeping.py::write_out::folder.identity(file_name(name)) is None": by(f"{KEPT}::test_trap_13_every_checkpoint_comes_back_whatever_is_lost"),
    "store/directory/keeping.py::make_durable::folder.sync()": by(f"{KEPT_SYNCS}::test_t20_what_a_dead_process_kept_outlives_the_history_that_held_it"),
    "store/directory/keeping.py::_place_again::folder.sync()": by(f"{KEPT_FOUND}::test_d16_a_file_whose_name_was_not_synced_is_written_again_before_history_goes"),
    "store/directory/keeping.py::write_out::checkpoints.is_current(folder, last.layer)": by(f"{WRITTEN_OUT}::test_c04_none_is_written_on_one_that_goes_meanwhile"),
    "store/directory/keeping.py::write_out::folder.sync()": by(f"{KEPT_FOUND}::test_d16_a_file_whose_name_was_not_synced_is_written_again_before_history_goes"),
    "store/directory/keeping.py::put_in_place::file.sync_all()": by(f"{KEPT_SYNCS}::test_t20_checkpoints_outlive_the_history_that_held_them"),
    "store/directory/keeping.py::put_in_place::folder.sync()": by(f"{KEPT_SYNCS}::test_t20_checkpoints_outlive_the_history_that_held_them"),
    "store/directory/keeping.py::is_same::(part.length, part.digest) == (other.length, other.digest)": by(f"{KEPT}::test_trap_13_every_checkpoint_comes_back_whatever_is_lost"),
    "store/directory/keeping.py::let_go::folder.identity(file_name(name)) is not None": by(f"{KEPT_FOUND}::test_c05_who_has_nothing_to_remove_does_not_wait_for_the_folder"),
    "store/directory/keeping.py::let_go_alone::folder.sync()": by(f"{KEPT_SYNCS}::test_t20_what_stood_on_a_checkpoint_that_goes_survives_it"),
    "store/directory/keeping.py::let_go_alone::folder.sync() #2": by(f"{KEPT_SYNCS}::test_t20_what_stood_on_a_checkpoint_that_goes_survives_it"),
    # --- store/directory/layout.py ---
    "store/directory/layout.py::Layout.folder::self.root.sync()": by("tests/crash/test_power_found.py::test_d02_a_folder_of_a_dead_maker_is_synced_before_anything_in_it_is_promised"),
    "store/directory/layout.py::open_layout::root.sync()": by(f"{SYNCS}::test_t20_a_store_below_directories_that_it_made_is_found_again"),
    "store/directory/layout.py::_furnish::sync_above(layout.path)": by(f"{SYNCS}::test_t20_a_store_below_directories_that_it_made_is_found_again"),
    "store/directory/layout.py::new_file::file.try_lock()": by(f"{LOCKS}::test_c04_whatever_is_written_is_locked"),
    "store/directory/layout.py::new_file::folder.identity(name) is not None": by(f"{LEASES}::test_n05_a_new_file_that_is_swept_before_it_is_locked_is_made_again"),
    "store/directory/layout.py::replace::file.sync_all()": by(f"{COPIES}::test_t20_a_repair_is_durable_and_so_is_what_it_moved_aside"),
    "store/directory/layout.py::replace::folder.sync()": by(f"{COPIES}::test_t20_a_repair_is_durable_and_so_is_what_it_moved_aside"),
    "store/directory/layout.py::sweep::file.try_lock()": by("tests/store/test_processes.py::test_trap_09_leftovers_of_dead_writers_are_swept"),
    "store/directory/layout.py::_is_in_place::lease[:2] == file.identity()[:2]": by("tests/store/test_processes.py::test_trap_09_leftovers_of_dead_writers_are_swept"),
    # --- store/directory/lease.py ---
    "store/directory/lease.py::parse::_text(holder) == data": by("tests/store/test_format.py::test_trap_11_verify_finds_every_flipped_bit_of_a_closed_store", f"{LEASES}::test_c03_a_lease_whose_bytes_changed_is_not_believed"),
    "store/directory/lease.py::Lease.release::self._file.try_lock()": by(f"{LEASES}::test_c03_the_lease_stays_while_one_process_has_the_store_open"),
    "store/directory/lease.py::Lease.release::self.is_current()": by(f"{LEASES}::test_c03_a_lease_that_another_made_meanwhile_is_left_to_him"),
    "store/directory/lease.py::Lease.try_alone::self._file.try_lock()": by("tests/store/test_backup.py::test_c03_no_restore_while_another_process_writes"),
    "store/directory/lease.py::Lease.try_alone::self.share_again()": by(f"{LEASES}::test_c03_the_lease_stays_while_one_process_has_the_store_open"),
    "store/directory/lease.py::Lease.share_again::self._file.lock(LOCK_TIMEOUT_S, self._kept_out, shared=True)": by(f"{LEASES}::test_c03_the_lease_stays_while_one_process_has_the_store_open"),
    "store/directory/lease.py::Lease.is_current::named[:2] == self._file.identity()[:2]": by(f"{LEASES}::test_c03_a_lease_that_another_made_meanwhile_is_left_to_him"),
    "store/directory/lease.py::take::lease.share_again()": by(f"{LEASES}::test_c03_the_lease_stays_while_one_process_has_the_store_open"),
    "store/directory/lease.py::take::lease.is_current()": by(f"{LEASES}::test_c03_a_lease_that_went_before_it_was_shared_is_made_anew"),
    "store/directory/lease.py::_make::file.sync_all()": by(f"{COPIES}::test_t20_a_backup_passes_on_nothing_that_the_store_could_still_lose"),
    # --- store/directory/loading.py ---
    "store/directory/loading.py::_are_blocks_whole::log.blocks_whole(snapshot.frame, thorough=True)": by(f"{KEPT}::test_damage_before_the_newest_snapshot_leaves_a_checkpoint_its_file[snapshot]"),
    "store/directory/loading.py::reopen_for_writing::known.file.identity()[:2] == log.file.identity()[:2]": by(f"{CHECKS}::test_c04_a_reader_who_becomes_a_writer_opens_the_file_anew"),
    # --- store/directory/log.py ---
    "store/directory/log.py::Log.frame_at::header.file_id != self.file_id": by(f"{CHECKS}::test_d10_frames_of_another_file_behind_the_end_are_no_damage"),
    "store/directory/log.py::Log.frame_at::frame.intact(header, window, at, offset)": by("tests/store/test_format.py::test_t08_a_flipped_bit_never_gives_a_wrong_value"),
    "store/directory/log.py::Log.hop::found.header.link != link": by("tests/store/test_format.py::test_d10_a_frame_that_links_to_another_is_not_replayed"),
    "store/directory/log.py::Log.hop::self.blocks_whole(found)": by(f"{CHECKS}::test_d07_a_commit_whose_blocks_are_torn_is_a_torn_tail"),
    "store/directory/log.py::Log.blocks_whole::frame.block_checksum(stored) != block.checksum": by(f"{CHECKS}::test_d07_a_commit_whose_blocks_are_torn_is_a_torn_tail"),
    "store/directory/log.py::Log.first::found.header.link != 0": by(f"{CHECKS}::test_d10_the_first_frame_follows_no_other"),
    "store/directory/log.py::Log.lacks::self.file_id == file_id": by(f"{CHECKS}::test_d12_a_decision_that_comes_back_after_a_compaction_changes_nothing"),
    "store/directory/log.py::Log.lock::self.file.lock(LOCK_TIMEOUT_S if wait else 0, partial(locked_too_long, self.file, LOCK_TIMEOUT_S))": by(f"{LOCKS}::test_c04_whatever_is_written_is_locked"),
    "store/directory/log.py::Log.lock::named[:2] != here[:2]": by(f"{CHECKS}::test_c04_a_writer_looks_whether_the_name_still_stands_for_its_file"),
    "store/directory/log.py::Log.lock::here.size < self.end": by(f"{CHECKS}::test_c04_a_log_that_became_shorter_is_read_again"),
    "store/directory/log.py::Log.is_current::named[:2] == self.file.identity()[:2]": by(f"{CHECKS}::test_c04_a_reader_looks_at_the_file_that_the_name_stands_for"),
    "store/directory/log.py::Log._set_aside::self._sync_at_once()": by(f"{ORDER}::test_t21_a_torn_tail_is_cleared_and_synced_before_a_frame_stands_in_its_place"),
    "store/directory/log.py::Log._cut_back::self._sync_at_once()": by(f"{SYNCS}::test_t20_a_short_write_that_is_cut_back_stays_so"),
    "store/directory/log.py::Log._sync_at_once::self.file.sync()": by("tests/store/test_cut_short.py::test_d04_who_waits_for_a_sync_learns_of_one_that_failed_as_a_tail_was_cleared"),
    "store/directory/log.py::Log.sync_to::self.file.sync()": by(f"{SYNCS}::test_t20_a_commit_over_two_documents_needs_its_syncs"),
    "store/directory/log.py::Log.sync_to::self.folder.sync()": by(f"{SYNCS}::test_t20_a_commit_over_two_documents_needs_its_syncs"),
    "store/directory/log.py::Log::self._sync_lock": by(f"{LOCKS}::test_c11_syncs_of_one_log_follow_one_another"),
    # --- store/directory/mending.py ---
    "store/directory/mending.py::Mender.move_aside::aside.sync()": by(f"{COPIES}::test_t20_a_repair_is_durable_and_so_is_what_it_moved_aside"),
    "store/directory/mending.py::Mender.move_aside::folder.sync()": by(f"{COPIES}::test_t20_a_repair_is_durable_and_so_is_what_it_moved_aside"),
    "store/directory/mending.py::Mender._second_name::there[:2] == here[:2]": by(f"{REPAIRS}::test_e10_a_repair_takes_no_other_file_for_the_one_that_it_keeps"),
    "store/directory/mending.py::Mender.keep::self.aside().sync()": by(f"{COPIES}::test_t20_a_repair_is_durable_and_so_is_what_it_moved_aside"),
    "store/directory/mending.py::Mender.put_in_place::file.sync_all()": by(f"{COPIES}::test_t20_a_repair_is_durable_and_so_is_what_it_moved_aside"),
    "store/directory/mending.py::Mender.put_in_place::log.folder.sync()": by(f"{COPIES}::test_t20_a_repair_is_durable_and_so_is_what_it_moved_aside"),
    # --- store/directory/opened.py ---
    "store/directory/opened.py::OpenDocument._recent::log.is_current()": by(f"{CHECKS}::test_c04_an_earlier_version_is_looked_at_in_the_file_that_the_name_stands_for"),
    "store/directory/opened.py::OpenDocument.view::log.is_current()": by(f"{CHECKS}::test_c04_a_reader_looks_at_the_file_that_the_name_stands_for"),
    "store/directory/opened.py::OpenDocument.view::self.sync_to(log, covered)": by(f"{SYNCS}::test_t20_what_is_shown_is_synced_first"),
    "store/directory/opened.py::OpenDocument._with_decided::self._context.decisions.confirm(piece.transaction_id)": by(f"{SYNCS}::test_t20_who_finds_a_decision_makes_sure_of_it[reader]", instead="True"),
    "store/directory/opened.py::OpenDocument._carried_out_what_was_decided::self.enter()": by(f"{LOCKS}::test_c04_whatever_is_written_is_locked", instead="int()"),
    "store/directory/opened.py::OpenDocument.enter::log.lock(wait=wait)": by(f"{LOCKS}::test_c04_whatever_is_written_is_locked"),
    "store/directory/opened.py::OpenDocument.sync_to::log.sync_to(covered)": by(f"{SYNCS}::test_t20_a_commit_over_two_documents_needs_its_syncs"),
    "store/directory/opened.py::OpenDocument._rewrite_unsynced::opened.lock()": by(f"{LOCKS}::test_c04_whatever_is_written_is_locked"),
    "store/directory/opened.py::OpenDocument::self.lock": by(f"{LOCKS}::test_c05_threads_take_turns_on_a_document"),
    # --- store/directory/participants.py ---
    "store/directory/participants.py::_holds::mark.transaction_id == transaction_id": by(f"{TORN}::test_d12_another_commit_at_that_version_is_no_counterpart"),
    # --- store/directory/recollecting.py ---
    "store/directory/recollecting.py::CheckpointMender.clear_arrival::file.try_lock()": by(f"{REPAIRED_ARRIVALS}::test_c09_a_repair_leaves_what_a_living_process_took_in"),
    # --- store/directory/repair.py ---
    "store/directory/repair.py::repair::root.try_lock()": by("tests/store/test_repair.py::test_c07_two_repairs_do_not_meet"),
    "store/directory/repair.py::_Repair._mend_mode::root.sync()": by(f"{REPAIRS}::test_e04_a_repair_that_closes_a_store_to_others_makes_that_durable"),
    "store/directory/repair.py::_Repair._clear_way::root.sync()": by(f"{REPAIRS}::test_e10_a_file_where_what_is_moved_aside_would_stand_has_another_name_durably"),
    "store/directory/repair.py::_Repair._mend_lease::file.try_lock()": by(f"{REPAIRS}::test_e10_an_unreadable_lease_that_a_living_process_holds_is_left"),
    "store/directory/repair.py::_Repair._clear_temp::here[:2] == held[:2]": by(f"{REPAIRS}::test_e10_a_repair_leaves_what_a_living_process_is_writing"),
    "store/directory/repair.py::_Repair._clear_temp::opened.try_lock()": by(f"{REPAIRS}::test_e10_a_repair_leaves_what_a_living_process_is_writing"),
    "store/directory/repair.py::_Repair._mend_log::log.lock()": by(f"{LOCKS}::test_c04_whatever_is_written_is_locked"),
    "store/directory/repair.py::_Repair._mend_name::there[:2] == here[:2]": by(f"{REPAIRS}::test_e10_a_log_under_a_wrong_name_is_kept_where_another_has_its_own"),
    "store/directory/repair.py::_Repair._mend_name::folder.sync()": by(f"{COPIES}::test_t20_a_repair_is_durable_and_so_is_what_it_moved_aside"),
    "store/directory/repair.py::_Repair._mend_name::log.folder.sync()": by(f"{COPIES}::test_t20_a_repair_is_durable_and_so_is_what_it_moved_aside"),
    "store/directory/repair.py::_Repair._cut_tail::writable.file.sync_all()": by(f"{COPIES}::test_t20_a_repair_is_durable_and_so_is_what_it_moved_aside"),
    # --- store/directory/restoring.py ---
    "store/directory/restoring.py::stage::target.sync()": by(f"{RESTORES}::test_t20_a_restore_that_was_decided_has_all_that_it_needs"),
    "store/directory/restoring.py::_copy::copy(found, each.size_bytes, file) != each.sha256": by("tests/store/test_backup.py::test_n07_what_is_no_whole_backup_is_refused_and_nothing_is_changed", instead="(copy(found, each.size_bytes, file), False)[1]"),
    "store/directory/restoring.py::_copy::file.sync_all()": by(f"{RESTORES}::test_t20_a_restore_that_was_decided_has_all_that_it_needs"),
    "store/directory/restoring.py::_stage_checkpoints::target.sync()": by(f"{KEPT_SYNCS}::test_t20_a_restore_that_was_decided_has_the_checkpoints"),
    "store/directory/restoring.py::_stage_one::(standing.version, standing.commit_id.hex()) != (each.version, each.commit_id)": by("tests/store/test_backup.py::test_n07_what_is_no_whole_backup_is_refused_and_nothing_is_changed"),
    "store/directory/restoring.py::_leads_to::(held.version, held.commit_id.hex()) == (each.version, each.commit_id)": by(f"{BACKED_UP}::test_e06_what_went_another_way_is_not_taken_back_unasked"),
    "store/directory/restoring.py::_leads_to::found.header.commit_id == held.commit_id": by(f"{BACKED_UP}::test_e06_what_went_another_way_is_not_taken_back_unasked"),
    "store/directory/restoring.py::_leads_to::past.dropped_id(held.version) == held.commit_id": by(f"{BACKED_UP}::test_e06_what_went_another_way_is_not_taken_back_unasked"),
    "store/directory/restoring.py::plan::file.sync_all()": by(f"{RESTORES}::test_t20_a_restore_that_was_decided_has_all_that_it_needs"),
    "store/directory/restoring.py::plan::staged.sync()": by(f"{RESTORES}::test_t20_a_restore_that_was_decided_has_all_that_it_needs"),
    "store/directory/restoring.py::decide::layout.root.sync()": by(f"{RESTORES}::test_t20_a_restore_that_was_decided_has_all_that_it_needs", f"{RESTORES}::test_t20_a_restore_is_durable_and_so_is_what_it_replaced"),
    "store/directory/restoring.py::finish::decided.try_lock()": by(f"{LOCKS}::test_c07_a_restore_that_another_carries_out_is_waited_for"),
    "store/directory/restoring.py::finish::decided.sync()": by(f"{RESTORES}::test_t20_a_restore_that_was_carried_out_does_not_come_back"),
    "store/directory/restoring.py::finish::layout.root.sync()": by(f"{RESTORES}::test_t20_a_restore_is_durable_and_so_is_what_it_replaced"),
    "store/directory/restoring.py::_is_to_come::coming != folder.identity(name)": by(f"{RESTORES}::test_t20_a_restore_is_carried_out_whole_whichever_names_outlive_the_power"),
    "store/directory/restoring.py::_carry_out::each.folder.sync()": by(f"{RESTORES}::test_t20_what_a_restore_replaces_is_there_at_each_moment"),
    "store/directory/restoring.py::_keep::aside.sync()": by(f"{RESTORES}::test_t20_what_a_restore_replaces_is_there_at_each_moment"),
    "store/directory/restoring.py::_keep::kept.sync()": by(f"{RESTORES}::test_t20_what_a_restore_replaces_is_there_at_each_moment"),
    "store/directory/restoring.py::_keep::backups.sync()": by(f"{RESTORES}::test_t20_what_a_restore_replaces_is_there_at_each_moment"),
    # --- store/directory/salvage.py ---
    "store/directory/salvage.py::find_frames::found.header.link != last.header.checksum": by(f"{REPAIRS}::test_e10_a_frame_that_belongs_behind_another_one_is_not_salvaged"),
    "store/directory/salvage.py::_not_whole::block_checksum(log.file.read(block.stored, at)) != block.checksum": by(f"{REPAIRS}::test_e10_a_commit_whose_old_blocks_are_damaged_is_not_copied"),
    "store/directory/salvage.py::_Parts.are::self.checksum == header.document_checksum": by("tests/store/test_repair.py::test_e10_each_damage_is_named_and_mended"),
    "store/directory/salvage.py::_Reading._may_be_copied::expected == found.header.commit_id": by("tests/store/test_repair.py::test_e10_each_damage_is_named_and_mended"),
    "store/directory/salvage.py::_Reading._is_whole::block_checksum(stored) == block.checksum": by(f"{REPAIRS}::test_e10_a_commit_whose_old_blocks_are_damaged_is_not_copied"),
    'store/directory/salvage.py::_without_value::sums.part_checksum(key.encode(), value).to_bytes(32, "big") == part.digest': by("tests/store/test_repair.py::test_e10_each_damage_is_named_and_mended"),
    # --- store/directory/spooled.py ---
    "store/directory/spooled.py::set_aside::file.sync_all()": by(f"{SPOOL}[one_that_cannot_be_used-weak]"),
    "store/directory/spooled.py::set_aside::folder.sync()": by(f"{SPOOL}[one_that_cannot_be_used-weak]"),
    "store/directory/spooled.py::set_aside::refused.sync()": by(f"{SPOOL}[a_writer_that_dies-weak]"),
    "store/directory/spooled.py::set_aside::refused.sync() #2": by(f"{SPOOL}[one_that_cannot_be_used-weak]"),
    # --- store/directory/standing.py ---
    "store/directory/standing.py::is_surely_same::one[:2] == other[:2]": by(f"{KEPT}::test_large_parts_in_files_and_in_the_log_are_told_apart_by_their_digests"),
    # --- store/directory/state.py ---
    "store/directory/state.py::DocumentView._touched_beside::mine.commit_id != its.commit_id": by(f"{IN_A_ROW}::test_what_differs_is_what_lies_between"),
    "store/directory/state.py::DocumentView._touched_beside::self._base.blocks.file_id == other._base.blocks.file_id": by(f"{IN_A_ROW}::test_what_was_erased_between_differs"),
    "store/directory/state.py::DocumentView._touched_until::self._base.blocks.file_id != other._base.blocks.file_id": by("tests/store/test_recent.py::test_a_version_that_was_held_while_something_was_erased_differs_in_it"),
    "store/directory/state.py::DocumentView._touched_until::later.commit_id == other.commit_id": by("tests/store/test_recent.py::test_what_differs_from_a_moment_ago_is_told_by_what_was_touched_since"),
    "store/directory/blocks.py::BlockCache::self._lock": by(f"{LOCKS}::test_c05_threads_take_turns_on_cached_blocks_and_decisions"),
    # --- store/directory/submission.py ---
    "store/directory/submission.py::Submission::self._done": by(f"{LOCKS}::test_a_change_is_told_only_when_it_is_done"),
    # --- store/directory/transactions.py ---
    "store/directory/transactions.py::TransactionMender.with_decided::piece.file_id == log.file_id": by(f"{TORN}::test_d12_a_decision_that_was_carried_out_before_a_compaction_stays_out_of_a_repair"),
    # --- store/directory/upkeep.py ---
    "store/directory/upkeep.py::_put_backup::log.lock()": by("tests/store/test_erasing.py::test_a_copy_for_a_migration_does_not_outlive_the_erasure"),
    "store/directory/upkeep.py::take_snapshot::origin.log.sync_to(origin.end)": by(f"{ORDER}::test_t21_what_a_snapshot_covers_is_synced_before_it_is_written"),
    "store/directory/upkeep.py::_append_snapshot::log.lock()": by(f"{LOCKS}::test_c04_whatever_is_written_is_locked"),
    "store/directory/upkeep.py::compact::file.sync_all()": by(f"{ORDER}::test_t21_a_compacted_log_is_synced_before_and_under_the_lock_and_its_name_behind_it"),
    "store/directory/upkeep.py::_carry_over::log.lock()": by(f"{LOCKS}::test_c04_what_others_wrote_is_taken_in_under_the_lock"),
    "store/directory/upkeep.py::_switch::log.lock()": by(f"{LOCKS}::test_c04_whatever_is_written_is_locked"),
    "store/directory/upkeep.py::_switch::out.file.sync_all()": by(f"{SYNCS}::test_t20_snapshots_and_compaction_lose_nothing"),
    "store/directory/upkeep.py::_switch::log.folder.sync()": by(f"{ORDER}::test_t21_a_compacted_log_is_synced_before_and_under_the_lock_and_its_name_behind_it"),
    "store/directory/upkeep.py::back_up::file.sync_all()": by(f"{COPIES}::test_t20_a_copy_before_a_migration_is_durable"),
}
