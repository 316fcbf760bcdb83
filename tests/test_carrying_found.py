"""What was found amiss of imports once."""

from __future__ import annotations

from pathlib import Path

from tests.test_carrying import filled, is_same, opened


def test_an_import_after_a_restore_is_what_was_exported(tmp_path: Path) -> None:
    """The handle had made a checkpoint of that very name and number, in the line of versions that was taken back."""
    wp = opened(tmp_path / "store")
    filled(wp)
    wp.backup(tmp_path / "backup").unwrap()
    wp.update_context("w", variables={"x": "exported"}).unwrap()
    kept = wp.create_checkpoint("w").unwrap()
    data = wp.export_checkpoint(kept.id)
    wp.restore_backup(tmp_path / "backup", allow_older=True).unwrap()
    for number in range(10):
        wp.update_context("w", variables={"x": number}).unwrap()
    found = wp.import_checkpoint(data).unwrap()
    assert found.id == kept.id and is_same(found, kept)
    assert wp.get_checkpoint(kept.id).state.context.variables["x"] == "exported"
    wp.close()
