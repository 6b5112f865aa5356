"""A file that is replaced: told as failed only where the old one stayed."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from env_manager import durable


@pytest.mark.skipif(os.name != "posix", reason="only there folders are synced")
def test_a_file_whose_folder_cannot_be_synced_is_replaced_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync = os.fsync

    def broken(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        sync(handle)

    monkeypatch.setattr(os, "fsync", broken)
    (tmp_path / "active").write_text("old")
    durable.replace_text(tmp_path / "active", "new")
    assert (tmp_path / "active").read_text() == "new"
    with pytest.raises(OSError, match="Input/output"):
        durable.sync_folder(tmp_path)


def test_a_folder_that_cannot_be_opened_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(folder: Path) -> int:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(durable, "_opened", closed)
    (tmp_path / "active").write_text("old")
    with pytest.raises(OSError, match="Read-only"):
        durable.replace_text(tmp_path / "active", "new")
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("active", "old")]
