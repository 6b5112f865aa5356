"""Newer versions, what holds them back, floors, and locks for other machines, against a small index."""

from __future__ import annotations

import pytest
from generation_bench import code
from small_index import CPU_MACHINE, PYTHON_VERSION, build_wheel, catalog_data, small_catalog

from env_manager.errors import EnvError
from env_manager.planning.age import Cap, capping, far_behind, is_far, refuse_below_floors
from env_manager.planning.catalog import Catalog
from env_manager.planning.catalog_file import BUNDLED, load_catalog, parse_catalog
from env_manager.sharing.cross_lock import cross_lock, target_hardware
from env_manager.sharing.exchange import read_recipe
from env_manager.sharing.update import preview_update, require_change

SHIPPED = load_catalog()
OTHER_PYTHON = "3.12" if PYTHON_VERSION != "3.12" else "3.11"


def catalog(**more: object) -> Catalog:
    return parse_catalog(catalog_data() | more)


@pytest.mark.env
def test_a_preview_tells_what_would_change_and_changes_nothing(bench):
    """first has a 1.1; base stays within its hold, which is named as the reason."""
    made = bench.install(overrides={"fx-base": "1.0"})
    found = preview_update(bench.store, CPU_MACHINE, small_catalog())
    assert [(each.name, each.before, each.after) for each in found.changed] == [
        ("fx-base", "1.0", "1.5"),
        ("fx-first", "1.0", "1.1"),
    ]
    assert found.before == made.id and found.pinned == {"fx-first": "1.1"}
    assert bench.store.active_id() == made.id and len(bench.store.list()) == 1


@pytest.mark.env
def test_the_package_that_caps_another_is_named(bench):
    """second 1.2 exists, but third allows only second 1.1; base 2 is held."""
    build_wheel(bench.wheels, "fx-second", "1.1", requires=["fx-base"])
    build_wheel(bench.wheels, "fx-second", "1.2", requires=["fx-base"])
    build_wheel(bench.wheels, "fx-third", "1.0", requires=["fx-second<1.2"])
    found = preview_update(bench.store, CPU_MACHINE, catalog(newest={"fx-base": "2.0"}))
    by_name = {cap.name: cap for cap in found.capped}
    assert by_name["fx-second"] == Cap("fx-second", "1.1", "1.2", ("fx-third 1.0",))
    assert by_name["fx-base"].by == () and "fx-base<2 is held" in by_name["fx-base"].reason


@pytest.mark.env
def test_what_a_preview_shows_is_what_an_update_installs(bench):
    """The same versions, in a new generation beside the old one."""
    bench.install(overrides={"fx-base": "1.0"})
    found = preview_update(bench.store, CPU_MACHINE, small_catalog())
    again = bench.install(overrides=found.pinned, preferred=found.versions)
    assert again.packages == found.versions
    assert code(require_change, preview_update(bench.store, CPU_MACHINE, small_catalog())) == "nothing-to-update"


@pytest.mark.env
def test_a_resolve_below_a_floor_is_refused(bench):
    """Asked for by an override, or because nothing newer is on the index."""
    floors = [{"requirement": "fx-base>=1.2", "reason": "Tests need it."}]
    assert code(bench.install, catalog=catalog(floors=floors), overrides={"fx-base": "1.0"}) == "below-floor"
    for wheel in bench.wheels.glob("fx_base-[12].[05]*"):
        wheel.unlink()
    build_wheel(bench.wheels, "fx-base", "0.9")
    bench.store.cache.mkdir(parents=True, exist_ok=True)
    assert code(bench.install, catalog=catalog(floors=floors)) == "below-floor"
    assert bench.store.list() == ()


@pytest.mark.env
def test_a_resolve_far_behind_says_who_holds_it_there(bench, recorder):
    """base 3 was newest when the catalog was made; second allows only base 1."""
    build_wheel(bench.wheels, "fx-base", "3.0")
    build_wheel(bench.wheels, "fx-second", "1.0", requires=["fx-base<1.6"], source="import fx_base\n")
    made = bench.install(catalog=catalog(holds=[], newest={"fx-base": "3.0"}), report=recorder)
    note = "fx-base 1.5 is far behind 3.0: held back by fx-second 1.0 (newest on 2026-01-01)."
    assert bench.store.get(made.id).plan["notes"] == [note]
    assert any(note in line for line in recorder.lines)


@pytest.mark.env
def test_nothing_is_said_of_what_is_not_far_behind(bench):
    """A minor release back, or what the catalog itself pins."""
    made = bench.install(catalog=catalog(newest={"fx-base": "1.7", "fx-first": "9.0"}))
    assert not made.plan["notes"]


@pytest.mark.env
def test_a_lock_for_another_system_is_made_of_its_wheels(bench, tmp_path):
    """Each gets the wheel of its platform and Python, with its hash, and the file is one that imports."""
    tags = {
        ("linux", "cpu"): "manylinux_2_28_x86_64",
        ("windows", "cpu"): "win_amd64",
        ("macos", "mps"): "macosx_14_0_arm64",
    }
    release = f"cp{OTHER_PYTHON.replace('.', '')}"
    for number, tag in enumerate(tags.values()):
        build_wheel(bench.wheels, "fx-first", "1.0", tag=f"{release}-{release}-{tag}", payload=100 + number)
    (bench.wheels / "fx_first-1.0-py3-none-any.whl").unlink()
    both = catalog(python=[PYTHON_VERSION, OTHER_PYTHON])
    for (system, accelerator), tag in tags.items():
        found = cross_lock(bench.store, system, accelerator, OTHER_PYTHON, both)
        assert found.lock.versions["fx-first"] == "1.0", tag
        assert all(package.hashes for package in found.lock.packages)
        file = tmp_path / f"{system}.txt"
        file.write_text(found.text, encoding="utf-8")
        origin = read_recipe(file).origin
        assert (origin.os, origin.python, origin.accelerator) == (system, OTHER_PYTHON, accelerator)


