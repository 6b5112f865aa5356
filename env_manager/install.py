"""The whole story of an installation.

A generation is built in a folder of its own, proved, made durable and renamed; only then does the
pointer move. Until that moment the active environment is exactly as it was, whatever happens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from env_manager.assemble import assemble
from env_manager.build import Build, building, proving
from env_manager.errors import EnvError, UvFailed
from env_manager.fetching.large import WHEELS, collect_wheels
from env_manager.generations import Generation, Store
from env_manager.hardware import Hardware, detect
from env_manager.keeping.disk import require_space
from env_manager.planning.catalog import Catalog
from env_manager.planning.catalog_file import load_catalog
from env_manager.planning.locking import Request, lock_for, measure
from env_manager.planning.resolve import is_impossible
from env_manager.planning.torch_index import Asked
from env_manager.progress import Reporter
from env_manager.proving.proof import find_proof
from env_manager.sharing.exchange import Recipe


def install(
    store: Store,
    *,
    report: Reporter,
    cancelled: Callable[[], bool],
    overrides: Mapping[str, str] | None = None,
    allow_large: bool = False,
    name: str | None = None,
    catalog: Catalog | None = None,
    hardware: Hardware | None = None,
    asked: Asked = Asked(),
    recipe: Recipe | None = None,
    preferred: Mapping[str, str] | None = None,
) -> Generation:
    """Install everything for this machine into a new generation, prove it and make it the active one.

    A `recipe` brings a lock from elsewhere in place of a resolve; `preferred` versions are taken
    for packages that turn out to be needed and are no reason to install one.

    Raises an EnvError whose code says what went wrong; `InstallStopped` after a cancellation. In
    every such case the active environment is untouched and the build folder is gone.
    """
    report.phase("lock", "Making sure that no other installation runs")
    with store.install_lock():
        store.remove_leftovers()
        report.phase("detect", "Looking at this machine")
        hardware = hardware or detect(store.root)
        catalog = catalog or load_catalog()
        request = Request(overrides or {}, allow_large, name, asked, recipe, preferred or {})
        with building(store, report, cancelled) as build:
            made = _build_or_again(build, hardware, catalog, request)
        if isinstance(made, Request):
            with building(store, report, cancelled) as build:
                made = _build(build, hardware, catalog, made)
        report.phase("activate", "Making it the active environment")
        store.point_to(made.id, "install")
        collect_wheels(store.root / WHEELS, store.envs)
        return made


def _build_or_again(build: Build, hardware: Hardware, catalog: Catalog, request: Request) -> Generation | Request:
    """Build; or what to build instead, where the cache or an earlier lock let the first attempt down."""
    try:
        return _build(build, hardware, catalog, request)
    except UvFailed as error:
        if build.lock_taken_from is None or not (is_impossible(error) or error.code == "hash-mismatch"):
            raise
        build.uv.log(f"{error.message} The lock of {build.lock_taken_from} is out of date: finding versions anew.")
        return replace(request, anew=True)
    except EnvError as error:
        if error.code != "environment-torn":
            raise
        build.uv.log(f"{error.message} Fetching those packages again.")
        return request


def _build(build: Build, hardware: Hardware, catalog: Catalog, request: Request) -> Generation:
    recipe = request.recipe
    pythons = (recipe.origin.python,) if recipe and recipe.origin.python else catalog.python
    interpreter = build.make_environment(pythons)
    locked = lock_for(build, hardware, catalog, request, interpreter.version)
    plan, lock = locked.plan, locked.lock
    sizes, large = build.or_from_cache(lambda: measure(build, plan, catalog))
    build.phase("disk", "Checking the free space")
    estimate = build.bytes_needed(lock, sizes) + large.room_needed(lock.packages)
    require_space(build.store.envs, estimate)

    probes = proving(plan, lock)
    proof = find_proof(build.store, lock.sha256, hardware.as_json(), interpreter.path, probes, plan.torch.devices)
    if proof.source:
        build.uv.log(f"proved in {proof.source}: the same lock, machine and interpreter; nothing is probed again")
    return assemble(
        build,
        interpreter,
        plan,
        lock,
        sizes=sizes,
        large=large,
        proof=proof,
        name=request.name or (recipe.name if recipe else None),
        hardware=hardware.as_json(),
        decided_by=locked.decided_by,
        bytes_estimated=estimate,
    )
