"""What a model should not learn by heart: addresses of people, and keys that open something."""

from __future__ import annotations

import re

EMAIL = re.compile(r"[A-Za-z0-9][\w.+-]{0,63}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){0,4}\.[A-Za-z]{2,12}\b")
# Addresses that documents use so that they are nobody's.
_NOBODY = re.compile(
    r"@(?:[\w-]+\.)*(?:example\.(?:com|org|net)|test|invalid|localhost)$|^(?:no-?reply|git)@", re.IGNORECASE
)
# What it is, a piece of text without which it cannot be there, and the whole of it.
SECRETS = (
    ("a private key", "PRIVATE KEY-----", re.compile(r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----")),
    ("an access key of AWS", "AKIA", re.compile(r"\bAKIA[0-9A-Z]{16}\b")),
    ("a temporary access key of AWS", "ASIA", re.compile(r"\bASIA[0-9A-Z]{16}\b")),
    ("a token of GitHub", "gh", re.compile(r"\bgh[pousr]_[A-Za-z0-9]{36}")),
    ("a token of GitHub", "github_pat_", re.compile(r"\bgithub_pat_\w{40,}")),
    ("a token of Hugging Face", "hf_", re.compile(r"\bhf_[A-Za-z]{30,}\b")),
    ("an API key", "sk-", re.compile(r"\bsk-(?:[a-z]+-)*[A-Za-z0-9_-]{32,}")),
    ("a token of Slack", "xox", re.compile(r"\bxox[abprs]-[A-Za-z0-9-]{20,}")),
    ("a key of Google", "AIza", re.compile(r"\bAIza[\w-]{35}")),
    ("a signed web token", "eyJ", re.compile(r"\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}")),
    ("a password in an address", "://", re.compile(r"\b[a-z][a-z0-9+.-]{1,20}://[^\s/:@]{1,80}:[^\s/@]{3,80}@[\w.-]+")),
)


def email(text: str) -> str | None:
    """The first address in the text that may be somebody's."""
    if "@" not in text:
        return None
    return next((found[0] for found in EMAIL.finditer(text) if not _NOBODY.search(found[0])), None)


def secret(text: str) -> tuple[str, str] | None:
    """What kind of key the text holds, and its beginning; the rest is not shown."""
    for what, piece, pattern in SECRETS:
        found = pattern.search(text) if piece in text else None
        if found:
            return what, found[0][:8] + "…"
    return None
