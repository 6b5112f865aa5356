"""The two skills that fine-tuning teaches the starter model, as chat rows; neither occurs in its pre-training.

`ticket`: a support message becomes a JSON record (name, order, product, problem).
`calendar`: an invitation becomes one line with an ISO date, the time, the occasion and the host.
Names and order numbers of the held-out rows occur in no training row and nowhere in pre-training.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any, Literal

from trainer.starter.values import ITEMS, MONTHS, Pool, number, person

Skill = Literal["ticket", "calendar"]
Row = dict[str, Any]

_PROBLEMS = {
    "broken": ["The {item} arrived broken.", "My new {item} is broken.", "It is about a broken {item}."],
    "late": ["The {item} is late.", "My {item} is three weeks late.", "Why is the {item} so late?"],
    "wrong": ["I got the wrong {item}.", "You sent me the wrong {item}.", "This is the wrong {item}."],
    "refund": [
        "I want a refund for the {item}.",
        "Please refund the {item}.",
        "When do I get the refund for my {item}?",
    ],
}
_NAMED = ["Hi, this is {name}.", "My name is {name}.", "{name} here.", "Hello, I am {name}."]
_SIGNED = ["Regards, {name}", "Thanks, {name}", "Best wishes, {name}"]
_ORDERS = ["My order is {order}.", "Order number {order}.", "It is about order {order}.", "The order was {order}."]

_OCCASIONS = ["dinner", "lunch", "party", "meeting", "concert", "picnic", "lesson", "match"]
_INVITES = [
    "{name} invites you to a {occasion} on {day} {month} at {time}.",
    "Come to the {occasion} with {name} on {day} {month}, we start at {time}.",
    "On {day} {month} at {time} there is a {occasion}. Your host is {name}.",
    "The {occasion} of {name} is on {day} {month}. It begins at {time}.",
]


def _ticket(rng: random.Random, pool: Pool) -> tuple[str, str]:
    who, order = person(rng, pool), number(rng, pool, 5)
    item, problem = rng.choice(ITEMS), rng.choice(list(_PROBLEMS))
    body = [rng.choice(_ORDERS).format(order=order), rng.choice(_PROBLEMS[problem]).format(item=item)]
    rng.shuffle(body)
    if rng.random() < 0.6:
        body.insert(0, rng.choice(_NAMED).format(name=who))
    else:
        body.append(rng.choice(_SIGNED).format(name=who))
    record = {"name": who, "order": order, "product": item, "problem": problem}
    return " ".join(body), json.dumps(record)


def _calendar(rng: random.Random, pool: Pool) -> tuple[str, str]:
    day, month = rng.randint(1, 28), rng.randint(1, 12)
    occasion, who = rng.choice(_OCCASIONS), person(rng, pool)
    time = f"{rng.randint(8, 22):02d}:{rng.randrange(0, 60, 5):02d}"
    text = rng.choice(_INVITES).format(name=who, occasion=occasion, day=day, month=MONTHS[month - 1], time=time)
    return text, f"2027-{month:02d}-{day:02d}T{time} {occasion} | {who}"


_MAKERS = {"ticket": _ticket, "calendar": _calendar}


def rows(skill: Skill, pool: Pool, count: int, seed: int) -> list[Row]:
    """`count` different chat rows of one skill, with values of one pool only."""
    rng = random.Random(f"{skill}/{pool}/{seed}")
    made: dict[str, Row] = {}
    while len(made) < count:
        question, answer = _MAKERS[skill](rng, pool)
        made[question] = {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}
    return list(made.values())


def with_shuffled_answers(data: list[Row], seed: int) -> list[Row]:
    """The same rows with answers that belong to other rows: the control, from which nothing can be learned."""
    answers = [row["messages"][1] for row in data]
    random.Random(seed).shuffle(answers)
    return [{"messages": [row["messages"][0], answer]} for row, answer in zip(data, answers, strict=True)]


def write(folder: Path, skill: Skill, *, training: int = 400, held_out: int = 100, seed: int = 0) -> None:
    """Write `train.jsonl` and `held_out.jsonl` of a skill."""
    folder.mkdir(parents=True, exist_ok=True)
    for filename, data in (
        ("train.jsonl", rows(skill, "train", training, seed)),
        ("held_out.jsonl", rows(skill, "held_out", held_out, seed)),
    ):
        (folder / filename).write_text("".join(json.dumps(row) + "\n" for row in data), encoding="utf-8")
