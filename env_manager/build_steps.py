"""Installs the steps of a plan from the lock, each followed by its probe."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from env_manager import verify
from env_manager.errors import EnvError, InstallStopped
from env_manager.preflight import Check, probe, probes_for
from env_manager.progress import Reporter, StepProgress
from env_manager.resolve import StepInstall
from env_manager.uv import Uv
from env_manager.watch import StepWatch
from env_manager.wheels import WheelSize


class StepRunner:
    """Runs steps in order in one environment and reports each as it goes."""

    def __init__(
        self,
        uv: Uv,
        python: Path,
        folder: Path,
        report: Reporter,
        sizes: Mapping[str, WheelSize],
        index_arguments: Sequence[str] = (),
    ) -> None:
        self.uv = uv
        self.python = python
        self.folder = folder
        self.report = report
        self.sizes = sizes
        self.index_arguments = list(index_arguments)
        self.before_probe: Callable[[], object] = lambda: None
        # Findings that count without probing; empty where there are none.
        self.proved: Sequence[Check] = ()

    def run_all(self, installs: Sequence[StepInstall]) -> list[dict[str, Any]]:
        """Install and probe every step; a failing step ends it unless the step is optional."""
        (self.folder / "steps").mkdir()
        for install in installs:
            self.report.step(self._waiting(install))
        return [self._run(install).as_json() for install in installs]

    def _sizes_of(self, install: StepInstall) -> dict[str, int | None]:
        unknown = WheelSize(None, None)
        return {package.name: self.sizes.get(package.name, unknown).unpacked for package in install.packages}

    def _waiting(self, install: StepInstall) -> StepProgress:
        step = install.step
        packages = tuple(f"{package.name}=={package.version}" for package in install.packages)
        known = [size for size in self._sizes_of(install).values() if size is not None]
        total = sum(known) if len(known) == len(packages) else None
        if not step.requirements:
            reason = "Nothing of this step is for this machine."
            return StepProgress(step.id, step.title, "skipped", 0, 0, reason=reason)
        return StepProgress(step.id, step.title, "waiting", 0, total, packages=packages)

    def _run(self, install: StepInstall) -> StepProgress:
        waiting = self._waiting(install)
        if waiting.state == "skipped":
            return waiting
        self.uv.log(f"== step {install.step.id}: {install.step.title}")
        watch = StepWatch(waiting, self._sizes_of(install), self.uv.cache, self.folder / "env", self.report)
        try:
            self._install(install, watch)
            findings = self._probe(install, watch)
        except InstallStopped:
            raise
        except EnvError as error:
            return self._failed(install, watch, error)
        broken = [check for check in findings if not check.ok]
        if broken:
            return self._failed(install, watch, _probe_failed(install, broken[0]))
        return watch.end("done", probe="; ".join(check.evidence for check in findings))

    def _install(self, install: StepInstall, watch: StepWatch) -> None:
        if not install.packages:
            return
        file = Path("steps") / f"{install.step.id}.txt"
        text = "\n".join(package.as_requirement() for package in install.packages)
        (self.folder / file).write_text(text + "\n", encoding="utf-8")
        # Only what the lock names, each file checked against its hash: no step can move another's versions.
        self.uv.run(
            ["pip", "install", "--python", str(self.python), "--no-deps", "--require-hashes"]
            + ["--only-binary", ":all:", "--requirements", str(file), *self.index_arguments],
            cwd=self.folder,
            on_tick=watch.tick,
        )

    def _probe(self, install: StepInstall, watch: StepWatch) -> list[Check]:
        names = probes_for(list(verify.installed(self.folder / "env")), install.step.probe)
        self.before_probe()
        if self.proved:
            return [check for check in self.proved if check.name in names]
        return probe(self.python, names, cancelled=self.uv.cancelled, log=self.uv.log, on_tick=watch.tick)

    def _failed(self, install: StepInstall, watch: StepWatch, error: EnvError) -> StepProgress:
        failed = watch.end("failed", reason=error.message)
        if not install.step.optional:
            raise error
        return failed


def _probe_failed(install: StepInstall, check: Check) -> EnvError:
    return EnvError(
        "probe-failed",
        f"{install.step.title} was installed but {check.name} does not work: {check.evidence}",
        "The active environment was not touched. Read the installation log, then try again.",
    )
