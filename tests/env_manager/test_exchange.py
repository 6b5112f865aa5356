"""Generations leave as files and come back the same elsewhere; hostile and foreign files are refused."""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from generation_bench import code
from install_bench import Bench, Recorder
from small_index import CPU_MACHINE, PYTHON_VERSION, build_wheel, small_catalog

from env_manager.errors import EnvError
from env_manager.generations import Generation, Store
from env_manager.hardware import Gpu
from env_manager.planning.torch_index import Asked
from env_manager.proving.verify import RECORD_NAME
from env_manager.sharing import exchange, wheelhouse
from env_manager.sharing.adopt import adoption, look
from env_manager.sharing.exchange import FORMATS, export, read_recipe
from env_manager.sharing.imported import plan_for

pytestmark = pytest.mark.env


@pytest.fixture
def elsewhere(bench: Bench, tmp_path: Path) -> Bench:
    """Another home, with the same index."""
    return Bench(Store(tmp_path / "elsewhere"), bench.index, bench.wheels)


def files(generation: Generation) -> list[str]:
    """Our record of its files, without the few that name the environment's own place."""
    rows = (generation.folder / RECORD_NAME).read_text().splitlines()
    return [row for row in rows if "site-packages/fx_" in row]


@pytest.mark.parametrize("format", FORMATS)
def test_a_generation_is_built_again_elsewhere_from_its_file(bench, elsewhere, tmp_path, format):
    """Same packages, same files, although the index has newer ones by then."""
    made = bench.install(overrides={"fx-base": "1.0"}, name="good one")
    build_wheel(bench.wheels, "fx-base", "1.7")
    file = tmp_path / "exported"
    file.write_text(export(made, format), encoding="utf-8")
    again = elsewhere.install(recipe=read_recipe(file))
    assert again.packages == made.packages
    assert files(again) == files(made)
    assert elsewhere.store.active_id() == again.id
    if format == "json":
        assert again.lock_sha256 == made.lock_sha256
        assert again.name == "good one"


def test_in_the_same_home_an_imported_generation_needs_no_new_proof(bench, tmp_path):
    """The lock is the same to the byte, so the recorded proof holds."""
    made = bench.install()
    file = tmp_path / "exported.json"
    file.write_text(export(made, "json"), encoding="utf-8")
    assert bench.install(recipe=read_recipe(file)).proved_by == made.id


def test_a_wheel_that_changed_on_the_index_is_refused_by_its_hash(bench, elsewhere, tmp_path):
    """A version that was replaced in place is another file."""
    file = tmp_path / "exported.json"
    file.write_text(export(bench.install(), "json"), encoding="utf-8")
    build_wheel(bench.wheels, "fx-base", "1.5", source="evil = True\n")
    with pytest.raises(EnvError) as caught:
        elsewhere.install(recipe=read_recipe(file))
    assert caught.value.code in ("hash-mismatch", "resolve-impossible", "package-missing")
    assert elsewhere.store.active_id() is None


def test_a_wheelhouse_installs_without_any_index(bench, elsewhere, tmp_path):
    """Every wheel and the manifest lie in one folder; the way there has spaces and a comma."""
    made = bench.install()
    folder = tmp_path / "a wheel, house"
    told = wheelhouse.fill(bench.store, made, folder)
    assert {each.package for each in told} == set(made.packages)
    assert len(list(folder.glob("*.whl"))) == len(made.packages)
    bench.index.close()
    recorder = Recorder()
    again = elsewhere.install(recipe=read_recipe(folder), report=recorder)
    assert again.packages == made.packages and again.lock_sha256 == made.lock_sha256
    assert all("--offline" in line for line in recorder.lines if line.startswith("$ uv pip"))


def test_a_wheelhouse_goes_on_where_it_stopped(bench, tmp_path):
    """What is there and whole is not fetched again, what is torn is; the manifest comes last."""
    made = bench.install()
    folder = tmp_path / "house"
    wheelhouse.fill(bench.store, made, folder)
    (folder / "generation.fettle.json").unlink()
    torn = next(folder.glob("fx_base-*"))
    torn.write_bytes(torn.read_bytes()[:100])
    bench.index.wheels_sent.clear()
    assert code(read_recipe, folder) == "manifest-missing"
    wheelhouse.fill(bench.store, made, folder)
    assert bench.index.wheels_sent == [torn.name]
    assert read_recipe(folder).lock.versions == made.packages


