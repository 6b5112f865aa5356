"""Answer a conversation with a base model and its tuned self, token by token."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import torch
from peft import PeftModel

from trainer.data.samples import Place, Sample
from trainer.data.templates import Renderer
from trainer.errors import TrainError
from trainer.models.hub import model_folder
from trainer.models.loading import DTYPES, load_base
from trainer.models.tokenizer import load_tokenizer

Side = Literal["base", "tuned"]


class Chat:
    """Keeps the pair of base and adapter that was asked last in memory.

    A request holds `model`, `adapter`, `messages`, `max_new_tokens` and `temperature`, and may hold the run's
    `base_precision`, `quantise` and `trust_code`; its lines are
    `{"type": "token", "side": "base"|"tuned", "text"}`.
    """

    def __init__(self) -> None:
        self._loaded: tuple[str, str] | None = None
        self._model: Any = None
        self._tokenizer: Any = None

    def answer(self, request: dict[str, Any], stopping: Callable[[], bool]) -> Iterator[dict[str, Any]]:
        """Stream `token` lines of the base's answer, then of the tuned model's."""
        self._load(request["model"], request["adapter"], request)
        asked = Sample("conversation", Place("the conversation", 0), tuple(request["messages"]))
        text = Renderer(self._tokenizer).text(asked.messages, asked, ask=True)
        prompt = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        for side in ("base", "tuned"):
            for text in self._stream(
                side, prompt, int(request["max_new_tokens"]), float(request["temperature"]), stopping
            ):
                yield {"type": "token", "side": side, "text": text}

    def _load(self, model: str, adapter: str, request: dict[str, Any]) -> None:
        if self._loaded == (model, adapter):
            return
        if not (Path(adapter) / "adapter_config.json").is_file():
            raise TrainError(
                "adapter-missing", f"There is no adapter at {adapter}.", "Choose a run that ended with an adapter."
            )
        # The adapter's own tokenizer has the template that it was trained with.
        own = (Path(adapter) / "tokenizer_config.json").is_file()
        self._tokenizer = load_tokenizer(Path(adapter) if own else model_folder(model))
        device = "cuda" if torch.cuda.is_available() else "cpu"
        dtype = DTYPES.get(request.get("base_precision", "auto"), torch.float32)
        quantise = request.get("quantise", "none")
        base = load_base(model_folder(model), dtype, quantise, device, request.get("trust_code", ""))
        self._model = PeftModel.from_pretrained(base, adapter).eval()
        if quantise == "none":  # else it lies there already
            self._model = self._model.to(device)
        self._loaded = (model, adapter)

    def _stream(
        self, side: Side, prompt: list[int], most: int, temperature: float, stopping: Callable[[], bool]
    ) -> Iterator[str]:
        """Pieces of text as they are decoded; the key-value cache makes each step one token."""
        if side == "base":
            with self._model.disable_adapter():
                yield from self._decode(prompt, most, temperature, stopping)
        else:
            yield from self._decode(prompt, most, temperature, stopping)

    @torch.inference_mode()
    def _decode(self, prompt: list[int], most: int, temperature: float, stopping: Callable[[], bool]) -> Iterator[str]:
        ids = torch.tensor([prompt], device=self._model.device)
        ends = self._end_tokens()
        cache, produced, shown = None, [], ""
        for _ in range(most):
            if stopping():
                return
            output = self._model(input_ids=ids, past_key_values=cache, use_cache=True)
            cache = output.past_key_values
            token = _pick(output.logits[0, -1].float(), temperature)
            if token in ends:
                return
            produced.append(token)
            text = self._tokenizer.decode(produced, skip_special_tokens=True)
            if not text.endswith("\ufffd"):  # a character whose bytes have not all come yet
                yield text[len(shown) :]
                shown = text
            ids = torch.tensor([[token]], device=self._model.device)

    def _end_tokens(self) -> set[int]:
        ends = self._model.generation_config.eos_token_id
        found = set(ends) if isinstance(ends, list) else {ends}
        return found | {self._tokenizer.eos_token_id}


def _pick(logits: torch.Tensor, temperature: float) -> int:
    """The most likely token at temperature zero, else one drawn by its chance."""
    if temperature == 0.0:
        return int(logits.argmax())
    return int(torch.multinomial(torch.softmax(logits / temperature, dim=-1), 1))
