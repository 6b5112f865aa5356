"""Chat templates: which one a run uses, and what it makes of a conversation."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from jinja2 import Environment, TemplateSyntaxError
from transformers.utils.chat_template_utils import render_jinja_template

from trainer.data.samples import PICTURE, Message, Place, Sample
from trainer.data.time_limit import TooLong, at_most
from trainer.errors import TrainError

# Begun with the start token where the tokenizer begins texts with it. No generation markers: not every engine that
# will read the saved template knows them, and these are easily told apart without.
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
PLAIN = (
    "{% for message in messages %}{{ message['role'].capitalize() + ':\\n' + message['content'] }}"
    "{{ eos_token if message['role'] == 'assistant' }}{{ '\\n\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:\\n' }}{% endif %}"
)
RAW = (
    "{% for message in messages %}{{ message['content'] }}{{ eos_token if message['role'] == 'assistant' }}{% endfor %}"
)

_TEXTS = {"chatml": CHATML, "plain": PLAIN, "raw": RAW}
_MARKER = re.compile(r"\{%-?\s*generation\s*-?%\}")
# A row takes milliseconds; whatever needs this long does not end.
RENDER_SECONDS = 10.0
PROBE = "probe"
ROLES_SAID = 5  # of a conversation that is refused
Span = tuple[int, int]


def settle_template(tokenizer: Any, samples: Sequence[Sample], choice: str) -> str:
    """Give the tokenizer the template that the run uses, so that it is saved with the adapter; says which and why.

    Raises `TrainError` when the choice cannot work with this tokenizer.
    """
    own = bool(tokenizer.chat_template)
    if choice == "model" and not own:
        raise TrainError(
            "template-missing",
            "The model's tokenizer has no chat template, so it is unknown how a conversation looks to it.",
            "Set `data.template` to `auto`, or add a `chat_template.jinja` to the model's folder.",
        )
    if choice in ("auto", "model") and own:
        return "The model's own chat template."
    if choice == "auto":
        choice, why = _for_a_base_model(tokenizer, samples)
    else:
        why = "as `data.template` asks"
    _require_tokens(tokenizer, choice)
    start = "{{ bos_token }}" if begins_with_bos(tokenizer) else ""
    tokenizer.chat_template = start + _TEXTS[choice]
    return f"Template `{choice}`: {why}. It is saved with the adapter."


def _for_a_base_model(tokenizer: Any, samples: Sequence[Sample]) -> tuple[str, str]:
    if samples and all(sample.kind == "text" for sample in samples):
        return "raw", "the model has none, and rows of plain text need none"
    if samples and all(sample.kind != "conversation" for sample in samples):
        return "raw", "the model has none, and the rows are prompts with their completions"
    if _is_one_token(tokenizer, "<|im_start|>") and _is_one_token(tokenizer, "<|im_end|>"):
        return "chatml", "the model has none, and its tokenizer knows the tokens of ChatML"
    return "plain", "the model has none"


def _require_tokens(tokenizer: Any, choice: str) -> None:
    missing = [token for token in ("<|im_start|>", "<|im_end|>") if not _is_one_token(tokenizer, token)]
    if choice == "chatml" and missing:
        raise TrainError(
            "template-tokens",
            f"data.template: the tokenizer has no token {missing[0]}, which ChatML needs.",
            "Set `data.template` to `plain`.",
        )
    if choice != "chatml" and tokenizer.eos_token is None:
        raise TrainError(
            "template-tokens",
            f"data.template: the tokenizer has no end token, so with `{choice}` the tuned model would never stop.",
            "Use a model whose tokenizer names its `eos_token`.",
        )


def _is_one_token(tokenizer: Any, text: str) -> bool:
    return len(tokenizer(text, add_special_tokens=False)["input_ids"]) == 1 and text in tokenizer.get_vocab()


def begins_with_bos(tokenizer: Any) -> bool:
    """Whether the tokenizer puts its start token before every text."""
    ids = tokenizer("")["input_ids"]
    return bool(ids) and tokenizer.bos_token_id is not None and ids[0] == tokenizer.bos_token_id


class Renderer:
    """Renders conversations with the tokenizer's template; never runs anything but the sandboxed template."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._tokens = {name: token for name, token in tokenizer.special_tokens_map.items() if isinstance(token, str)}
        self._templates: dict[bool, str] = {}
        self._in_parts: dict[str, bool] = {}
        self.dated = "strftime_now" in str(tokenizer.chat_template)

    def marked(self, with_tools: bool) -> bool:
        """Whether the template itself marks what is generated."""
        return bool(_MARKER.search(self._template(with_tools)))

    def text(self, messages: Sequence[Message], sample: Sample, *, ask: bool = False) -> str:
        """The conversation as text; with `ask`, up to where the next answer begins. Raises `TrainError`."""
        rendered, _ = self._render(messages, sample, add_generation_prompt=ask)
        text: str = rendered[0]
        return text

    def text_and_marks(self, messages: Sequence[Message], sample: Sample) -> tuple[str, list[Span]]:
        """The conversation as text, and the spans between the template's generation markers."""
        rendered, marks = self._render(messages, sample, return_assistant_tokens_mask=True)
        return rendered[0], [(start, end) for start, end in marks[0] if end > start]

    def _template(self, with_tools: bool) -> str:
        if with_tools not in self._templates:
            template = self._tokenizer.get_chat_template(tools=[] if with_tools else None)
            _refuse_powers(template)
            self._templates[with_tools] = template
        return self._templates[with_tools]

    def _render(self, messages: Sequence[Message], sample: Sample, **options: Any) -> Any:
        template = self._template(bool(sample.tools))
        tools = list(sample.tools) or None
        turns: list[Any] = list(messages)
        if sample.pictures or self._wants_parts(template):
            turns = [{**turn, "content": _in_parts(turn["content"])} for turn in messages]
        try:
            with at_most(RENDER_SECONDS):
                return render_jinja_template([turns], tools, None, template, **options, **self._tokens)
        except Exception as error:  # a template is somebody's program: it can fail in any way
            raise _refusal(error, messages, sample.place) from error

    def _wants_parts(self, template: str) -> bool:
        """Whether the template loses texts that are no lists of parts, as those of models that see may do."""
        if template not in self._in_parts:
            shown = {parts: self._shows(template, parts=parts) for parts in (False, True)}
            self._in_parts[template] = shown[True] and not shown[False]
        return self._in_parts[template]

    def _shows(self, template: str, *, parts: bool) -> bool:
        content = _in_parts(PROBE) if parts else PROBE
        try:
            with at_most(RENDER_SECONDS):
                turns = [[{"role": "user", "content": content}]]
                return PROBE in render_jinja_template(turns, None, None, template, **self._tokens)[0][0]
        except Exception:  # told where a row is rendered
            return False


