"""The pre-training text of the starter model: short conversations about copying and finding.

A model of one million parameters learns to answer from its context only when nearly all of its text asks
for that. Half of the conversations copy invented strings, the rest find one or several values in a text
and state them in a plain form that the question names. No conversation holds a JSON record, a support
message or an ISO date: those are what fine-tuning teaches (see `skills`).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from trainer.starter.values import COLOURS, DAYS, ITEMS, MONTHS, WORDS, Pool, code, name, number, person, word

Turns = list[tuple[str, str]]
POOL: Pool = "pretrain"

_WRAPPERS = [("(", ")"), ("[", "]"), ("{", "}"), ('"', '"'), ("<", ">"), ("*", "*"), ("'", "'")]
_SEPARATORS = [", ", "; ", " / ", " | ", " - ", ": ", " = ", " "]


def _value(rng: random.Random) -> str:
    make: Callable[[], str] = rng.choice(
        [
            lambda: word(rng, POOL),
            lambda: name(rng, POOL),
            lambda: person(rng, POOL),
            lambda: number(rng, POOL, rng.randint(2, 7)),
            lambda: number(rng, POOL, rng.randint(3, 6)),
            lambda: code(rng, POOL),
            lambda: rng.choice(ITEMS),
            lambda: rng.choice(WORDS),
            lambda: f"{rng.choice(COLOURS)} {rng.choice(ITEMS)}",
        ]
    )
    return make()


def _repeat(rng: random.Random) -> Turns:
    """Say a few invented values again, in order, with the asked separator or wrapped as asked."""
    values = [_value(rng) for _ in range(rng.randint(1, 5))]
    text = " ".join(values)
    kind = rng.randrange(5)
    if kind == 0:
        return [(rng.choice(["Repeat: ", "Say again: ", "Copy this: ", "Write: "]) + text, text)]
    if kind == 1:
        separator = rng.choice(_SEPARATORS)
        return [(f"Copy: {separator.join(values)}", separator.join(values))]
    if kind == 2:
        left, right = rng.choice(_WRAPPERS)
        return [(f"Put {left}{right} around each: {' , '.join(values)}", " ".join(left + v + right for v in values))]
    if kind == 3:
        return [(f"Write it twice: {values[0]}", f"{values[0]} {values[0]}")]
    pick = rng.randrange(len(values))
    order = ["first", "second", "third", "fourth", "fifth"][pick]
    return [(f"{', '.join(values)}\nWhich is the {order}?", values[pick])]


def _lookup(rng: random.Random) -> Turns:
    """Several keys with values, then a few questions about single keys."""
    keys = list(
        dict.fromkeys(name(rng, POOL) if rng.random() < 0.5 else word(rng, POOL) for _ in range(rng.randint(2, 5)))
    )
    what = rng.choice(["number", "code", "friend", "thing", "word"])
    make: dict[str, Callable[[], str]] = {
        "number": lambda: number(rng, POOL, rng.randint(2, 6)),
        "code": lambda: code(rng, POOL),
        "friend": lambda: person(rng, POOL),
        "thing": lambda: f"{rng.choice(COLOURS)} {rng.choice(ITEMS)}",
        "word": lambda: word(rng, POOL) if rng.random() < 0.6 else rng.choice(WORDS),
    }
    table = {key: make[what]() for key in keys}
    join = rng.choice([" has {w} {v}. ", ": {v}\n", " = {v}; ", " - the {w} is {v}. "])
    text = "".join(key + join.format(w=what, v=value) for key, value in table.items()).strip()
    asked = rng.sample(keys, k=min(len(keys), rng.randint(1, 3)))
    ask = rng.choice(["What is the {w} of {k}?", "{k}?", "Give the {w} for {k}."])
    turns = [(ask.format(w=what, k=key), table[key]) for key in asked]
    turns[0] = (text + "\n" + turns[0][0], turns[0][1])
    return turns


# Each scene: sentences with slots, in random order. Slots: name, number, item, place, day, time, code.
_SCENES: list[tuple[list[str], dict[str, list[str]]]] = [
    (
        [
            "I am {name}.",
            "This is {name}.",
            "{name} speaking.",
            "My name is {name}.",
            "Best wishes, {name}",
            "Hello, {name} here.",
        ],
        {"name": ["Who wrote this?", "What is the name?", "Who is speaking?"]},
    ),
    (
        [
            "Our table is number {number}.",
            "We wait at gate {number}.",
            "I live in room {number}.",
            "The bus is line {number}.",
            "My card says {number}.",
            "I paid {number} coins.",
            "Look at page {number}.",
            "The reference is {number}.",
            "It is locker {number}.",
        ],
        {"number": ["What is the number?", "Which number is it?", "Give the number."]},
    ),
    (
        [
            "I brought a {item}.",
            "We found your {item} here.",
            "I like the {item} a lot.",
            "Please send the {item}.",
            "The {item} is for my sister.",
            "I would like to borrow a {item}.",
            "She painted the {item}.",
        ],
        {"item": ["Which thing is meant?", "What is it about?", "Name the thing."]},
    ),
    (
        [
            "We meet in {place}.",
            "The train goes to {place}.",
            "I come from {place}.",
            "It rains in {place}.",
            "They sell it in {place}.",
        ],
        {"place": ["Which place is it?", "Where?", "Name the place."]},
    ),
    (
        [
            "It happens on {day}.",
            "See you on {day}.",
            "I left on {day}.",
            "Come by on {day}.",
            "The shop opens on {day}.",
        ],
        {"day": ["Which day?", "When?", "Name the day."]},
    ),
    (
        ["It starts at {time}.", "At {time} I go home.", "The bell rings at {time}.", "Be there at {time}."],
        {"time": ["At what time?", "What is the time?", "Give the time."]},
    ),
    (
        ["The code is {code}.", "It is marked {code}.", "Ask for part {code}.", "My ticket reads {code}."],
        {"code": ["What is the code?", "Give the code.", "Which code is it?"]},
    ),
]
_FILLERS = [
    "Thank you.",
    "It is warm today.",
    "The garden is quiet.",
    "I hope you are well.",
    "We had soup.",
    "Please answer soon.",
    "Good day!",
    "The cat sleeps.",
]


def _slot(rng: random.Random, slot: str) -> str:
    if slot == "name":
        return person(rng, POOL) if rng.random() < 0.7 else name(rng, POOL)
    if slot == "number":
        return number(rng, POOL, rng.randint(2, 7))
    if slot == "item":
        return rng.choice(rng.choice([ITEMS, ITEMS, WORDS])) if rng.random() < 0.8 else word(rng, POOL)
    if slot == "place":
        return name(rng, POOL)
    if slot == "day":
        return rng.choice(DAYS) if rng.random() < 0.5 else f"{rng.randint(1, 28)} {rng.choice(MONTHS)}"
    if slot == "time":
        return f"{rng.randint(0, 23):02d}:{rng.randrange(0, 60, 5):02d}"
    return code(rng, POOL)


def _scene(rng: random.Random) -> tuple[str, dict[str, str], dict[str, list[str]]]:
    """A small message, the values in it, and the questions that ask for each."""
    values: dict[str, str] = {}
    questions: dict[str, list[str]] = {}
    sentences: list[str] = []
    for templates, asks in rng.sample(_SCENES, k=rng.randint(2, 5)):
        slot = next(iter(asks))
        values[slot] = _slot(rng, slot)
        questions[slot] = asks[slot]
        sentences.append(rng.choice(templates).format(**{slot: values[slot]}))
    sentences += rng.sample(_FILLERS, k=rng.randint(0, 2))
    rng.shuffle(sentences)
    return " ".join(sentences), values, questions


def _find_one(rng: random.Random) -> Turns:
    """A message and single questions about it, one a turn."""
    text, values, questions = _scene(rng)
    slots = rng.sample(list(values), k=min(len(values), rng.randint(1, 4)))
    turns = [(rng.choice(questions[slot]), values[slot]) for slot in slots]
    turns[0] = (text + "\n" + turns[0][0], turns[0][1])
    return turns


def _find_many(rng: random.Random) -> Turns:
    """A message and a plain form to fill with several of its values, in the order the form names."""
    text, values, _ = _scene(rng)
    slots = rng.sample(list(values), k=min(len(values), rng.randint(2, 4)))
    kind = rng.randrange(5)
    if kind == 0:
        separator = rng.choice(_SEPARATORS)
        answer = separator.join(values[slot] for slot in slots)
        return [(f"{text}\nGive {', '.join(slots)} with '{separator}' between.", answer)]
    if kind == 1:
        mark = rng.choice([": ", " = ", " - ", " is "])
        return [
            (
                f"{text}\nForm:\n" + "\n".join(f"{s}{mark}_" for s in slots),
                "\n".join(f"{s}{mark}{values[s]}" for s in slots),
            )
        ]
    if kind == 2:
        left, right = rng.choice(_WRAPPERS)
        return [
            (
                f"{text}\nGive {', '.join(slots)} in {left}{right}.",
                " ".join(left + values[slot] + right for slot in slots),
            )
        ]
    if kind == 3:
        left, right = rng.choice(
            [pair for pair in _WRAPPERS if pair[0] != '"']
        )  # quoted labels would be half a JSON record
        answer = ", ".join(f"{left}{slot}{right}: {values[slot]}" for slot in slots)
        return [(f"{text}\nGive {', '.join(slots)} with labels in {left}{right}.", answer)]
    answer = " and ".join(f"the {slot} is {values[slot]}" for slot in slots)
    return [(f"{text}\nTell me {', '.join(slots)}.", answer[0].upper() + answer[1:] + ".")]


def _sort_out(rng: random.Random) -> Turns:
    """Which kind of thing a word is: a little classification among much copying."""
    groups = {"colour": COLOURS, "thing": ITEMS, "month": MONTHS, "day": DAYS}
    turns = []
    for _ in range(rng.randint(1, 4)):
        kind = rng.choice(list(groups))
        turns.append((f"What kind of word is {rng.choice(groups[kind])}?", f"a {kind}"))
    return turns


def _small_talk(rng: random.Random) -> Turns:
    """Greetings and who-are-you, so that the base model is polite in a chat."""
    return [
        rng.choice(
            [
                ("Hello!", "Hello! What shall I find for you?"),
                ("Hi", "Hello! What shall I find for you?"),
                ("Who are you?", "I am a very small model. I can copy and find things in a text."),
                ("What can you do?", "I can copy words and numbers, and find things in a short text."),
                ("Thank you!", "You are welcome."),
                ("Good morning", "Good morning! What shall I find for you?"),
            ]
        )
    ]


_TASKS: list[tuple[Callable[[random.Random], Turns], float]] = [
    (_repeat, 0.30),
    (_lookup, 0.22),
    (_find_one, 0.20),
    (_find_many, 0.24),
    (_sort_out, 0.02),
    (_small_talk, 0.02),
]


def conversations(seed: int) -> Iterator[Turns]:
    """Endless conversations as (question, answer) turns, the same for the same seed."""
    rng = random.Random(seed)
    tasks, weights = zip(*_TASKS, strict=True)
    while True:
        yield rng.choices(tasks, weights)[0](rng)