@pytest.mark.parametrize("harm", ["missing", "altered"])
def test_a_wheelhouse_that_lacks_a_file_or_has_another_installs_nothing(bench, elsewhere, tmp_path, harm):
    """The index that would have it is not asked in secret."""
    folder = tmp_path / "house"
    wheelhouse.fill(bench.store, bench.install(), folder)
    wheel = next(folder.glob("fx_second-*"))
    wheel.unlink()
    if harm == "altered":
        build_wheel(folder, "fx-second", "1.0", source="evil = True\n", requires=["fx-base"])
    bench.index.wheels_sent.clear()
    with pytest.raises(EnvError):
        elsewhere.install(recipe=read_recipe(folder))
    assert elsewhere.store.list() == () and bench.index.wheels_sent == []


def test_a_wheelhouse_is_not_filled_with_wrong_files(bench, tmp_path):
    """Each is checked against the lock, and a wrong one does not stay."""
    made = bench.install()
    build_wheel(bench.wheels, "fx-base", "1.5", source="evil = True\n")
    assert code(wheelhouse.fill, bench.store, made, tmp_path / "house") == "hash-mismatch"
    assert not list((tmp_path / "house").glob("*fx_base*"))
    bench.index.close()
    assert code(wheelhouse.fill, bench.store, made, tmp_path / "other") == "index-unreachable"


def manifest(**changes: object) -> str:
    """A manifest of one package with its hash, with these changes."""
    lock = "fx-first==1.0 \\\n    --hash=sha256:" + "0" * 64 + "\n"
    lock = str(changes.pop("lock", lock))
    data = {
        "fettle": "generation",
        "format": 1,
        "made_for": {"os": "linux", "arch": "x86_64", "accelerator": "cpu", "python": PYTHON_VERSION},
        "lock": lock,
        "lock_sha256": hashlib.sha256(lock.encode()).hexdigest(),
    }
    return json.dumps(data | changes)


