"""What is learned of a row, under templates with the traits of the published ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from trainer.data.masks import IGNORED, Encoded, Example, encode_all
from trainer.data.samples import Place, Sample
from trainer.errors import TrainError
from trainer.spec import Data

# Each has the traits of the model family it is named for; the wording is our own.
TURN = "{% for m in messages %}{{ '<|start|>' + m['role'] + '\n' + m['content'] | trim + '<|end|>' }}{% endfor %}"
ASK = "{% if add_generation_prompt %}{{ '<|start|>assistant\n' }}{% endif %}"
LLAMA3 = "{{ bos_token }}" + TURN + ASK
QWEN2 = (
    "{% if messages[0]['role'] != 'system' %}{{ '<|start|>system\nYou help.<|end|>\n' }}{% endif %}"
    "{% for m in messages %}{{ '<|start|>' + m['role'] + '\n' + m['content'] + '<|end|>\n' }}{% endfor %}" + ASK
)
QWEN3 = (
    "{% if tools %}{{ '<|start|>system\n' + tools | tojson + '<|end|>\n' }}{% endif %}"
    "{% for m in messages %}{{ '<|start|>' + m['role'] + '\n' }}"
    "{% set parts = m['content'].split('</think>') %}"
    "{% if m['role'] == 'assistant' and loop.last %}{{ '<think>\n' + (parts[0].replace('<think>', '') | trim if parts | length > 1 else '') + '\n</think>\n\n' }}{% endif %}"
    "{{ parts[-1] | trim }}"
    "{% for call in m['tool_calls'] or [] %}{{ '\n<tool_call>\n' + call['function'] | tojson + '\n</tool_call>' }}{% endfor %}"
    "{{ '<|end|>\n' }}{% endfor %}" + ASK
)
GEMMA = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Conversation roles must alternate user/assistant') }}{% endif %}"
    "{{ '<start_of_turn>' + ('model' if m['role'] == 'assistant' else m['role']) + '\n' + m['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
MISTRAL = (  # the system prompt and the tools stand before the last question
    "{{ bos_token }}{% set system = messages[0]['content'] if messages[0]['role'] == 'system' else '' %}"
    "{% set turns = messages[1:] if system else messages %}"
    "{% set asked = turns | selectattr('role', 'equalto', 'user') | list %}"
    "{% for m in turns %}{% if m['role'] == 'user' %}"
    "{{ '[INST]' + (system + '\n' if system and m == asked[-1] else '') + m['content'] + '[/INST]' }}"
    "{% else %}{{ ' ' + m['content'] + eos_token }}{% endif %}{% endfor %}"
)
GLM = (  # no end token: the next role's token ends an answer
    "{{ '[gMASK]' }}{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
HARMONY = (  # the last answer ends with another token than earlier ones
    "{% for m in messages %}{% if m['role'] == 'assistant' %}"
    "{{ '<|start|>assistant<|channel|>final<|message|>' + m['content'] + ('<|return|>' if loop.last else '<|end|>') }}"
    "{% else %}{{ '<|start|>' + m['role'] + '<|message|>' + m['content'] + '<|end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start|>assistant' }}{% endif %}"
)
PHI = (  # a second end token, only after the last turn
    "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
)
R1 = (  # asks with an opened thought, and strips every thought
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'assistant' %}"
    "{{ '<|assistant|>' + m['content'].split('</think>')[-1] + eos_token }}{% else %}{{ '<|user|>' + m['content'] }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|><think>\n' }}{% endif %}"
)
MARKED = (
    "{% for m in messages %}{% if m['role'] == 'assistant' %}{{ '<|start|>assistant\n' }}"
    "{% generation %}{{ m['content'] }}{% endgeneration %}{{ '<|end|>\n' }}"
    "{% else %}{{ '<|start|>' + m['role'] + '\n' + m['content'] + '<|end|>\n' }}{% endif %}{% endfor %}" + ASK
)
SPECIAL = (
    "<s> </s> <|start|> <|end|> <|return|> <|channel|> <|message|> <|user|> <|assistant|> <|system|> [gMASK] [INST] [/INST] "
    "<start_of_turn> <end_of_turn> <|im_start|> <|im_end|>"
).split()
TALK = [("user", "Hi"), ("assistant", "Hello."), ("user", "More?"), ("assistant", "Yes.")]


def make_tokenizer(
    folder: Path,
    template: str | None,
    stops: tuple[str, ...] = ("</s>", "<|end|>"),
    merges: tuple[tuple[str, str], ...] = (),
    **named: Any,
) -> Any:
    """A byte-level tokenizer of 256 bytes, some merges and the special tokens, in a model's folder of its own."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet()) + ["".join(pair) for pair in merges]
    backend = Tokenizer(models.BPE({token: n for n, token in enumerate(alphabet)}, list(merges)))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    names = {"bos_token": "<s>", "eos_token": "</s>"} | named
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, **{k: v for k, v in names.items() if v})
    tokenizer.add_special_tokens({"additional_special_tokens": [t for t in SPECIAL if t not in names.values()]})
    tokenizer.chat_template = template
    folder.mkdir(exist_ok=True)
    ends = [tokenizer.convert_tokens_to_ids(token) for token in stops]
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": ends}))
    tokenizer.name_or_path = str(folder)
    return tokenizer


