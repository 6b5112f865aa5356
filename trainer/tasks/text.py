"""To write what rows write, after what they ask and show."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from trainer.data.batches import Batch, training_batches
from trainer.data.masks import encode
from trainer.data.reading import Samples
from trainer.data.token_cache import encode_cached, token_cache
from trainer.evaluation.answers import Answers
from trainer.evaluation.before_after import BeforeAfter
from trainer.export.adapter import save_adapter
from trainer.export.agreement import Agreement
from trainer.export.reload_check import FreshBase, check_reload, read_back
from trainer.held_out import HeldOut
from trainer.memory.kills import limit
from trainer.memory.settling import Step, settle
from trainer.models.fitting import check_rows
from trainer.models.loading import load_base
from trainer.models.tokenizer import load_tokenizer
from trainer.operation import read_events
from trainer.report import Report
from trainer.sampling import Sampling
from trainer.snapshot import Progress, fingerprint
from trainer.spec import RunSpec
from trainer.speed.choice import Way, choose_way
from trainer.vision.ahead import ahead
from trainer.vision.sight import Sight


class Text:
    """Rows as tokens, and a model that says how likely each of them is."""

    def __init__(self, spec: RunSpec, samples: Samples, run: Report, folder: Path) -> None:
        self._spec, self._samples, self._run, self._folder = spec, samples, run, folder
        self._held_out = samples.held_out[: spec.evaluation.rows]
        self._tokenizer = load_tokenizer(Path(spec.model))
        self._sight = Sight.of(Path(spec.model), self._tokenizer)
        encoded = encode_cached(self._tokenizer, samples.train, spec.data, token_cache(folder), sight=self._sight)
        self.examples, held_out = encoded.examples, self._held_out
        self._judged_on = encode(self._tokenizer, held_out, spec.data, self._sight) if held_out else []
        run.learns(encoded)
        self._pad = self._tokenizer.pad_token_id
        check_rows(Path(spec.model), (row.ids for row in chain(self.examples, self._judged_on)), self._pad)

    def sampling(self) -> Sampling:
        """What answers the same prompts as it learns."""
        return Sampling(self._spec, self._tokenizer, self._held_out, self._run, self._sight)

    def watch(self) -> HeldOut:
        """What takes the held-out loss as it learns."""
        return HeldOut(self._spec.training, self._judged_on, self._pad, self._run)

    def load(self, dtype: torch.dtype, device: str) -> Any:
        """The base from disk."""
        return load_base(Path(self._spec.model), dtype, self._spec.quantise, device, self._spec.trust_code)

    def way(self, model: Any) -> tuple[Way, dict[str, str]]:
        """How batches are computed, and why."""
        return choose_way(model, self.examples, self._pad, self._spec.training)

    def fingerprint(self) -> str:
        """What a run that goes on has to find as it was."""
        return fingerprint(self.examples)

    def judged(self) -> BeforeAfter:
        """What judges base and tuned."""
        judge = Answers(self._tokenizer, self._held_out, self._judged_on, self._spec.evaluation, self._sight)
        return BeforeAfter(self._folder, judge, self._run)

    def batches(self, taken: int, *, by_length: bool) -> Iterator[Batch]:
        """The rows in their order, without the first batches, which were taken before."""
        size, seed = self._spec.training.batch_size, self._spec.training.seed
        batches = training_batches(self.examples, self._pad, size, seed, taken, by_length=by_length)
        return ahead(batches) if self._sight else batches

    def settle(self, step: Step, progress: Progress) -> None:
        """Choose how many rows are computed at once."""
        settle(self._run, self._spec, step, self.examples, self._pad, progress, limit(read_events(self._folder)))

    def save(self, model: Any) -> Path:
        """Write the adapter with its tokenizer."""
        return save_adapter(model, self._tokenizer, self._folder, self._spec, self._sight)

    def read_back(
        self, model: Any, adapter: Path, base: FreshBase, autocast: AbstractContextManager[Any], precision: str
    ) -> Agreement | None:
        """Compare what was saved with what is in memory."""
        rows = self._samples.held_out or self._samples.train
        check = partial(check_reload, model, self._tokenizer, adapter, rows, base, autocast, precision, self._sight)
        return read_back(self._run, check)
