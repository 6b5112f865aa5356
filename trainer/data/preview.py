"""Show rows as the model will see them, and what is learned of a whole set, before anything is trained."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from trainer.data.findings import SENTENCES
from trainer.data.histogram import histogram
from trainer.data.masks import IGNORED, Encoded, Whole, by_row, findings_of
from trainer.data.reading import Samples, first_samples, read_samples
from trainer.data.samples import Sample
from trainer.data.templates import settle_template
from trainer.data.token_cache import encode_cached
from trainer.errors import TrainError
from trainer.models.tokenizer import load_tokenizer
from trainer.spec import Data
from trainer.vision.sight import Sight

Line = dict[str, Any]
Tell = Callable[..., None]
Result = TypeVar("Result")
MOST_ROWS = 20
MOST_SHOWN = 8192  # tokens of one row that are listed; the counts are of all
LOOK_SECONDS = 0.2
SPACES = {"Ġ": " ", "▁": " ", "Ċ": "\n"}  # how tokenizers spell white space in the names of tokens


class _Stopped(Exception):
    """Nobody waits for the answer any more."""


class Preview:
    """Keeps the tokenizer that was asked for last.

    A request holds `model`, `data` (as in a run), `first` (a row, from 1), `rows` (at most `MOST_ROWS`), `statistics`
    (whether the whole set is looked at too) and `token_cache`. Its lines are `template` with a `text`, a `row` for
    each row of the page, and for the whole set `progress` and `statistics`. It raises what a run would raise.
    """

    def __init__(self) -> None:
        self._kept: tuple[object, Any, str | None] = (None, None, None)

    def answer(self, request: Line, stopping: Callable[[], bool]) -> Iterator[Line]:
        """The rows of a page at once, then what is to be said of all rows."""
        data = Data.model_validate(request["data"])
        start = max(1, int(request["first"])) - 1
        rows = slice(start, start + min(MOST_ROWS, int(request["rows"])))
        try:
            yield from self._answer(Path(request["model"]), data, rows, request, stopping)
        except _Stopped:
            return

    def _answer(
        self, model: Path, data: Data, rows: slice, request: Line, stopping: Callable[[], bool]
    ) -> Iterator[Line]:
        # A model without a template is given one that suits all of the rows.
        suits_all = data.template == "auto" and not self._tokenizer(model).chat_template
        early = None if suits_all else first_samples(data, rows.stop)
        if early is not None:
            yield from _page(model, self._tokenizer(model), early, rows, data)
        if early is not None and not request["statistics"]:
            return
        found = yield from _on_a_thread("Reading all rows", None, lambda tell: read_samples(data, tell=tell), stopping)
        if early is None:
            yield from _page(model, self._tokenizer(model), found.train, rows, data)
        if request["statistics"]:
            tokenizer, cache = self._tokenizer(model), Path(request["token_cache"])
            encoded = yield from _on_a_thread(
                "Turning all rows into tokens",
                len(found.train),
                lambda tell: encode_cached(tokenizer, found.train, data, cache, tell, Sight.of(model, tokenizer)),
                stopping,
            )
            yield _statistics(encoded, found, data)

    def _tokenizer(self, model: Path) -> Any:
        """The model's tokenizer with the template that it came with, also after another one was tried."""
        files = sorted([*model.glob("*.json"), *model.glob("*.jinja")])
        state = (model, [(file.name, file.stat().st_mtime_ns) for file in files])
        known, tokenizer, template = self._kept
        if known != state:
            tokenizer = load_tokenizer(model)
            template = tokenizer.chat_template
            self._kept = (state, tokenizer, template)
        tokenizer.chat_template = template
        return tokenizer


def _on_a_thread(
    text: str, rows: int | None, work: Callable[[Tell], Result], stopping: Callable[[], bool]
) -> Generator[Line, None, Result]:
    """Do the work, which tells of every row, and say how far it is; raises `_Stopped` when nobody waits any more."""
    seen = 0

    def tell(*_: object) -> None:
        nonlocal seen
        seen += 1
        if stopping():
            raise _Stopped

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(work, tell)
        while not wait([future], LOOK_SECONDS).done:
            yield {"type": "progress", "text": text, "rows": seen, "share": seen / rows if rows else None}
        return future.result()