def talk(*turns: tuple[str, str], tools: Any = (), kind: Any = "conversation") -> Sample:
    messages = tuple({"role": role, "content": content} for role, content in turns)
    return Sample(kind, Place("rows.jsonl", 1, 1), messages, tuple(tools))  # type: ignore[arg-type]


def learned(tokenizer: Any, example: Example) -> str:
    return tokenizer.decode([t for t, y in zip(example.ids, example.labels, strict=True) if y != IGNORED])


def encoded(tokenizer: Any, *samples: Sample, **settings: Any) -> Encoded:
    return encode_all(tokenizer, samples, Data(**settings))


def pieces(tokenizer: Any, *samples: Sample, **settings: Any) -> list[str]:
    """What is learned of each piece."""
    return [learned(tokenizer, example) for example in encoded(tokenizer, *samples, **settings).examples]


@pytest.mark.parametrize(
    ("template", "stops", "expected", "found"),
    [
        (LLAMA3, ["<|end|>"], ["Hello.<|end|>Yes.<|end|>"], set()),
        (QWEN2, ["<|end|>"], ["Hello.<|end|>Yes.<|end|>"], set()),
        (QWEN3, ["<|end|>"], ["<think>\n\n</think>\n\nYes.<|end|>", "<think>\n\n</think>\n\nHello.<|end|>"], {"split"}),
        (GEMMA, ["<end_of_turn>"], ["Hello.<end_of_turn>Yes.<end_of_turn>"], set()),
        (MISTRAL, ["</s>"], [" Hello.</s> Yes.</s>"], set()),
        (GLM, ["</s>", "<|user|>"], ["Hello.<|user|>Yes.</s>"], {"end-added"}),
        (
            HARMONY,
            ["<|return|>"],
            ["<|channel|>final<|message|>Yes.<|return|>", "<|channel|>final<|message|>Hello.<|return|>"],
            {"split"},
        ),
        (PHI, ["</s>", "<|end|>"], ["Hello.<|end|>Yes.<|end|>"], set()),
        (R1, ["</s>"], ["Hello.</s>Yes.</s>"], {"prompt-differs"}),
        (MARKED, ["<|end|>"], ["Hello.<|end|>Yes.<|end|>"], set()),
        (QWEN2, ["</s>"], ["Hello.<|end|>Yes.<|end|>"], {"end-missing"}),
    ],
    ids="llama3 qwen2 qwen3 gemma mistral glm harmony phi r1 marked wrong-end".split(),
)
def test_each_answer_is_learned_with_its_end_and_nothing_else(
    tmp_path: Path, template: str, stops: list[str], expected: list[str], found: set[str]
) -> None:
    tokenizer = make_tokenizer(tmp_path, template, tuple(stops))
    result = encoded(tokenizer, talk(*TALK))
    assert [learned(tokenizer, example) for example in result.examples] == expected
    assert set(result.findings.counts) == found


