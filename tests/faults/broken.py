"""A copy of a real environment that can be broken in real ways."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

from env_manager.diagnosing.diagnosis import Finding, diagnose
from env_manager.generations import MANIFEST, Generation
from env_manager.proving.file_record import RECORD_NAME, take_record
from env_manager.proving.verify import site_packages
from env_manager.uv import clean_environment, find_uv

# Answers whichever fields it is asked for, as the real one does.
SMI = """#!/bin/sh
for word in "$@"; do case "$word" in --query-gpu=*) asked=${{word#--query-gpu=}} ;; esac; done
[ -n "$asked" ] || {{ echo "| NVIDIA-SMI {driver}   Driver Version: {driver}   CUDA Version: 12.4 |"; exit; }}
line=
for field in $(echo "$asked" | tr , ' '); do
  case "$field" in
    name) cell="{name}" ;;
    uuid) cell=GPU-3f2a1b0c-9d8e-7f60-5a4b-3c2d1e0f9a8b ;;
    compute_cap) cell={capability} ;;
    driver_version) cell={driver} ;;
    memory.*) cell=24564 ;;
  esac
  line="${{line:+$line, }}$cell"
done
echo "$line"
"""


class Quiet:
    """A reporter for installations that are not what a test is about."""

    def phase(self, name: str, text: str) -> None:
        """Nothing is told."""

    def step(self, progress: object) -> None:
        """Nothing is told."""

    def log(self, line: str) -> None:
        """Nothing is told."""


@dataclass
class Broken:
    """A copy of a good generation, its files hard links to the good one's until they are rewritten."""

    generation: Generation
    scratch: Path
    probes: list[str] = field(default_factory=list)
    timeout: float = 120.0
    variables: dict[str, str] = field(default_factory=dict)

    @classmethod
    def copy(cls, good: Generation, folder: Path) -> Broken:
        shutil.copytree(good.folder, folder, symlinks=True, copy_function=os.link)
        generation = replace(good, id=folder.name, folder=folder)
        (folder / MANIFEST).unlink()
        (folder / MANIFEST).write_text(json.dumps(generation.record()))
        scratch = folder / "scratch"
        scratch.mkdir()
        return cls(generation, scratch)

    @property
    def env(self) -> Path:
        return self.generation.env

    def file(self, path: str) -> Path:
        """One file below site-packages; `*` stands for what differs between versions."""
        (found,) = site_packages(self.env).glob(path)
        return found

    def rewrite(self, path: str, data: bytes | str) -> None:
        """Give a file another content without touching the good environment's."""
        file = self.file(path)
        file.unlink()
        file.write_bytes(data.encode() if isinstance(data, str) else data)

    def overwrite(self, path: str, data: bytes, at: int = 0) -> None:
        """Change bytes inside a file, its size and times staying as they were."""
        file = self.file(path)
        status, old = file.stat(), bytearray(file.read_bytes())
        old[at : at + len(data)] = data
        self.rewrite(path, bytes(old[: status.st_size]))
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))

    def cut(self, path: str, share: float) -> None:
        data = self.file(path).read_bytes()
        self.rewrite(path, data[: int(len(data) * share)])

    def remove(self, path: str) -> None:
        file = self.file(path)
        shutil.rmtree(file) if file.is_dir() else file.unlink()

    def pip(self, *arguments: str) -> None:
        """Install into the environment from outside, as users do."""
        argv = [find_uv(), "pip", "install", "--python", str(self.generation.python), "--no-deps", "--quiet"]
        done = subprocess.run(
            [*argv, "--only-binary", ":all:", *arguments],
            env=clean_environment() | {"UV_LINK_MODE": "copy"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr

    def uninstall(self, name: str) -> None:
        argv = [find_uv(), "pip", "uninstall", "--python", str(self.generation.python), "--quiet", name]
        subprocess.run(argv, env=clean_environment(), check=True, capture_output=True)

    def as_built(self) -> None:
        """Take the record anew: what is there counts as what was built, so that only its effect shows."""
        record = self.generation.folder / RECORD_NAME
        record.unlink()  # still the good environment's, by hard link
        take_record(self.env, record)

    def record(self, **changes: Any) -> None:
        self.generation = replace(self.generation, **changes)

    def python_is(self, target: str | None) -> None:
        link = self.env / "bin/python"
        link.unlink()
        if target:
            link.symlink_to(target)

    def planned_for_cuda(self, built: str | None = "13.0") -> None:
        """As if this had been planned for an NVIDIA GPU; `built` is the CUDA that torch claims."""
        plan = self.generation.plan
        needs = {
            "driver": "580",
            "sm": ["7.5", "8.0", "8.6", "9.0", "10.0", "12.0"],
        }  # as a plan for cu130 records them
        torch = plan["torch"] | {"build": "cu130", "local": "", "index_url": None, "accelerator": "cuda"} | needs
        self.record(
            plan=plan | {"accelerator": "cuda", "torch": torch},
            packages=self.generation.packages | {"torch": self.generation.packages["torch"].partition("+")[0]},
        )
        if built:
            text = self.file("torch/version.py").read_text()
            text = text.replace("cuda: Optional[str] = None", f"cuda: Optional[str] = {built!r}")
            text = text.replace("cuda = None", f"cuda = {built!r}")
            assert built in text
            self.rewrite("torch/version.py", text)
            self.as_built()

    def driver(self, driver: str, capability: str, name: str = "NVIDIA GeForce") -> None:
        """Put an nvidia-smi on the path that tells this."""
        self.smi(SMI.format(driver=driver, capability=capability, name=name))

    def smi(self, script: str) -> None:
        (self.scratch / "nvidia-smi").write_text(script)
        (self.scratch / "nvidia-smi").chmod(0o755)

    def diagnose(self) -> list[Finding]:
        path = f"{self.scratch}{os.pathsep}{os.environ['PATH']}"
        with patch.dict(os.environ, self.variables | {"PATH": path}):
            return diagnose(self.generation, more=self.probes, timeout=self.timeout)
