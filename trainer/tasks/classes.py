"""To tell classes of pictures apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import torch

from trainer.data.labels import counted, in_words
from trainer.data.reading import Samples
from trainer.errors import TrainError
from trainer.evaluation.before_after import BeforeAfter
from trainer.evaluation.predictions import Predictions, predicted
from trainer.export.adapter import save_adapter
from trainer.export.agreement import Agreement, Said
from trainer.export.reload_check import FreshBase, compare_with_saved, read_back
from trainer.held_out import HeldOut
from trainer.memory.kills import limit
from trainer.memory.settling import Step
from trainer.models.folder import read_config
from trainer.models.loading import load_base
from trainer.models.task import own_classes
from trainer.operation import read_events
from trainer.portions import recompute_activations
from trainer.report import Report
from trainer.sampling import Sampling
from trainer.snapshot import Progress
from trainer.spec import RunSpec
from trainer.vision.classifier import Beside, load_processor
from trainer.vision.opening import open_picture
from trainer.vision.shown import Labelled, Pictures, Shown, fingerprint, labelled, training_pictures

ASKED = 8  # pictures by which a saved adapter is compared


class Classes:
    """Pictures with labels, and a model with a new head that is trained whole."""

    def __init__(self, spec: RunSpec, samples: Samples, classes: Sequence[str], run: Report, folder: Path) -> None:
        self._spec, self._run, self._folder, self._classes = spec, run, folder, classes
        self._model = Path(spec.model)
        self._processor = load_processor(self._model)
        self._held_out = samples.held_out[: spec.evaluation.rows]
        self.examples, self._judged_on = labelled(samples.train, classes), labelled(self._held_out, classes)
        for each in (*self.examples, *self._judged_on):
            open_picture(each.picture, each.place)  # one that cannot be read is refused now, not in the night
        run.counts = "pictures"
        run.chosen(learned=f"{len(classes)} classes: {in_words(counted(samples.train))}")

    def sampling(self) -> Sampling:
        """Nothing can be answered; that it was asked for is refused before."""
        return Sampling(self._spec, None, (), self._run)

    def watch(self) -> HeldOut:
        """What takes the held-out loss as it learns."""
        return _HeldOutPictures(self._spec.training, self._judged_on, self._processor, self._run)

    def load(self, dtype: torch.dtype, device: str) -> Any:
        """The base from disk, with a head for the classes."""
        return load_base(self._model, dtype, "none", device, self._spec.trust_code, self._classes)

    def way(self, model: Any) -> tuple[Shown, dict[str, str]]:
        """How batches are computed, and why."""
        return Shown(model, self._processor), {}

    def fingerprint(self) -> str:
        """What a run that goes on has to find as it was."""
        return fingerprint(self.examples)

    def judged(self) -> BeforeAfter:
        """What judges base and tuned."""
        fresh = own_classes(read_config(self._model)) != tuple(self._classes)
        judge = Predictions(self._held_out, self._judged_on, self._classes, self._processor, fresh=fresh)
        return BeforeAfter(self._folder, judge, self._run)

    def batches(self, taken: int, *, by_length: bool) -> Iterator[Pictures]:
        """The pictures in their order, without the first batches, which were taken before; all are of one size."""
        del by_length
        return training_pictures(self.examples, self._spec.training.batch_size, self._spec.training.seed, taken)

    def settle(self, step: Step, progress: Progress) -> None:
        """Compute as many at once as were asked for; nothing predicts what a picture needs."""
        allowed, batch = limit(read_events(self._folder)), min(self._spec.training.batch_size, len(self.examples))
        before = progress.micro_batch if progress.step else self._spec.training.micro_batch_size
        rows = min(before or batch, allowed.rows or batch, batch)
        progress.micro_batch = rows if rows < batch else None
        asked = self._spec.training.gradient_checkpointing == "on"
        if asked or progress.recomputes or allowed.recomputes:
            progress.recomputes = True
            _recompute(step.model)
        self._run.chosen(memory=f"{rows} of {batch} pictures at once: not predicted, and halved where memory runs out")

    def save(self, model: Any) -> Path:
        """Write the adapter with the names of its classes and the model's way to take pictures."""
        return save_adapter(model, Beside(model, self._model), self._folder, self._spec)

    def read_back(
        self, model: Any, adapter: Path, base: FreshBase, autocast: AbstractContextManager[Any], precision: str
    ) -> Agreement | None:
        """Compare what was saved with what is in memory."""
        asked = (self._judged_on or self.examples)[:ASKED]
        say, say_again = (partial(_said, load_processor(folder), asked) for folder in (self._model, adapter))
        check = partial(compare_with_saved, model, adapter, base, autocast, precision, say, say_again)
        return read_back(self._run, check)


class _HeldOutPictures(HeldOut):
    """The held-out loss over pictures."""

    def __init__(self, training: Any, pictures: Sequence[Labelled], processor: Any, report: Report) -> None:
        super().__init__(training, pictures, 0, report)
        self._processor = processor

    def _loss(self, model: Any) -> float:
        nats, _ = predicted(Shown(model, self._processor), self._examples, model)
        return sum(nats) / len(nats)


@torch.inference_mode()
def _said(processor: Any, pictures: Sequence[Labelled], model: Any) -> Said:
    """The class of each picture as an answer of one token."""
    logits = Shown(model, processor).logits(pictures).float().cpu()
    return Said(logits.argmax(-1, keepdim=True), logits[:, None])


def _recompute(model: Any) -> None:
    try:
        recompute_activations(model)
    except ValueError as error:
        raise TrainError(
            "task-setting",
            f"This model cannot compute its activations twice: {str(error).strip().splitlines()[0][:200]}",
            "Set `training.gradient_checkpointing` to `auto` or `off`.",
        ) from error