@pytest.mark.parametrize("template", [LLAMA3, QWEN2, QWEN3, GEMMA, MISTRAL, GLM, HARMONY, PHI], ids=str)
def test_what_precedes_a_learned_answer_is_what_the_model_will_be_asked_with(tmp_path: Path, template: str) -> None:
    tokenizer = make_tokenizer(tmp_path, template)
    (example,) = encoded(tokenizer, talk(*TALK), train_on="last").examples
    asked = tokenizer.apply_chat_template(
        [{"role": role, "content": content} for role, content in TALK[:-1]],
        add_generation_prompt=True,
        return_dict=False,
    )
    assert list(example.ids[: len(asked)]) == asked
    assert all(label == IGNORED for label in example.labels[: len(asked)])
    assert all(label != IGNORED for label in example.labels[len(asked) : len(asked) + 4])


def test_a_system_prompt_that_moves_to_the_last_question_splits_the_row(tmp_path: Path) -> None:
    tokenizer = make_tokenizer(tmp_path, MISTRAL, ("</s>",))
    result = encoded(tokenizer, talk(("system", "Be brief."), *TALK))
    assert [tokenizer.decode(example.ids) for example in result.examples] == [
        "<s>[INST]Hi[/INST] Hello.</s>[INST]Be brief.\nMore?[/INST] Yes.</s>",
        "<s>[INST]Be brief.\nHi[/INST] Hello.</s>",
    ]
    assert "rewrites earlier turns" in result.findings.lines()[0]
    assert "1 of 1 rows (100.0%; first rows.jsonl, line 1)" in result.findings.lines()[0]


def test_thoughts_are_learned_where_the_template_keeps_them_and_missed_aloud_where_not(tmp_path: Path) -> None:
    thinking = talk(("user", "2+2"), ("assistant", "<think>Easy.</think>4"))
    kept = encoded(make_tokenizer(tmp_path, QWEN3), thinking)
    assert "Easy." in learned(make_tokenizer(tmp_path, QWEN3), kept.examples[0]) and not kept.findings.counts
    lost = encoded(make_tokenizer(tmp_path, R1, ("</s>",)), thinking)
    assert set(lost.findings.counts) == {"answer-altered", "prompt-differs"}


def test_tool_calls_are_learned_and_tools_and_results_are_context(tmp_path: Path) -> None:
    tool = {"type": "function", "function": {"name": "weather", "parameters": {}}}
    call = {"type": "function", "function": {"name": "weather", "arguments": {"place": "Oslo"}}}
    turns = [{"role": "user", "content": "Rain?"}, {"role": "assistant", "content": "", "tool_calls": [call]},
             {"role": "tool", "content": "wet"}, {"role": "assistant", "content": "Yes."}]  # fmt: skip
    sample = Sample("conversation", Place("rows.jsonl", 1), tuple(turns), (tool,))  # type: ignore[arg-type]
    tokenizer = make_tokenizer(tmp_path, QWEN3)
    last, first = pieces(tokenizer, sample)
    assert "Yes." in last and "Oslo" not in last
    assert first.endswith("</tool_call><|end|>") and "Oslo" in first and "Rain" not in first
    assert pieces(tokenizer, sample, train_on="completion") == [last, first]
    ignoring = encoded(make_tokenizer(tmp_path, QWEN2), sample)
    assert "calls-ignored" in ignoring.findings.counts


