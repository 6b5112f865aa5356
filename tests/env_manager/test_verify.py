"""Damage is found by size and by content, told for everyone who shares the file, and mended from the lock."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from install_bench import Bench, Recorder
from small_index import build_wheel

from env_manager.errors import EnvError
from env_manager.generations import Generation
from env_manager.progress import StepProgress
from env_manager.proving import file_record
from env_manager.proving.file_record import RECORD_NAME, Damage, against_own_hashes, against_own_record, read_record
from env_manager.proving.integrity import examine
from env_manager.proving.preflight import check
from env_manager.proving.verify import owners, site_packages
from env_manager.repair import Repaired, repair


def tree(folder: Path) -> Path:
    """Files of all sizes that matter: none, small, larger than one block; names with odd letters."""
    env = folder / "env"
    for path, data in {
        "empty": b"",
        "a/small.py": b"x = 1\n",
        "a/large.bin": os.urandom(3_000_000),
        "odd/tab\there": b"1",
        "odd/line\nhere": b"2",
        "odd/back\\slash \\n": b"3",
        "odd/Füße 名前": b"4",
        "a/__pycache__/small.pyc": b"bytecode",
    }.items():
        file = env / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    return env


def flip(file: Path, at: int = 0) -> None:
    """Turn one bit over, in place, as a bad disk does: every hard link sees it."""
    status = file.stat()
    with file.open("r+b") as data:
        data.seek(at)
        byte = data.read(1)[0]
        data.seek(at)
        data.write(bytes([byte ^ 0x10]))
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_a_record_names_every_file_but_bytecode(tmp_path):
    """Whatever the name; an untouched environment has no damage, by size or by content."""
    env = tree(tmp_path)
    size = file_record.take_record(env, tmp_path / "r")
    rows = read_record(tmp_path / "r")
    assert {row.path for row in rows} == {
        str(path.relative_to(env)) for path in env.rglob("*") if path.is_file() and path.suffix != ".pyc"
    }
    assert size == sum(row.size for row in rows)
    assert against_own_record(env, tmp_path / "r") == []
    assert against_own_hashes(env, tmp_path / "r") == ([], 0)


def test_every_flipped_bit_is_found_by_content_and_not_by_size(tmp_path):
    """Each file in turn, first and last byte."""
    env = tree(tmp_path)
    file_record.take_record(env, tmp_path / "r")
    for row in read_record(tmp_path / "r"):
        for at in {0, row.size - 1} if row.size else ():
            flip(env / row.path, at)
            assert against_own_record(env, tmp_path / "r") == []
            assert against_own_hashes(env, tmp_path / "r")[0] == [Damage(row.path, row.size, row.size, altered=True)]
            flip(env / row.path, at)


def test_every_missing_and_resized_file_is_found_by_both(tmp_path):
    """Removed, emptied, cut by a byte, longer by a byte, replaced by a folder."""
    env = tree(tmp_path)
    file_record.take_record(env, tmp_path / "r")
    for row in read_record(tmp_path / "r"):
        file = env / row.path
        data = file.read_bytes()
        harms = [file.unlink, lambda file=file, data=data: file.write_bytes(data + b"x")]
        if data:
            harms += [lambda file=file: file.write_bytes(b""), lambda file=file, data=data: file.write_bytes(data[:-1])]
        for harm in harms:
            harm()
            for damage in (against_own_record(env, tmp_path / "r"), against_own_hashes(env, tmp_path / "r")[0]):
                assert [each.path for each in damage] == [row.path]
            file.write_bytes(data)


def test_a_record_without_hashes_is_still_read(tmp_path):
    """As written before hashes were taken: sizes count, and it is said that contents were not compared."""
    env = tree(tmp_path)
    (tmp_path / "r").write_text("6\ta/small.py\n0\tempty\n")
    assert against_own_hashes(env, tmp_path / "r") == ([], 2)
    (env / "empty").write_text("x")
    assert [each.path for each in against_own_hashes(env, tmp_path / "r")[0]] == ["empty"]


@pytest.mark.parametrize("text", ["no number\tx\n", "# size\tsha256\tpath\nbroken\n", "\0\n"])
def test_a_record_that_cannot_be_read_is_damage(tmp_path, text):
    """So is one that is gone."""
    env = tree(tmp_path)
    (tmp_path / "r").write_text(text)
    for file in (tmp_path / "r", tmp_path / "none"):
        assert [each.path for each in against_own_record(env, file)] == [file.name]
        assert [each.path for each in against_own_hashes(env, file)[0]] == [file.name]


def test_files_that_came_later_are_listed(tmp_path):
    """Bytecode is Python's own."""
    env = tree(tmp_path)
    file_record.take_record(env, tmp_path / "r")
    (env / "a/more.py").write_text("")
    (env / "a/more.pyc").write_text("")
    assert file_record.unrecorded(env, tmp_path / "r") == ["a/more.py"]


