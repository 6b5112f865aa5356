"""The classes of a set of pictures: their order, and what is to be said of their numbers. Torch-free."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

from trainer.data.problems import Finding, shorten
from trainer.data.reading import Samples
from trainer.data.samples import Place, Sample
from trainer.errors import TrainError

UNEVEN = 10  # times as many pictures as the smallest class has
SHOWN = 12  # classes that are counted in a sentence


def class_names(labels: Iterable[str]) -> tuple[str, ...]:
    """Each class once, by name; where all are whole numbers, by value."""
    names = set(labels)
    numbers = all(name.removeprefix("-").isdecimal() for name in names)
    return tuple(sorted(names, key=int) if numbers else sorted(names))


def counted(samples: Iterable[Sample]) -> Counter[str]:
    """How many pictures each class has."""
    return Counter(sample.label for sample in samples)


def in_words(classes: Mapping[str, int]) -> str:
    """Classes with their numbers of pictures, the largest first."""
    most = sorted(classes, key=lambda name: (-classes[name], name))
    told = ", ".join(f"{shorten(name)} {classes[name]:,}" for name in most[:SHOWN])
    return told + (f", and {len(most) - SHOWN} more down to {classes[most[-1]]:,}" if len(most) > SHOWN else "")


def of_classes(name: str, classes: Mapping[str, int]) -> list[Finding]:
    """What a check says of a whole set's classes."""
    if not classes:
        return []
    place, told = Place(name, 0), in_words(classes)
    if len(classes) == 1:
        return [Finding("class-single", place, f"all pictures are of one class: {told}.")]
    found = [Finding("class-counts", place, f"{len(classes)} classes: {told}.")]
    most, least = max(classes.values()), min(classes.values())
    if most >= UNEVEN * least:
        found.append(
            Finding("classes-uneven", place, f"the largest class has {most:,} pictures, the smallest {least:,}.")
        )
    return found


def settle_classes(found: Samples, head: Sequence[str], *, fixed: bool) -> tuple[str, ...]:
    """The classes in the order of the head's outputs; those of the model's own head where it has just these.

    With `fixed`, the head is that of an adapter which goes on. Raises `TrainError` where there is nothing to tell
    apart, or where a picture is of a class that the head does not know.
    """
    labels = {sample.label for sample in found.train}
    if len(labels) == 1:
        raise TrainError(
            "class-single",
            f"All pictures are of one class, {shorten(next(iter(labels)))}: there is nothing to tell apart.",
            "Add pictures of another class.",
        )
    classes = tuple(head) if fixed or labels == set(head) else class_names(labels)
    require_known(found.train, classes, "the adapter that is trained on")
    require_known(found.held_out, classes, "the adapter that is trained on" if fixed else "the training pictures")
    return classes


def require_known(samples: Iterable[Sample], classes: Collection[str], known_by: str) -> None:
    """Raise `TrainError` for the first picture of a class that is not among these."""
    unknown = next((sample for sample in samples if sample.label not in classes), None)
    if unknown is not None:
        raise TrainError(
            "class-unknown",
            f"{unknown.place}: {known_by} know{'s' * known_by.startswith('the adapter')} no class {shorten(unknown.label)}.",
            "Correct the label, take the picture out, or train from the start on pictures of all classes.",
        )
