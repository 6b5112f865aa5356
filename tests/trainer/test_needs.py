"""Which runs load bitsandbytes: those that use it, and those of which nobody can tell."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainer.needs import needs_bitsandbytes
from trainer.spec import RunSpec
from trainer.starter import skills

STARTER = Path(skills.__file__).parent / "model"


@pytest.mark.parametrize(
    ("changes", "needed"),
    [
        ({}, False),
        ({"optimizer.kind": "adamw-fused"}, False),
        ({"quantise": "8bit"}, True),
        ({"optimizer.kind": "adamw-8bit-paged"}, True),
        ({"trust_code": "0" * 64}, True),
        ({"model": "hub:owner/that-is-not-here"}, True),
    ],
)
def test_what_a_run_asks_for_decides(changes: dict[str, object], needed: bool) -> None:
    assert needs_bitsandbytes(RunSpec().with_changes({"model": str(STARTER), **changes})) == needed


def test_a_base_that_is_packed_already_needs_it(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"text_config": {"quantization_config": {"load_in_4bit": true}}}')
    assert needs_bitsandbytes(RunSpec(model=str(tmp_path)))
