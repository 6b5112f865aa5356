"""Invented names, numbers and codes, in three pools that never share a value.

A skill that copies is only shown by values the model has never met. Each word belongs to exactly one
pool, decided by its checksum, so the pools stay disjoint without a list of what was used.
"""

from __future__ import annotations

import random
import zlib
from typing import Literal

Pool = Literal["pretrain", "train", "held_out"]

_ONSETS = "b d f g h j k l m n p r s t v w z br dr gr kl tr st sh th fl".split()
_VOWELS = "a e i o u ai ea ou".split()
_CODAS = ["", "", "", "n", "l", "r", "s", "m", "k", "x"]
_LETTERS = "ABCDEFGHJKLMNPRSTVWXZ"
_DIGITS = "0123456789"

ITEMS = (
    "lamp kettle chair table clock mirror carpet shelf bottle blanket pillow toaster radio camera jacket "
    "backpack umbrella keyboard speaker printer helmet tent drill ladder bucket vase scarf watch wallet razor"
).split()
WORDS = (
    "river bread window garden water bridge letter market winter summer forest kitchen island music paper silver "
    "morning evening mountain village teacher doctor farmer sailor painter neighbour brother sister uncle friend "
    "rabbit horse pigeon salmon apple pepper butter honey ginger walnut cotton leather copper marble candle engine "
    "wheel ticket parcel basket blossom thunder shadow corner castle harbour station church school office factory"
).split()
COLOURS = "red blue green yellow black white brown grey orange purple pink golden".split()
MONTHS = "January February March April May June July August September October November December".split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()


def pool_of(word: str) -> Pool:
    """The one pool that `word` belongs to: six tenths pre-training, two training, two held out."""
    bucket = zlib.crc32(word.lower().encode()) % 10
    return "pretrain" if bucket < 6 else "train" if bucket < 8 else "held_out"


def word(rng: random.Random, pool: Pool, syllables: int | None = None) -> str:
    """An invented lower-case word of one to three syllables."""
    while True:
        count = syllables or rng.choice((1, 2, 2, 2, 3))
        text = "".join(rng.choice(_ONSETS) + rng.choice(_VOWELS) + rng.choice(_CODAS) for _ in range(count))
        if pool_of(text) == pool:
            return text


def name(rng: random.Random, pool: Pool) -> str:
    """An invented capitalised name of two or three syllables."""
    return word(rng, pool, rng.choice((2, 2, 3))).capitalize()


def person(rng: random.Random, pool: Pool) -> str:
    """First and last name, both from the pool."""
    return f"{name(rng, pool)} {name(rng, pool)}"


def number(rng: random.Random, pool: Pool, digits: int) -> str:
    """A number of exactly `digits` digits without a leading zero; short ones (under 3) are in every pool."""
    while True:
        text = rng.choice(_DIGITS[1:]) + "".join(rng.choice(_DIGITS) for _ in range(digits - 1))
        if digits < 3 or pool_of(text) == pool:
            return text


def code(rng: random.Random, pool: Pool) -> str:
    """Letters and digits as on a ticket or a part, such as KX4821."""
    while True:
        letters = "".join(rng.choice(_LETTERS) for _ in range(rng.choice((1, 2, 2, 3))))
        text = letters + "".join(rng.choice(_DIGITS) for _ in range(rng.choice((2, 3, 4))))
        if pool_of(text) == pool:
            return text
