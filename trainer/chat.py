"""Answer a conversation with a base model and its tuned self, token by token."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import torch
from peft import PeftModel
from transformers import StoppingCriteriaList
from transformers.generation.streamers import BaseStreamer

from trainer.data.pictures import read_picture
from trainer.data.problems import RowError
from trainer.data.samples import PICTURE, Message, Picture, Place, Sample
from trainer.data.templates import Renderer
from trainer.errors import TrainError
from trainer.models.hub import model_folder
from trainer.models.loading import DTYPES, load_base
from trainer.models.tokenizer import load_tokenizer
from trainer.vision.sight import Prompt, Sight, require_sight, to_ask

Side = Literal["base", "tuned"]


class Chat:
    """Keeps the pair of base and adapter that was asked last in memory.

    A request holds `model`, `adapter`, `messages`, `max_new_tokens` and `temperature`, and may hold the run's
    `base_precision`, `quantise` and `trust_code`; a message may hold `pictures`, as data URLs, which stand before its
    text. Its lines are `{"type": "token", "side": "base"|"tuned", "text"}`.
    """

    def __init__(self) -> None:
        self._loaded: tuple[str, str] | None = None
        self._model: Any = None
        self._tokenizer: Any = None
        self._sight: Sight | None = None

    def answer(self, request: dict[str, Any], stopping: Callable[[], bool]) -> Iterator[dict[str, Any]]:
        """Stream `token` lines of the base's answer, then of the tuned model's."""
        self._load(request["model"], request["adapter"], request)
        asked = require_sight(_conversation(request["messages"]), self._sight)
        text = Renderer(self._tokenizer).text(asked.messages, asked, ask=True)
        prompt = Prompt.of(text, asked, self._sight)
        most, temperature = int(request["max_new_tokens"]), float(request["temperature"])
        for side in ("base", "tuned"):
            for piece in self._stream(side, prompt, most, temperature, stopping):
                yield {"type": "token", "side": side, "text": piece}

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
        self._sight = Sight.of(model_folder(model), self._tokenizer)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        dtype = DTYPES.get(request.get("base_precision", "auto"), torch.float32)
        quantise = request.get("quantise", "none")
        base = load_base(model_folder(model), dtype, quantise, device, request.get("trust_code", ""))
        self._model = PeftModel.from_pretrained(base, adapter).eval()
        if quantise == "none":  # else it lies there already
            self._model = self._model.to(device)
        self._loaded = (model, adapter)

    def _stream(
        self, side: Side, prompt: Prompt, most: int, temperature: float, stopping: Callable[[], bool]
    ) -> Iterator[str]:
        """Pieces of text as they are produced."""
        if side == "base":
            with self._model.disable_adapter():
                yield from self._decoded(prompt, most, temperature, stopping)
        else:
            yield from self._decoded(prompt, most, temperature, stopping)

    def _decoded(self, prompt: Prompt, most: int, temperature: float, stopping: Callable[[], bool]) -> Iterator[str]:
        ends, produced, text, shown = self._end_tokens(), list[int](), "", 0
        for token in self._tokens(prompt, most, temperature, stopping):
            if token not in ends:
                produced.append(token)
                text = self._tokenizer.decode(produced, skip_special_tokens=True)
            if not text.endswith("\ufffd"):  # a character whose bytes have not all come yet
                yield text[shown:]
                shown = len(text)
        yield text[shown:]

    def _tokens(self, prompt: Prompt, most: int, temperature: float, stopping: Callable[[], bool]) -> Iterator[int]:
        """Each token as soon as there is one: the library knows every family's caches and positions."""
        tokens = _Tokens()

        def produce() -> None:
            try:
                with torch.inference_mode():
                    self._model.generate(
                        **to_ask(self._tokenizer, [prompt], self._model.device),
                        max_new_tokens=most,
                        **({"do_sample": True, "temperature": temperature} if temperature else {"do_sample": False}),
                        top_k=0,
                        top_p=1.0,
                        pad_token_id=self._tokenizer.pad_token_id,
                        eos_token_id=sorted(self._end_tokens()),
                        streamer=tokens,
                        stopping_criteria=StoppingCriteriaList([lambda ids, _scores: _all(ids, stopping())]),
                    )
            finally:
                tokens.end()

        with ThreadPoolExecutor(1) as thread:
            work = thread.submit(produce)
            while (token := tokens.queue.get()) is not None:
                yield token
            work.result()

    def _end_tokens(self) -> set[int]:
        ends = self._model.generation_config.eos_token_id
        found = set(ends) if isinstance(ends, list) else {ends}
        return (found | {self._tokenizer.eos_token_id}) - {None}


class _Tokens(BaseStreamer):
    """Hands on the tokens that a model produces, without those of its prompt; None is the end."""

    def __init__(self) -> None:
        self.queue: queue.Queue[int | None] = queue.Queue()
        self._asked = False

    def put(self, value: torch.Tensor) -> None:
        if self._asked:
            self.queue.put(int(value))
        self._asked = True

    def end(self) -> None:
        self.queue.put(None)


def _conversation(messages: list[dict[str, Any]]) -> Sample:
    """The messages with their pictures before their text; raises `TrainError` for what is no picture."""
    place, turns, pictures = Place("the conversation", 0), list[Message](), list[Picture]()
    for message in messages:
        try:
            shown = [read_picture(each, "pictures") for each in message.get("pictures", ())]
        except RowError as error:
            raise TrainError(
                "picture-unreadable", f"A picture cannot be used: {error}", "Choose another one."
            ) from error
        turns.append({"role": message["role"], "content": PICTURE * len(shown) + message["content"]})
        pictures += shown
    return Sample("conversation", place, tuple(turns), pictures=tuple(pictures))


def _all(ids: torch.Tensor, value: bool) -> torch.Tensor:
    """The value for each row, as the library asks whether to go on."""
    return torch.full((len(ids),), value, device=ids.device)