def test_an_altered_file_keeps_its_right_hash_in_the_next_generation(tmp_path):
    """A linked file is not read again: the next record holds what it was, so the alteration shows there too."""
    env = tree(tmp_path)
    file_record.take_record(env, tmp_path / "r")
    other = tmp_path / "other"
    (other / "a").mkdir(parents=True)
    os.link(env / "a/large.bin", other / "a/large.bin")
    flip(env / "a/large.bin", 2_000_000)
    file_record.take_record(other, tmp_path / "r2", [(env, tmp_path / "r")])
    assert [each.path for each in against_own_hashes(other, tmp_path / "r2")[0]] == ["a/large.bin"]


# From here on with the real uv and its cache.


def payload(generation: Generation, package: str = "fx_first") -> Path:
    return site_packages(generation.env) / package / "payload.bin"


def in_cache(bench: Bench, package: str = "fx_first") -> list[Path]:
    return list(bench.store.cache.glob(f"archive-v*/*/{package}/payload.bin"))


def mended(bench: Bench, id: str | None = None) -> Repaired:
    found = repair(bench.store, id, report=Recorder())
    assert examine(bench.store, found.generation, full=True).sound
    assert all(each.ok for each in check(found.generation))
    return found


@pytest.mark.env
def test_the_files_of_an_environment_have_owners(bench):
    """By RECORD; where that is gone by the folder; launchers too; a stranger has none."""
    build_wheel(
        bench.wheels,
        "fx-first",
        "1.0",
        extra={"fx_first-1.0.dist-info/entry_points.txt": "[console_scripts]\nfx-say = fx_first:say\n"},
    )
    generation = bench.install()
    site = site_packages(generation.env).relative_to(generation.env).as_posix()
    wanted = [f"{site}/fx_first/__init__.py", f"{site}/fx_base/payload.bin", "bin/fx-say", f"{site}/stranger.py"]
    expected = {wanted[0]: "fx-first", wanted[1]: "fx-base", wanted[2]: "fx-first"}
    if os.name == "nt":
        wanted[2] = "Scripts/fx-say.exe"
    assert owners(generation.env, wanted) == expected
    (site_packages(generation.env) / "fx_base-1.5.dist-info/RECORD").unlink()
    assert owners(generation.env, [*wanted[:1], "bin/another"]) == {wanted[0]: "fx-first"}


@pytest.mark.env
def test_a_flipped_bit_is_told_for_every_generation_and_for_the_cache(bench):
    """One inode in two generations and the cache is one file."""
    first, second = bench.install(), bench.install()
    flip(payload(first), 1000)
    for one, other in ((first, second), (second, first)):
        found = examine(bench.store, one, full=True)
        (file,) = found.files
        assert (file.package, file.generations, file.in_cache) == ("fx-first", (other.id,), True)
        assert found.damaged_in_cache == ("fx-first",)
        assert examine(bench.store, one, full=False).sound


@pytest.mark.env
def test_a_repair_takes_a_damaged_package_out_of_the_cache_first(bench):
    """The new environment has the right file; both old ones stay, for inspection and not to go back to."""
    older, active = bench.install(), bench.install()
    flip(payload(active), 1000)
    bench.index.wheels_sent.clear()
    found = mended(bench)
    assert found.evicted == ("fx-first",)
    assert found.switched and bench.store.active().id == found.generation.id
    assert found.generation.packages == active.packages
    assert len(bench.store.list()) == 3
    assert not examine(bench.store, active, full=True).sound
    assert bench.store.previous() is None  # the older one has the same inode, so it was as damaged
    assert {each.id for each in bench.store.passed_over()} == {older.id, active.id}
    assert {wheel.split("-")[0] for wheel in bench.index.wheels_sent} == {"fx_first"}


@pytest.mark.env
def test_a_repair_of_missing_files_needs_no_network(bench):
    """The cache still has them: nothing is taken out of it and the index may be away."""
    active = bench.install()
    payload(active).unlink()
    payload(active, "fx_base").unlink()
    bench.index.close()
    found = mended(bench)
    assert found.evicted == ()
    assert found.damage.packages == ("fx-base", "fx-first")


@pytest.mark.env
def test_a_file_cut_short_in_the_cache_too_is_fetched_again(bench):
    """Writing through the link shortened both."""
    active = bench.install()
    with payload(active).open("r+b") as data:
        data.truncate(1000)
    assert [each.stat().st_size for each in in_cache(bench)] == [1000]
    assert mended(bench).evicted == ("fx-first",)
    assert 1000 not in [each.stat().st_size for each in in_cache(bench)]


@pytest.mark.env
def test_what_must_be_fetched_again_and_cannot_is_said(bench):
    """The old environment stays active, and nothing half-built stays."""
    active = bench.install()
    flip(payload(active))
    bench.index.close()
    with pytest.raises(EnvError) as caught:
        repair(bench.store, report=Recorder())
    assert caught.value.code == "index-unreachable"
    assert bench.store.active().id == active.id
    assert list(bench.store.envs.glob(".build-*")) == []