@pytest.mark.parametrize(
    ("train_on", "expected"),
    [
        ("assistant", "Hello.<|end|>Yes.<|end|>"),
        ("last", "Yes.<|end|>"),
        ("completion", "Yes.<|end|>"),
        ("everything", "<|start|>user\nHi<|end|><|start|>assistant\nHello.<|end|><|start|>user\nMore?<|end|><|start|>assistant\nYes.<|end|>"),
    ],
)  # fmt: skip
def test_what_is_learned_can_be_chosen(tmp_path: Path, train_on: str, expected: str) -> None:
    assert pieces(make_tokenizer(tmp_path, LLAMA3), talk(*TALK), train_on=train_on) == [expected]


def test_a_role_order_that_the_template_refuses_is_told_with_its_words_and_place(tmp_path: Path) -> None:
    with pytest.raises(TrainError) as caught:
        encoded(make_tokenizer(tmp_path, GEMMA), talk(("user", "a"), ("user", "b"), ("assistant", "c")))
    assert caught.value.code == "template-refuses"
    assert caught.value.message.startswith("rows.jsonl, line 1: ") and "must alternate" in caught.value.message


def test_an_answer_before_any_question_is_context_where_it_cannot_be_asked_for(tmp_path: Path) -> None:
    result = encoded(make_tokenizer(tmp_path, QWEN2), talk(("assistant", "Welcome!"), *TALK))
    tokenizer = make_tokenizer(tmp_path, QWEN2)
    assert learned(tokenizer, result.examples[0]) == "Hello.<|end|>Yes.<|end|>"
    assert set(result.findings.counts) == {"opening"}


def test_a_base_model_gets_a_template_that_is_said_and_kept_on_its_tokenizer(tmp_path: Path) -> None:
    chatml = make_tokenizer(tmp_path, None, ("<|im_end|>",))
    result = encoded(chatml, talk(*TALK))
    assert learned(chatml, result.examples[0]) == "Hello.<|im_end|>Yes.<|im_end|>"
    assert "chatml" in result.template and "<|im_end|>" in chatml.chat_template
    plain = make_tokenizer(tmp_path, None, ("</s>",))
    assert pieces(plain, talk(*TALK), template="plain") == ["Hello.</s>Yes.</s>"]
    with pytest.raises(TrainError) as caught:
        encoded(make_tokenizer(tmp_path, None), talk(*TALK), template="model")
    assert caught.value.code == "template-missing"


def test_prompts_with_completions_reach_a_base_model_as_they_are(tmp_path: Path) -> None:
    tokenizer = make_tokenizer(tmp_path, None)
    sample = Sample("completion", Place("rows.jsonl", 1), prompt="2+2=", completion="4")
    (example,) = encoded(tokenizer, sample).examples
    assert (tokenizer.decode(example.ids), learned(tokenizer, example)) == ("2+2=4</s>", "4</s>")


def test_a_text_is_learned_whole_with_one_start_and_one_end(tmp_path: Path) -> None:
    tokenizer = make_tokenizer(tmp_path, None)
    (example,) = encoded(tokenizer, Sample("text", Place("a.txt", 1), text="Once.")).examples
    assert tokenizer.decode(example.ids) == "Once.</s>"
    assert learned(tokenizer, example) == "nce.</s>"  # nothing stands before the first token


def test_a_text_that_is_cut_loses_no_answer_and_needs_no_template(tmp_path: Path) -> None:
    result = encoded(
        make_tokenizer(tmp_path, None), Sample("text", Place("a.txt", 1), text="Once. " * 9), max_length=16
    )
    assert set(result.findings.counts) == {"row-cut"} and "plain text need none" in result.template


def test_a_token_across_the_end_of_the_prompt_is_learned_and_told(tmp_path: Path) -> None:
    tokenizer = make_tokenizer(tmp_path, None, merges=(("Ġ", "4"),))
    result = encoded(tokenizer, Sample("completion", Place("rows.jsonl", 1), prompt="2+2= ", completion="4"))
    assert learned(tokenizer, result.examples[0]) == " 4</s>"
    assert set(result.findings.counts) == {"merged"}


