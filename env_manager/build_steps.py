"""Installs the steps of a plan from the lock, each followed by its probe."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from env_manager.errors import EnvError, InstallStopped, UvFailed
from env_manager.fetching.large import LargeWheels
from env_manager.fetching.watch import StepWatch
from env_manager.fetching.wheels import WheelSize
from env_manager.planning.resolve import Locked, StepInstall, is_impossible
from env_manager.progress import Reporter, StepProgress
from env_manager.proving import verify
from env_manager.proving.preflight import Check, probe, probes_for
from env_manager.proving.startup import owned, startup_files
from env_manager.uv import Uv


@dataclass
class StepRunner:
    """Runs steps in order in one environment and reports each as it goes.

    `before_probe` is called once a step's packages are there; `proved` has findings that count
    without probing, and is empty where there are none. `refuse_torn` is called where a probe fails: a
    package of which the cache had only a part is to be fetched anew, not to be called broken.
    """

    uv: Uv
    python: Path
    folder: Path
    report: Reporter
    sizes: Mapping[str, WheelSize]
    large: LargeWheels
    index_arguments: Sequence[str] = ()
    environ: Mapping[str, str] = field(default_factory=dict)
    before_probe: Callable[[], object] = lambda: None
    proved: Sequence[Check] = ()
    refuse_torn: Callable[[], None] = lambda: None
    _startup_told: set[str] = field(default_factory=set)
    _apart: Mapping[str, Sequence[Locked]] = field(default_factory=dict)  # the packages of each step
    _brings: Mapping[str, Sequence[Locked]] = field(default_factory=dict)  # those that are installed in its turn

    def run_all(self, installs: Sequence[StepInstall]) -> list[dict[str, Any]]:
        """Install and probe every step; a failing step ends it unless the step is optional."""
        (self.folder / "steps").mkdir()
        for install in installs:
            self.report.step(self._waiting(install))
        self._apart = {install.step.id: install.packages for install in installs if install.packages}
        self._brings = self._together(self._apart) if self.proved else self._apart
        return [self._run(install).as_json() for install in installs]

    def _together(self, apart: Mapping[str, Sequence[Locked]]) -> Mapping[str, Sequence[Locked]]:
        """Everything in the first step's turn, where nothing is to be fetched or probed in between: one uv is faster than six."""
        everything = [package for packages in apart.values() for package in packages]
        if any(size != 0 for size in self.large.network_bytes(everything).values()):
            return apart
        return {next(iter(apart)): everything} if apart else apart

    def _waiting(self, install: StepInstall) -> StepProgress:
        step = install.step
        packages = tuple(f"{package.name}=={package.version}" for package in install.packages)
        if not step.requirements:
            reason = "Nothing of this step is for this machine."
            return StepProgress(step.id, step.title, "skipped", 0, 0, reason=reason)
        sizes = self.large.network_bytes(install.packages).values()
        known = [size for size in sizes if size is not None]
        total = sum(known) if len(known) == len(sizes) else None
        return StepProgress(step.id, step.title, "waiting", 0, total, packages=packages)

    def _run(self, install: StepInstall) -> StepProgress:
        waiting = self._waiting(install)
        if waiting.state == "skipped":
            return waiting
        self.uv.log(f"== step {install.step.id}: {install.step.title}")
        to_come = self.large.network_bytes(install.packages)
        watch = StepWatch(waiting, to_come, self.sizes, self.uv.cache, self.report)
        try:
            self._install(install, watch)
            self._tell_startup_code()
            findings = self._probe(install, watch)
        except InstallStopped:
            raise
        except EnvError as error:
            return self._failed(install, watch, error)
        broken = [check for check in findings if not check.ok]
        if broken:
            self.refuse_torn()
            return self._failed(install, watch, _probe_failed(install, broken[0]))
        return watch.end("done", probe="; ".join(check.evidence for check in findings))

    def _tell_startup_code(self) -> None:
        # Here, because the next Python that starts in the environment runs it.
        env = self.folder / "env"
        new = [path for path in startup_files(env) if path not in self._startup_told]
        self._startup_told.update(new)
        for path, owner in owned(env, new).items():
            self.uv.log(f"note: {owner or 'somebody'} brings code that runs whenever Python starts: {path}")

    def _install(self, install: StepInstall, watch: StepWatch) -> None:
        packages = self._brings.get(install.step.id, ())
        try:
            self._install_packages(install.step.id, packages, watch)
        except UvFailed as error:
            if self._brings is self._apart:
                raise
            self.uv.log(f"{error.message} Going on step by step.")
            self._brings = self._apart
            self._install(install, watch)

    def _install_packages(self, name: str, packages: Sequence[Locked], watch: StepWatch) -> None:
        here = self._install_large(name, packages, watch)
        rest = [package for package in packages if package.name not in here]
        if rest:
            self._run_uv(name, rest, self.index_arguments, watch)

    def _install_large(self, name: str, packages: Sequence[Locked], watch: StepWatch) -> Collection[str]:
        """Install those with large wheels from files of ours; the names of those packages."""
        files = self.large.bring(packages, watch)
        try:
            self._install_files(name, packages, files, watch)
        except UvFailed as error:
            if is_impossible(error):
                self.uv.log(f"{error.message} Leaving the choice of the file to uv.")
                return ()
            damaged = self.large.discard_damaged(files)
            if not damaged:
                raise
            self.uv.log(f"damaged on the disk since its hash was checked: {', '.join(damaged)}")
            files = self.large.bring(packages, watch)
            self._install_files(name, packages, files, watch)
        return files

    def _install_files(
        self, name: str, packages: Sequence[Locked], files: Mapping[str, Path], watch: StepWatch
    ) -> None:
        ours = [package for package in packages if package.name in files]
        if ours:
            # A folder of links and not a path in the requirement, which would leave our path in the environment.
            folders = [argument for file in files.values() for argument in ("--find-links", file.parent.as_uri())]
            self._run_uv(f"{name}-large", ours, ["--no-index", *folders], watch)

    def _run_uv(self, name: str, packages: Sequence[Locked], source: Sequence[str], watch: StepWatch) -> None:
        file = Path("steps") / f"{name}.txt"
        text = "\n".join(package.as_requirement() for package in packages)
        (self.folder / file).write_text(text + "\n", encoding="utf-8")
        site = verify.site_packages(self.folder / "env")
        before = frozenset(os.listdir(site))
        # Only what the lock names, each file checked against its hash: no step can move another's versions.
        self.uv.run(
            ["pip", "install", "--python", str(self.python), "--no-deps", "--require-hashes"]
            + ["--only-binary", ":all:", "--requirements", str(file), *source],
            cwd=self.folder,
            on_tick=watch.tick,
            undo=lambda: _remove_all_but(before, site),
        )

    def _probe(self, install: StepInstall, watch: StepWatch) -> list[Check]:
        names = probes_for(list(verify.installed(self.folder / "env")), install.step.probe)
        self.before_probe()
        if self.proved:
            return [check for check in self.proved if check.name in names]
        return probe(
            self.python,
            names,
            cancelled=self.uv.cancelled,
            log=self.uv.log,
            on_tick=watch.tick,
            environ=self.environ,
        )

    def _failed(self, install: StepInstall, watch: StepWatch, error: EnvError) -> StepProgress:
        failed = watch.end("failed", reason=error.message)
        if not install.step.optional:
            raise error
        return failed


def _remove_all_but(before: Collection[str], site: Path) -> None:
    """Remove what a failed uv has half laid down: the next one would take it for installed.

    Inside a folder that was there before, as that of a namespace, what is new stays and is laid over.
    """
    for path in site.iterdir():
        if path.name in before:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _probe_failed(install: StepInstall, check: Check) -> EnvError:
    return EnvError(
        "probe-failed",
        f"{install.step.title} was installed but {check.name} does not work: {check.evidence}",
        "The active environment was not touched. Read the installation log, then try again.",
    )