def _in_parts(content: str) -> list[dict[str, str]]:
    """A text with signs for pictures as the parts that templates of models that see expect."""
    pieces = content.split(PICTURE)
    parts = [[{"type": "text", "text": piece}] if piece else [] for piece in pieces]
    found = [part for piece in parts for part in ({"type": "image"}, *piece)][1:]
    return found or [{"type": "text", "text": ""}]


def _refuse_powers(template: str) -> None:
    """A power of constants is computed when the template is compiled, at one go, where no limit of time reaches it."""
    try:
        tokens = [text for _, kind, text in Environment().lex(template) if kind not in ("whitespace", "string")]
    except TemplateSyntaxError:
        return  # told where it is rendered
    if any(text == "**" and before not in ("(", ",") for before, text in pairwise(tokens)):
        raise TrainError(
            "template-refuses",
            "The model's chat template computes powers, which no conversation needs and which may take for ever.",
            "Look at the template in the model's folder, or choose another `data.template`.",
        )


def _refusal(error: Exception, messages: Sequence[Message], place: Place) -> TrainError:
    if isinstance(error, TooLong):
        return TrainError(
            "template-refuses",
            f"{place}: the model's chat template did not come to an end within {RENDER_SECONDS:g} s, so it was stopped.",
            "Look for a loop in the template in the model's folder, or choose another `data.template`.",
        )
    if isinstance(error, TemplateSyntaxError):
        return TrainError(
            "template-refuses",
            f"The model's chat template is broken in its line {error.lineno}: {error.message}",
            "Fetch the model again, or choose another `data.template`.",
        )
    roles = [message["role"] for message in messages[:ROLES_SAID]] + ["…"] * (len(messages) > ROLES_SAID)
    said = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
    return TrainError(
        "template-refuses",
        f"{place}: the model's chat template does not take this conversation ({', '.join(roles)}): {said}",
        "Change the row to what the template asks for, remove it, or choose another `data.template`.",
    )