def test_characters_of_several_bytes_keep_all_their_tokens(tmp_path: Path) -> None:
    tokenizer = make_tokenizer(tmp_path, LLAMA3)
    assert pieces(tokenizer, talk(("user", "é🎉"), ("assistant", "🎉 é"))) == ["🎉 é<|end|>"]


def test_a_tokenizer_without_an_end_token_is_refused_for_templates_that_need_one(tmp_path: Path) -> None:
    with pytest.raises(TrainError) as caught:
        encoded(make_tokenizer(tmp_path, None, eos_token=None), talk(*TALK), template="plain")
    assert caught.value.code == "template-tokens"


def test_two_start_tokens_and_special_tokens_in_a_text_are_told(tmp_path: Path) -> None:
    tokenizer = make_tokenizer(tmp_path, "{{ bos_token }}" + LLAMA3)
    assert set(encoded(tokenizer, talk(("user", "<|end|>"), ("assistant", "x"))).findings.counts) == {
        "bos-twice",
        "special-in-text",
    }


def test_cuts_are_counted_with_the_answers_that_they_take(tmp_path: Path) -> None:
    tokenizer = make_tokenizer(tmp_path, LLAMA3)
    long = talk(("user", "x"), ("assistant", "y" * 100), ("user", "z"), ("assistant", "w"))
    (cut,) = encoded(tokenizer, long, max_length=60).examples
    assert (len(cut.ids), cut.dropped_turns) == (60, 2) and cut.cut > 50
    (late,) = encoded(tokenizer, long, max_length=60, truncation="start").examples
    assert learned(tokenizer, late).endswith("w<|end|>") and late.labels[0] == IGNORED
    assert late.dropped_turns == 1
    result = encoded(tokenizer, long, talk(*TALK), max_length=80, truncation="drop")
    assert len(result.examples) == 1 and result.findings.counts == {"row-too-long": 1}
    assert set(encoded(tokenizer, long, max_length=60).findings.counts) == {"row-cut", "answers-lost"}


def test_a_set_of_which_nothing_would_be_learned_is_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(TrainError) as caught:
        encoded(make_tokenizer(tmp_path, LLAMA3), talk(("user", "x" * 90), ("assistant", "y")), max_length=50)
    assert caught.value.code == "nothing-scored" and "longer than `data.max_length`" in caught.value.message


def test_after_a_tool_call_learning_ends_at_the_end_token_and_not_at_an_earlier_special_one(tmp_path: Path) -> None:
    template = TURN.replace(
        "'<|end|>'", "('<|message|>' if m['role'] == 'assistant' else '') + '<|end|>' + '<|channel|>'"
    )
    tokenizer = make_tokenizer(tmp_path, template + ASK, ("<|end|>",))
    assert pieces(tokenizer, talk(*TALK[:2])) == ["Hello.<|message|><|end|>"]


def test_a_token_across_the_end_of_the_answer_is_learned(tmp_path: Path) -> None:
    template = (
        "{% for m in messages %}{{ m['role'] + ':' }}{% if m['role'] == 'assistant' %}"
        "{% generation %}{{ m['content'] }}{% endgeneration %}{{ '! ' }}{% else %}{{ m['content'] + ' ' }}{% endif %}{% endfor %}"
    )
    tokenizer = make_tokenizer(tmp_path, template, merges=((".", "!"),))
    assert pieces(tokenizer, talk(*TALK[:2])) == ["Hello.!"]


def test_start_and_end_tokens_that_a_text_already_has_are_not_doubled(tmp_path: Path) -> None:
    tokenizer = make_tokenizer(tmp_path, None)
    begun = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", tokenizer.bos_token_id)])
    tokenizer.backend_tokenizer.post_processor = begun
    texts = [Sample("text", Place("a.txt", n), text=text) for n, text in enumerate(("Once.", "<s>Once.</s>"))]
    result = encoded(tokenizer, *texts)
    assert [tokenizer.decode(example.ids) for example in result.examples] == ["<s>Once.</s>"] * 2
    assert [learned(tokenizer, example) for example in result.examples] == ["Once.</s>"] * 2
