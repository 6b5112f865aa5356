"""The model card and the specification that lie with an adapter, written from what its run has recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from trainer.evaluation.words import IN_WORDS, figure
from trainer.export.origin import Origin, base_card, home_relative, model_fingerprint
from trainer.models.folder import model_type
from trainer.spec import RunSpec
from trainer.spec.setting import Section
from trainer.vision import classifies

CARD, SPECIFICATION = "README.md", "reproduce.yaml"
PINNED = ("device", "precision", "threads")  # settings whose value a rule chose, and which decide the last digits


def specification(origin: Origin) -> str:
    """The text of `reproduce.yaml`: what `fettle train` needs to make the same adapter again."""
    chosen = {f"training.{name}": yaml.safe_load(origin.choice(name)) for name in PINNED if origin.choice(name)}
    spec = origin.named.with_changes(chosen)
    versions = ", ".join(f"{name} {version}" for name, version in origin.versions.items())
    record = origin.record
    head = [
        "Trains this adapter again: fettle train reproduce.yaml",
        "On a CPU it comes out the same bit for bit, given the same data, model and environment:",
        f"  data         sha256 {record.get('data_fingerprint', 'unknown')}",
        f"  model        {model_fingerprint(origin.base)} (of its configuration and samples of its weights)",
        f"  environment  {record.get('generation', 'unknown')}, lock sha256 {record.get('lock_sha256', 'unknown')}",
        f"  versions     {versions}",
        f"  trainer      {record.get('trainer', 'unknown')}",
    ]
    text = "".join(f"# {line}\n" for line in head)
    return text + yaml.safe_dump(spec.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def card(origin: Origin, note: str = "", *, merged: bool = False) -> str:
    """The text of `README.md`: a head that the hub understands, and what a person wants to know. `note` ends the results."""
    parts = [
        _head(origin, merged=merged),
        f"# {origin.record['title']}\n\n{_about(origin, merged=merged)}",
        _results(origin, note),
        f"## Use\n\n```python\n{_snippet(origin, merged=merged)}```",
        _training(origin),
    ]
    return "\n\n".join(parts) + "\n"


def _head(origin: Origin, *, merged: bool) -> str:
    base = base_card(origin.base)
    head: dict[str, Any] = {
        "base_model": origin.base_id(),
        "base_model_relation": "finetune" if merged else "adapter",
        "library_name": "transformers" if merged else "peft",
        "pipeline_tag": "image-classification" if _tells_classes(origin) else "text-generation",
        "tags": ["lora", "fettle"],
        "datasets": [_data_id(origin)] if origin.named.data.train.startswith("hub:") else None,
        "license": base.get("license"),
        "language": base.get("language"),
    }
    known = {key: value for key, value in head.items() if value is not None}
    return f"---\n{yaml.safe_dump(known, sort_keys=False, allow_unicode=True)}---"


def _data_id(origin: Origin) -> str:
    return origin.named.data.train.removeprefix("hub:").split("@")[0].split(":")[0]


def _about(origin: Origin, *, merged: bool) -> str:
    what = "weights with a LoRA merged into them" if merged else "A LoRA adapter"
    rows = origin.record.get("rows")
    counted = f" ({rows:,} rows)" if rows else ""
    data = origin.named.data.train
    text = f"{what[0].upper()}{what[1:]}: `{origin.base_id()}`, tuned on `{Path(data).name or data}`{counted}"
    if _tells_classes(origin):
        return f"{text}. It tells classes of pictures apart; [config.json](config.json) names them."
    return f"{text}, with [{'chat_template.jinja'}](chat_template.jinja) as its chat template."


def _tells_classes(origin: Origin) -> bool:
    return classifies({"model_type": model_type(origin.base)})


def _results(origin: Origin, note: str) -> str:
    found = origin.evaluation
    if found is None:
        return f"## Results\n\nNot judged on held-out rows.{' ' + note if note else ''}"
    lines = [
        f"## Results\n\n{found['verdict']} On {found['rows']} held-out rows, with ranges of 95 %:\n",
        "| | Base | Tuned | Difference |",
        "|---|---|---|---|",
    ]
    for measure in found["measures"]:
        name = measure["name"]
        cells = [_ranged(name, measure[side], "+" * (side == "difference")) for side in ("base", "tuned", "difference")]
        lines.append(f"| {IN_WORDS[name]} | {' | '.join(cells)} |")
    return "\n".join(lines) + (f"\n\n{note}" if note else "")


def _ranged(name: str, interval: dict[str, float | None], sign: str) -> str:
    value, low, high = (figure(name, interval[key], sign) for key in ("value", "low", "high"))
    return f"{value} ({low} to {high})"


def _snippet(origin: Origin, *, merged: bool) -> str:
    base = origin.base_id() if "/" in origin.base_id() else home_relative(str(origin.base))
    where = f'os.path.expanduser("{base}")' if base.startswith("~") else f'"{base}"'
    if _tells_classes(origin):
        return _snippet_of_classes(where)
    lines = [
        "import os\n" if not merged and base.startswith("~") else "",
        "" if merged else "from peft import PeftModel\n",
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n",
        'folder = "."  # where this file lies\n',
        "tokenizer = AutoTokenizer.from_pretrained(folder)\n",
        "model = AutoModelForCausalLM.from_pretrained(folder)\n"
        if merged
        else f"model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained({where}), folder)\n",
        'asked = [{"role": "user", "content": "Hello!"}]\n',
        "inputs = tokenizer.apply_chat_template(",
        'asked, add_generation_prompt=True, return_tensors="pt", return_dict=True)\n',
        'inputs = {name: inputs[name] for name in ("input_ids", "attention_mask")}\n',
        'answer = model.generate(**inputs, max_new_tokens=128, do_sample=False)[0, inputs["input_ids"].shape[1] :]\n',
        "print(tokenizer.decode(answer, skip_special_tokens=True))\n",
    ]
    return "".join(lines)


def _snippet_of_classes(base: str) -> str:
    lines = [
        "import os\n\n" if base.startswith("os.") else "",
        "from peft import PeftModel\nfrom PIL import Image\n",
        "from transformers import AutoConfig, AutoModelForImageClassification\n",
        "from transformers.models.auto.image_processing_auto import AutoImageProcessor  # works without torchvision too\n\n",
        'folder = "."  # where this file lies\n',
        "config = AutoConfig.from_pretrained(folder)  # with the names of the classes\n",
        f"base = AutoModelForImageClassification.from_pretrained({base}, config=config, ignore_mismatched_sizes=True)\n",
        "model = PeftModel.from_pretrained(base, folder).eval()\n",
        'picture = Image.open("picture.jpg").convert("RGB")\n',
        'inputs = AutoImageProcessor.from_pretrained(folder, backend="pil")(picture, return_tensors="pt")\n',
        "print(config.id2label[model(**inputs).logits.argmax(-1).item()])\n",
    ]
    return "".join(lines)


def _training(origin: Origin) -> str:
    record = origin.record
    versions = ", ".join(f"{name} {version}" for name, version in origin.versions.items())
    facts = [
        ("Data", f"`{origin.named.data.train}`, SHA-256 `{record.get('data_fingerprint', 'unknown')}`"),
        ("Device", f"{origin.choice('device') or 'unknown'}, {origin.choice('precision') or 'unknown precision'}"),
        ("Hardware", origin.chosen.get("hardware", "unknown")),
        ("Versions", versions),
        ("Environment", f"`{record.get('generation', 'unknown')}`"),
    ]
    table = "\n".join(f"| {name} | {value} |" for name, value in facts)
    changed = "\n".join(f"| `{key}` | `{value}` |" for key, value in changed_settings(origin.named))
    return (
        f"## Training\n\n| | |\n|---|---|\n{table}\n\nSettings that differ from the defaults; all of them are in "
        f"[{SPECIFICATION}]({SPECIFICATION}), from which `fettle train` makes this adapter again:\n\n"
        f"| Setting | Value |\n|---|---|\n{changed}"
    )


def changed_settings(spec: Section, defaults: Section | None = None, path: str = "") -> list[tuple[str, Any]]:
    """The settings, as dotted keys, whose value is not the default."""
    defaults, found = defaults or RunSpec(), []
    for name, value in spec:
        usual = getattr(defaults, name)
        if isinstance(value, Section):
            found += changed_settings(value, usual, f"{path}{name}.")
        elif value != usual:
            found.append((f"{path}{name}", value))
    return found