def _page(model: Path, tokenizer: Any, samples: Sequence[Sample], rows: slice, data: Data) -> Iterator[Line]:
    """The template and why, then the rows; which template is chosen may depend on all of the samples."""
    if not samples[rows]:
        raise TrainError(
            "data-row-missing",
            f"There is no row {rows.start + 1}: {len(samples):,} are trained on.",
            f"Choose a row from 1 to {len(samples)}.",
        )
    yield {"type": "template", "text": settle_template(tokenizer, samples, data.template)}
    sight = Sight.of(model, tokenizer)
    for number, (sample, wholes) in enumerate(by_row(tokenizer, samples[rows], data, sight), rows.start + 1):
        yield {"type": "row", **_row(tokenizer, number, sample, wholes, data), "pictures": _pictures(wholes)}


def _pictures(wholes: Sequence[Whole]) -> list[Line]:
    """The row's pictures as the model takes them."""
    seen = next((whole.seen for whole in wholes if whole.seen), None)
    if seen is None:
        return []
    from trainer.vision.taken import taken  # brings Pillow, which few rows need

    return taken(seen)


def _row(tokenizer: Any, number: int, sample: Sample, wholes: Sequence[Whole], data: Data) -> Line:
    """One row: its texts, mostly one, with every token; counts of the states of all its tokens; and findings."""
    counts = {"trained": 0, "context": 0, "cut": 0}
    found: set[str] = set()
    texts = []
    for whole in wholes:
        states = _states(whole)
        for state in counts:
            counts[state] += states.count(state)
        found |= findings_of(whole, whole.example(), data)
        texts.append(_text(tokenizer, whole, states, max(16, MOST_SHOWN // len(wholes))))
    said = [
        {"kind": kind, "sentence": f"{about[0].upper()}{about[1:]}."}
        for kind, about in SENTENCES.items()
        if kind in found
    ]
    return {"number": number, "place": str(sample.place), **counts, "texts": texts, "findings": said}


def _states(whole: Whole) -> list[str]:
    """What becomes of each token: `trained`, `context` (read but not learned) or `cut` (not even read)."""
    start, end = whole.kept
    labels = whole.example().labels
    kept = ["context" if label == IGNORED else "trained" for label in labels]
    return ["cut"] * start + kept + ["cut"] * (whole.length - end)


def _text(tokenizer: Any, whole: Whole, states: list[str], most: int) -> Line:
    """The tokens of one text; of a very long one so many around where learning begins."""
    ids, words = whole.encoding.ids, token_texts(tokenizer, whole)
    begins = states.index("trained") if "trained" in states else 0
    start = max(0, min(begins - most // 4, len(ids) - most))
    listed = list(zip(ids[start : start + most], words[start:], states[start:], strict=False))
    parts = whole.seen.sight.processor.ids if whole.seen else set()
    tokens: list[Line] = []
    for before, (identity, word, state) in zip([None, *listed], listed, strict=False):
        if identity in parts and before == (identity, word, state):
            tokens[-1]["times"] += 1  # of a picture there may be thousands
        else:
            tokens.append({"id": identity, "text": word, "state": state, "times": 1})
    return {"tokens": tokens, "hidden": len(ids) - len(listed)}


def token_texts(tokenizer: Any, whole: Whole) -> list[str]:
    """The characters that each token stands for.

    A character of several tokens stands at the first of them, and the others are empty. A token that stands for
    no character of the text, as a mark that the tokenizer adds, has its own name.
    """
    text, texts, reached = whole.piece.text, [], 0
    names = tokenizer.convert_ids_to_tokens(whole.encoding.ids)
    for (start, end), name in zip(whole.encoding.offsets, names, strict=True):
        # Some tokenizers do not count a token's leading space among its characters.
        spaced = name[:1] in SPACES and text[reached:start].isspace()
        shown = text[reached if spaced else max(start, reached) : end]
        texts.append(shown if shown or start < end else SPACES.get(name, name))
        reached = max(reached, end)
    return texts


def _statistics(encoded: Encoded, found: Samples, data: Data) -> Line:
    """What is to be said of all rows; lengths are in tokens, before the cut."""
    findings = encoded.findings
    return {
        "type": "statistics",
        "rows": len(found.train),
        "held_out_rows": len(found.held_out),
        "left_out": found.left_out(),
        "texts": len(encoded.lengths),
        "tokens": encoded.tokens,
        "trained": encoded.learned,
        "longest": max(encoded.lengths, default=0),
        "max_length": data.max_length,
        "longer": sum(length > data.max_length for length in encoded.lengths),
        "lengths": asdict(histogram(encoded.lengths)),
        "findings": [
            {"kind": kind, "rows": findings.counts[kind], "sentence": sentence}
            for kind, sentence in findings.sentences()
        ],
    }
