"""The app works where torch is absent or broken: it never imports it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

MODULES = "app.cli app.server app.window app.demo app.doctor app.installing app.api.openapi env_manager.install"


@pytest.mark.parametrize("package", ["torch", "transformers", "numpy", "peft"])
def test_every_module_of_the_app_imports_beside_a_broken_library(tmp_path: Path, package: str) -> None:
    broken = tmp_path / package
    broken.mkdir()
    (broken / "__init__.py").write_text(f"raise OSError('{package}: a shared library is broken')")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
    code += "".join(f"import {module}\n" for module in MODULES.split())
    code += f"assert {package!r} not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0, done.stderr
