"""An installer that is killed anywhere leaves the old environment active and whole."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from small_index import SmallIndex, build_wheel, fill

from env_manager.generations import BUILD_PREFIX, Generation, Store
from env_manager.preflight import check

pytestmark = pytest.mark.env

INSTALL_ONCE = Path(__file__).with_name("install_once.py")
PLACES = [
    *(f"phase:{name}" for name in ("lock", "detect", "python", "plan", "resolve", "measure", "disk")),
    *(f"phase:{name}" for name in ("install", "verify", "prove", "commit", "activate")),
    *(f"step:{id}:{state}" for id in ("first", "second", "third") for state in ("waiting", "running", "done")),
]


@dataclass
class Scene:
    """A home with one good environment, and an index to install a second one from."""

    store: Store
    index: SmallIndex
    environ: dict[str, str]

    def start(self, place: str | None = None, version: str = "1.1") -> subprocess.Popen[str]:
        argv = [sys.executable, str(INSTALL_ONCE), str(self.store.root), *([place] if place else [])]
        environ = self.environ | {"FIRST_VERSION": version}
        return subprocess.Popen(argv, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def run(self, place: str | None = None, version: str = "1.1") -> tuple[int, list[str]]:
        process = self.start(place, version)
        out, err = process.communicate(timeout=300)
        assert "Traceback" not in err, err
        return process.returncode, out.splitlines()


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("kills")
    fill(folder / "wheels")
    index = SmallIndex(folder / "wheels")
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "UV_", "PYTHON"))}
    environ |= {"PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": index.url, "XDG_CONFIG_HOME": str(folder / "config")}
    scene = Scene(Store(folder / "home"), index, environ)
    code, lines = scene.run(version="1.0")
    assert (code, lines[-1][:2]) == (0, "ok")
    yield scene
    index.close()


def active_and_whole(scene: Scene, before: Generation) -> None:
    """The environment from before is active, complete, and works."""
    active = scene.store.active()
    assert active is not None and active.id == before.id
    broken = [found for found in check(active) if not found.ok]
    assert broken == []


def start_again(scene: Scene) -> None:
    """What the next start does: clean up, as soon as whatever the dead installer started is gone."""
    deadline = time.monotonic() + 60
    while scene.store.installing() and time.monotonic() < deadline:
        time.sleep(0.05)
    scene.store.clean()
    assert list(scene.store.envs.glob(BUILD_PREFIX + "*")) == []
    assert list(scene.store.envs.glob(".active-*")) == []
    assert list(scene.store.cache.glob(".tmp*")) == []


def test_the_list_of_places_is_the_whole_list(scene):
    """An installation passes exactly the places at which it is killed below, so that none is forgotten."""
    _, lines = scene.run(version="1.0")
    passed = dict.fromkeys(line for line in lines if line.startswith(("phase:", "step:")))
    assert set(passed) == set(PLACES)


@pytest.mark.parametrize("place", PLACES)
def test_a_kill_at_any_place_leaves_the_old_environment_active_and_whole(scene, place):
    """SIGKILL at every phase boundary and at every step's begin and end; then the next start cleans up."""
    before = scene.store.active()
    assert before is not None
    code, lines = scene.run(place)
    assert code == -9
    assert lines[-1] == place
    active_and_whole(scene, before)
    start_again(scene)
    active_and_whole(scene, before)
    for generation in scene.store.list():
        assert all(found.ok for found in check(generation)), "whatever claims to be finished is whole"


@pytest.mark.parametrize("seed", range(8))
def test_a_kill_at_a_random_moment_leaves_a_whole_environment_active(scene, seed):
    """SIGKILL after a random time, uv at work or not; the survivor is the old or the finished new one."""
    before = scene.store.active()
    assert before is not None
    known = {generation.id for generation in scene.store.list()}
    process = scene.start()
    time.sleep(random.Random(seed).uniform(0.05, 2.0))
    process.kill()
    process.communicate(timeout=300)
    active = scene.store.active()
    assert active is not None
    assert active.id == before.id or active.id not in known
    assert all(found.ok for found in check(active))
    start_again(scene)
    assert all(found.ok for found in check(active))


def uv_processes(scene: Scene) -> list[str]:
    """The processes of uv that work with this scene's cache."""
    done = subprocess.run(["ps", "-ww", "-eo", "args"], capture_output=True, text=True, check=True)
    return [line for line in done.stdout.splitlines() if str(scene.store.cache) in line]


def test_nothing_of_a_killed_installer_lives_on(scene):
    """uv dies with the installer, so that nobody writes into a folder that is being cleaned up."""
    scene.index.seconds_per_wheel = 60
    try:
        build_wheel(scene.index.folder, "fx-first", "1.2")
        scene.index.wheels_sent.clear()
        process = scene.start(version="1.2")
        deadline = time.monotonic() + 120
        while not scene.index.wheels_sent and time.monotonic() < deadline:
            time.sleep(0.05)
        assert len(uv_processes(scene)) == 1, "uv waits for the wheel"
        process.kill()
        process.communicate(timeout=60)
        start_again(scene)
        assert uv_processes(scene) == []
    finally:
        scene.index.seconds_per_wheel = 0


def test_after_all_the_kills_an_installation_succeeds(scene):
    """The cache that the killed installers left is sound."""
    code, lines = scene.run(version="1.0")
    assert (code, lines[-1][:2]) == (0, "ok")
    active = scene.store.active()
    assert active is not None and active.id == lines[-1].split()[1]
    assert all(found.ok for found in check(active))


def in_a_mount(home: Path, options: str, environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Install into a small or read-only file system that exists only for that process."""
    inner = f'mount -t tmpfs -o {options} none "$0" && exec "$@"'
    as_root = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    argv = ["unshare", *as_root, "--mount", "sh", "-c", inner, str(home)]
    argv += [sys.executable, str(INSTALL_ONCE), str(home)]
    return subprocess.run(argv, env=environ, capture_output=True, text=True, timeout=300, check=False)


# Mounts of one process exist on Linux only.
if sys.platform == "linux":

    def test_a_disk_that_fills_up_is_named(scene, tmp_path):
        """An index that tells no sizes cannot warn before; the write that fails is named."""
        big = SmallIndex(tmp_path / "wheels")
        fill(tmp_path / "wheels", payload=400_000_000)
        big.ranges = False
        home = tmp_path / "home"
        home.mkdir()
        done = in_a_mount(home, "size=300m", scene.environ | {"PIP_INDEX_URL": big.url})
        big.close()
        assert done.stdout.splitlines()[-1] == "failed disk-full", done.stdout + done.stderr
        assert "Traceback" not in done.stderr

    def test_a_home_that_cannot_be_written_is_named(scene, tmp_path):
        """A read-only file system is refused before anything else."""
        done = in_a_mount(tmp_path, "ro", scene.environ)
        assert done.stdout.splitlines()[-1] == "failed no-permission", done.stdout + done.stderr
        assert "Traceback" not in done.stderr