HASH = "--hash=sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "manifest-invalid"),
        ("{", "manifest-invalid"),
        ("{" * 5000, "manifest-invalid"),
        ('{"a": ' * 100_000, "manifest-invalid"),
        ("{}", "manifest-invalid"),
        (manifest(format=99), "manifest-newer"),
        (manifest(format="1"), "manifest-invalid"),
        (manifest(lock_sha256="x"), "manifest-invalid"),
        (manifest(lock=5), "manifest-invalid"),
        (manifest(made_for={"os": 5}), "manifest-invalid"),
        (manifest(name=["x"]), "manifest-invalid"),
        ("fx-first==1.0\n", "manifest-invalid"),
        ("fx-first>=1.0 " + HASH, "manifest-invalid"),
        (f"fx-first==1.0 \\\n {HASH}\n--index-url http://evil.example\n", "manifest-invalid"),
        (f"fx-first==1.0 \\\n {HASH}\n-r other.txt\n", "manifest-invalid"),
        (f"fx-first==1.0 \\\n {HASH}\n-e .\n", "manifest-invalid"),
        (f"fx-first @ http://evil.example/x.whl \\\n {HASH}\n", "manifest-invalid"),
        (f"fx-first==1.0 \\\n {HASH}\nfx-first==1.1 \\\n {HASH}\n", "manifest-invalid"),
        (f"fx-first==@evil \\\n {HASH}\n", "manifest-invalid"),
        ('lock-version = "1.0"\npackages = 5\n', "manifest-invalid"),
        ('lock-version = "1.0"\n[[packages]]\nname = "x"\n', "manifest-invalid"),
        ('lock-version = "1.0"\n[[packages]]\nname = "x\\n--index-url http://e"\nversion = "1"\n', "manifest-invalid"),
        ('lock-version = "1.0"\n[[packages]]\nname="x"\nversion="1"\nwheels=[{hashes={md5="0"}}]\n', "manifest-invalid"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_lock_is_refused_with_the_reason(tmp_path, text, expected):
    """Neither options, nor addresses, nor packages without hashes get in."""
    file = tmp_path / "given.txt"
    file.write_text(text, encoding="utf-8")
    assert code(read_recipe, file) == expected


def test_a_file_that_is_not_text_or_not_there_is_refused(tmp_path):
    """Binary, endless, missing."""
    file = tmp_path / "given"
    file.write_bytes(b"\xff\xfe\x00\x01")
    assert code(read_recipe, file) == "manifest-invalid"
    with file.open("wb") as out:
        out.truncate(exchange.MOST_BYTES + 1)
    assert code(read_recipe, file) == "manifest-invalid"
    assert code(read_recipe, tmp_path / "nowhere") == "manifest-missing"


@pytest.mark.parametrize(
    ("made_for", "machine"),
    [
        ({"os": "windows"}, CPU_MACHINE),
        ({"arch": "aarch64"}, CPU_MACHINE),
        ({"accelerator": "cuda"}, CPU_MACHINE),
        ({"accelerator": "mps"}, replace(CPU_MACHINE, accelerator="cuda")),
    ],
)
def test_a_lock_for_another_kind_of_machine_is_refused(tmp_path, made_for, machine):
    """Named before anything is fetched."""
    file = tmp_path / "given.json"
    file.write_text(manifest(made_for=made_for), encoding="utf-8")
    assert code(plan_for, read_recipe(file), machine, small_catalog()) == "manifest-foreign"


def test_a_lock_made_for_the_cpu_is_planned_for_the_cpu_beside_a_gpu(tmp_path):
    """What the lock has decides, not what this machine would choose; one for the same machine is planned as ever."""
    file = tmp_path / "given.json"
    file.write_text(manifest(made_for={"accelerator": "cpu"}), encoding="utf-8")
    gpu = replace(CPU_MACHINE, accelerator="cuda", driver="580.65.06", gpus=(Gpu("GPU", "8.6", None),))
    plan, _ = plan_for(read_recipe(file), gpu, small_catalog())
    assert (plan.accelerator, plan.torch.devices, plan.asked.accelerator) == ("cpu", (), "cpu")
    assert plan_for(read_recipe(file), CPU_MACHINE, small_catalog())[0].asked == Asked()


def test_a_lock_without_any_package_for_training_is_refused(tmp_path):
    """Somebody else's requirements."""
    file = tmp_path / "given.txt"
    file.write_text(f"flask==1.0 \\\n    {HASH}\n", encoding="utf-8")
    assert code(plan_for, read_recipe(file), CPU_MACHINE, small_catalog()) == "manifest-foreign"


def test_an_imported_lock_cannot_break_a_hold(tmp_path):
    """base 2 is not what second is proved with."""
    file = tmp_path / "given.txt"
    file.write_text(f"fx-first==1.0 \\\n    {HASH}\nfx-base==2.0 \\\n    {HASH}\n", encoding="utf-8")
    assert code(plan_for, read_recipe(file), CPU_MACHINE, small_catalog()) in ("lock-drifted", "override-held")


def test_credentials_of_an_index_do_not_leave_with_an_export(bench):
    """Where an index address holds them."""
    made = bench.install()
    pylock = made.folder / "pylock.toml"
    pylock.write_text(pylock.read_text().replace("http://127", "http://user:secret@127"))
    assert "secret" not in export(made, "pylock") and "127" in export(made, "pylock")
    assert all("secret" not in export(made, format) for format in FORMATS)


@pytest.mark.parametrize("format", FORMATS)
def test_an_altered_lock_is_not_exported(bench, format):
    """What leaves is what was proved."""
    made = bench.install()
    (made.folder / "requirements.lock").write_text("altered")
    assert code(export, made, format) == "lock-damaged"


def test_the_versions_of_another_environment_are_adopted(bench, elsewhere):
    """Listed packages are pinned to what is there, pulled-in ones follow, and holds still count."""
    made = bench.install(overrides={"fx-first": "1.1", "fx-base": "1.0"})
    python, packages = look(made.env)
    assert python == PYTHON_VERSION and packages == made.packages
    taken = adoption(python, packages, small_catalog())
    assert taken.pinned == {"fx-first": "1.1", "fx-second": "1.0", "fx-third": "1.0"}
    assert taken.preferred == {"fx-base": "1.0"}
    again = elsewhere.install(overrides=taken.pinned, preferred=taken.preferred)
    assert again.packages == made.packages


def test_what_must_not_be_adopted_is_named_with_the_reason():
    """A version beyond a hold, and one that no index could have."""
    taken = adoption("3.11", {"fx-first": "1.0+cu130", "fx-base": "2.0", "own": "unknown"}, small_catalog())
    assert taken.pinned == {"fx-first": "1.0"}
    assert set(taken.refused) == {"fx-base", "own"} and "fx-base<2" in taken.refused["fx-base"]


def test_pulled_in_versions_that_no_longer_fit_do_not_stop_an_adoption(bench, recorder):
    """They are left to the index, and the log says so."""
    made = bench.install(preferred={"fx-base": "0.1"}, report=recorder)
    assert made.packages["fx-base"] == "1.5"
    assert any("left to the index" in line for line in recorder.lines)


def test_a_preferred_version_is_no_reason_to_install_a_package(bench):
    """The old environment's other packages stay where they are."""
    build_wheel(bench.wheels, "fx-extra", "1.0")
    assert "fx-extra" not in bench.install(preferred={"fx-extra": "1.0"}).packages


def test_only_a_python_with_training_packages_is_adopted(tmp_path):
    """A missing file, a file that is no Python, a Python without anything."""
    assert code(look, tmp_path / "nowhere") == "python-unusable"
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho nonsense\n")
    broken.chmod(0o755)
    assert code(look, broken) == "python-unusable"
    python, packages = look(Path(sys.executable))
    assert code(adoption, python, packages, small_catalog()) == "nothing-to-adopt"


def test_a_pylock_tells_nobody_needs_and_still_installs_in_order(bench, elsewhere, tmp_path):
    """What an earlier step needs and a later one lists comes with the earlier; the next export knows it too."""
    build_wheel(bench.wheels, "fx-second", "1.1", requires=["fx-base", "fx-third"], source="import fx_base, fx_third\n")
    file = tmp_path / "pylock.toml"
    file.write_text(export(bench.install(overrides={"fx-second": "1.1"}), "pylock"), encoding="utf-8")
    again = elsewhere.install(recipe=read_recipe(file))
    assert {each["id"]: list(each["packages"]) for each in again.steps} == {
        "first": ["fx-first==1.0"],
        "second": ["fx-base==1.5", "fx-second==1.1", "fx-third==1.0"],
        "third": [],
    }
    file.write_text(export(again, "json"), encoding="utf-8")
    assert {each.name: each.needed_by for each in read_recipe(file).lock.packages}["fx-third"] == {"fx-second"}


def test_a_device_that_never_ends_is_not_read_to_the_end(tmp_path):
    """It tells no size; a file of more than any list of packages is refused after that much."""
    endless = Path("/dev/zero")
    if not endless.exists():
        endless = tmp_path / "endless"
        endless.write_bytes(b"\0" * (exchange.MOST_BYTES + 1))
    assert code(read_recipe, endless) == "manifest-invalid"


@pytest.mark.parametrize("name", ["x @ http://127.0.0.1:9/x.whl", "../x", "--index-url http://x", "x\n-r y", ""])
def test_a_name_that_means_something_to_a_resolver_is_no_package(bench, name):
    """Neither one given by hand nor one that a foreign environment claims."""
    assert code(bench.install, overrides={name: "1.0"}) == "override-invalid"
    taken = adoption(PYTHON_VERSION, {"fx-first": "1.0", name: "1.0"}, small_catalog())
    assert taken.pinned == {"fx-first": "1.0"} and taken.preferred == {} and len(taken.refused) == 1
