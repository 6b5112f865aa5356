"""How a run is judged."""

from __future__ import annotations

from trainer.spec.setting import Section, setting


class Evaluation(Section):
    """How base and tuned are compared on the held-out rows."""

    generate: bool = setting(
        True, "Exact match", "Also answers each held-out row and counts answers that are exactly right."
    )
    max_new_tokens: int = setting(128, "Longest answer", "Longer answers count as wrong.", unit="tokens", ge=1, le=8192)
    rows: int = setting(200, "Most rows", "Held-out rows beyond this are not used.", unit="rows", ge=1)
