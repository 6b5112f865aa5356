"""What a killed installation leaves is gone at the next start."""

from __future__ import annotations

from pathlib import Path

from app.operations import Operations
from app.paths import open_home


def test_the_next_start_removes_a_dead_installations_folder(own_home: Path) -> None:
    left = own_home / "envs" / ".build-20260101-000000-dead" / "env"
    left.mkdir(parents=True)
    Operations(open_home())
    assert not left.parent.exists()


def test_a_living_installations_folder_is_left_alone(own_home: Path) -> None:
    building = own_home / "envs" / ".build-20260101-000000-live"
    building.mkdir(parents=True)
    with Operations(open_home()).store.install_lock():
        building.mkdir(exist_ok=True)
        Operations(open_home())
        assert building.exists()
