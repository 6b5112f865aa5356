"""Measures as people read them. Torch-free: the app says the same words."""

from __future__ import annotations

IN_WORDS = {
    "exact_match": "exact match",
    "token_f1": "token F1",
    "rouge_l": "ROUGE-L",
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
    "loss": "loss",
    "perplexity": "perplexity",
}
SHARES = ("exact_match", "accuracy")  # of rows that are right
LOWER_IS_BETTER = ("loss", "perplexity")


def figure(name: str, value: float | None, sign: str = "") -> str:
    """A measure's value as text; with `sign` "+" for a difference."""
    if value is None:
        return "no number"
    if name in LOWER_IS_BETTER:
        return f"{value:{sign},.0f}" if abs(value) >= 100 else f"{value:{sign}.3g}"
    return f"{value:{sign}.0%}" if name in SHARES else f"{value:{sign}.1%}"