@pytest.mark.env
def test_a_lock_that_no_index_can_give_is_refused_not_made_up(bench):
    """A wheel for Linux only."""
    (bench.wheels / "fx_first-1.0-py3-none-any.whl").unlink()
    build_wheel(bench.wheels, "fx-first", "1.0", tag="cp311-cp311-manylinux_2_28_x86_64")
    with pytest.raises(EnvError) as caught:
        cross_lock(bench.store, "windows", "cpu", PYTHON_VERSION, small_catalog())
    assert caught.value.code in ("resolve-impossible", "package-missing")
    assert "fx-first" in caught.value.message


@pytest.mark.parametrize(
    ("system", "accelerator"),
    [("macos", "cuda"), ("linux", "mps"), ("windows", "mps"), ("plan9", "cpu"), ("linux", "")],
)
def test_a_machine_that_does_not_exist_is_refused(system, accelerator):
    """With the pairs that do."""
    assert code(target_hardware, system, accelerator) == "target-impossible"


def test_a_python_that_the_stack_is_not_made_for_is_refused(tmp_path):
    """Before anything is looked up."""
    from env_manager.generations import Store

    assert code(cross_lock, Store(tmp_path), "linux", "cpu", "3.14", SHIPPED) == "target-impossible"


@pytest.mark.parametrize(
    ("version", "newest", "far"),
    [
        ("2025.9.5", "2026.10.9", True),
        ("1.26.4", "2.4.6", True),
        ("5.17.0", "5.23.0", True),
        ("5.19.0", "5.23.0", False),
        ("2.13.0+cpu", "2.15.0", False),
        ("0.50.2", "0.50.2", False),
        ("3.0", "2.9", False),
        ("2", "2.4", False),
    ],
)
def test_far_is_a_major_release_or_five_minor_ones(version, newest, far):
    """As silent time travel looks: unsloth of a year ago beside the newest torch."""
    assert is_far(version, newest) == far


def test_the_shipped_catalog_has_floors_and_newest_releases_that_agree_with_its_pins():
    """No pin lies below its floor or above the newest, and what it holds back is known to be so."""
    pins = {package.name: package.version for step in SHIPPED.steps for package in step.packages}
    refuse_below_floors(pins, SHIPPED)
    newest = dict(SHIPPED.newest)
    assert len(SHIPPED.floors) >= 8 and {floor.name for floor in SHIPPED.floors} <= set(newest) | set(pins)
    assert [name for name, version in pins.items() if name in newest and is_far(newest[name], version)] == []
    assert far_behind(pins, SHIPPED) == []
    old = pins | {"unsloth": "2025.9.5"}
    assert code(refuse_below_floors, old, SHIPPED) == "below-floor"
    assert [cap.name for cap in far_behind(old, SHIPPED)] == ["unsloth"]


@pytest.mark.parametrize(
    "edit",
    [
        {"floors": [{"requirement": "fx-first>=2", "reason": "x"}]},
        {"floors": [{"requirement": "fx-first>2", "reason": "x"}]},
        {"floors": [{"requirement": "fx-first>=1"}]},
        {"floors": [{"requirement": "a>=1", "reason": "x"}, {"requirement": "a>=2", "reason": "y"}]},
        {"newest": []},
        {"newest": {"a": 1}},
        {"newest": {"A b": "1"}},
    ],
)
def test_floors_and_newest_that_cannot_be_are_refused(edit):
    """A pin below its floor, another sign, no reason, twice, other kinds."""
    assert code(parse_catalog, catalog_data() | edit, BUNDLED) == "catalog-invalid"


EXPLANATIONS = [
    (
        """cause: Because unsloth==2026.10.7 depends on one of:
             transformers>=4.52.4,<4.53.0
             transformers>5.1.0,<=5.17.0
         and you require unsloth==2026.10.7, we can conclude that you require one of:
             transformers>=4.52.4,<4.53.0
         And because you require transformers==5.23.0, we can conclude that your requirements are unsatisfiable.""",
        "transformers",
        ("unsloth",),
    ),
    (
        """cause: Because transformers==5.17.0 depends on huggingface-hub>=1.5.0,<2.0 and you require
        transformers==5.17.0, we can conclude that you require huggingface-hub>=1.5.0,<2.0.
        And because you require huggingface-hub==2.4.0, we can conclude that your requirements are unsatisfiable.""",
        "huggingface-hub",
        ("transformers",),
    ),
    (
        """cause: Because trl==1.15.0 depends on transformers>=4.56,<5.18 and peft>=0.21.2 depends on transformers,
        we can conclude that transformers==5.23.0 cannot be used.""",
        "transformers",
        ("trl",),
    ),
    (
        "cause: Because you require numpy==2.4.6 and numpy<2, we can conclude that ...",
        "numpy",
        ("the planned numpy<2",),
    ),
    ("something that no version of uv says", "numpy", ()),
]


@pytest.mark.parametrize(("output", "name", "expected"), EXPLANATIONS)
def test_who_caps_is_read_from_what_uv_explains(output, name, expected):
    """As uv 0.13 said it; what is not understood names nobody."""
    assert capping(output, name) == expected