@pytest.mark.env
def test_an_environment_that_is_not_active_is_repaired_without_switching(bench):
    """Someone may want to go back to it later."""
    old, active = bench.install(), bench.install(overrides={"fx-first": "1.1"})
    payload(old).unlink()
    found = mended(bench, old.id)
    assert not found.switched and bench.store.active().id == active.id
    assert found.generation.packages["fx-first"] == "1.0"


@pytest.mark.env
def test_a_sound_environment_is_not_rebuilt(bench):
    """Unless it is asked for, as when something was added to it."""
    active = bench.install()
    with pytest.raises(EnvError) as caught:
        repair(bench.store, report=Recorder())
    assert caught.value.code == "nothing-to-repair"
    assert repair(bench.store, report=Recorder(), whole=True).generation.id != active.id


@pytest.mark.env
@pytest.mark.parametrize("harm", ["gone", "edited"])
def test_a_lock_that_was_changed_is_not_trusted(bench, harm):
    """It decides what is installed, so it must be the recorded one."""
    active = bench.install()
    payload(active).unlink()
    lock = active.folder / "requirements.lock"
    lock.unlink() if harm == "gone" else lock.write_text(lock.read_text().replace("1.0", "1.1"))
    with pytest.raises(EnvError) as caught:
        repair(bench.store, report=Recorder())
    assert caught.value.code == "lock-damaged"


@pytest.mark.env
def test_a_wheel_with_a_wrong_record_is_fine(bench):
    """Our own record is what counts: the hash that the wheel claims is never compared."""
    wheel = build_wheel(bench.wheels, "fx-third", "1.0", payload=5000)
    data = wheel.read_bytes()
    build_wheel(bench.wheels, "fx-third", "1.0", payload=5000, wrong_record=True)
    assert wheel.read_bytes() != data
    generation = bench.install()
    assert examine(bench.store, generation, full=True).sound
    flip(payload(generation, "fx_third"))
    assert [each.package for each in examine(bench.store, generation, full=True).files] == ["fx-third"]


@pytest.mark.env
def test_every_file_of_a_small_environment_is_guarded(bench):
    """Whichever single file is flipped, the full check names it; the record of the generation is complete."""
    generation = bench.install()
    for row in read_record(generation.folder / RECORD_NAME):
        if row.size:
            flip(generation.env / row.path)
            assert [each.damage.path for each in examine(bench.store, generation, full=True).files] == [row.path]
            flip(generation.env / row.path)


@pytest.mark.env
@pytest.mark.parametrize("how", ["cut short", "written into"])
def test_a_package_spoilt_in_the_cache_is_fetched_again_by_the_next_installation(bench, how):
    """It is noticed before the environment is used, taken out of the cache and brought anew, all by one click."""
    old = bench.install()
    file = in_cache(bench, "fx_base")[0]
    with file.open("r+b") as data:
        data.truncate(10) if how == "cut short" else data.write(b"raise OSError")
    os.utime(file, (time.time() + 5,) * 2)
    generation = bench.install()
    assert generation.lock_sha256 == old.lock_sha256
    assert examine(bench.store, generation, full=True).sound
    assert not examine(bench.store, old, full=True).sound


@pytest.mark.env
def test_an_environment_that_is_torn_twice_is_refused(bench, recorder):
    """Something takes files away as they are installed, as a virus scanner does; the active environment stays."""
    old = bench.install()

    def take_away(progress: StepProgress) -> None:
        if (progress.id, progress.state) == ("first", "done"):
            for file in bench.store.envs.glob(".build-*/env/lib/python*/site-packages/fx_first/__init__.py"):
                file.unlink()

    recorder.on_step = take_away
    with pytest.raises(EnvError) as caught:
        bench.install(report=recorder)
    assert caught.value.code == "environment-torn"
    assert recorder.phases.count("install") == 2
    assert bench.store.active_id() == old.id
    assert not list(bench.store.envs.glob(".build-*"))


@pytest.mark.env
def test_a_repaired_generation_shares_no_bytecode_and_can_be_exported(bench):
    """What was compiled may be what is broken; the list of wheels goes along with the lock."""
    old = bench.install()
    in_cache(bench, "fx_base")[0].write_text("raise OSError")
    new = repair(bench.store, report=Recorder()).generation
    pairs = [(file, new.env / file.relative_to(old.env)) for file in old.env.glob("lib/**/fx_*/**/*.pyc")]
    assert pairs and not any(other.exists() and os.path.samefile(file, other) for file, other in pairs)
    assert (new.folder / "pylock.toml").read_bytes() == (old.folder / "pylock.toml").read_bytes()
    assert bench.install().lock_sha256 == old.lock_sha256
