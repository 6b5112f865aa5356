"""How like an answer is to the expected one. Standard library only."""

from __future__ import annotations

import re
from collections import Counter

# Chinese and Japanese put no spaces between words, so each of their characters counts as one.
_ALONE = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_ALONE}]|[^\W_{_ALONE}]+")
_ARTICLES = ("a", "an", "the")


def words(text: str) -> list[str]:
    """The words of a text in lower case, without punctuation and articles (as SQuAD's scorer, arXiv 1606.05250)."""
    return [word for word in _WORD.findall(text.casefold()) if word not in _ARTICLES]


def exact_match(said: str, expected: str) -> float:
    """1 where both are the same to the letter, white space around them aside."""
    return float(said.strip() == expected.strip())


def token_f1(said: str, expected: str) -> float:
    """Harmonic mean of precision and recall over the words, their order aside."""
    one, other = Counter(words(said)), Counter(words(expected))
    return _f1((one & other).total(), one.total(), other.total())


def rouge_l(said: str, expected: str) -> float:
    """The same over the longest common subsequence of words, so that order counts (Lin 2004, with beta 1)."""
    one, other = words(said), words(expected)
    return _f1(_common_subsequence(one, other), len(one), len(other))


def _f1(common: int, said: int, expected: int) -> float:
    if not said and not expected:
        return 1.0
    return 2 * common / (said + expected)


def _common_subsequence(one: list[str], other: list[str]) -> int:
    """Its length; each row of the usual table is the bits of one number (Hyyrö 2004), so a long answer costs little."""
    places: dict[str, int] = {}
    for position, word in enumerate(one):
        places[word] = places.get(word, 0) | 1 << position
    whole = row = (1 << len(one)) - 1
    for word in other:
        matches = row & places.get(word, 0)
        row = (row + matches) | (row - matches)
    return len(one) - (row & whole).bit_count()
