"""Write docs/settings.md and docs/commands.md from the code: `python docs/generate.py`; `--check` only compares.

Standard library and the app's own modules. The same code gives the same text on every machine.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import typer.main

from app.cli import cli
from trainer.spec import RunSpec
from trainer.spec.presets import PRESETS

DOCS = Path(__file__).parent
NOTE = "<!-- Written by docs/generate.py; change the code, then run it. -->"
NONE = "-"

SETTINGS_HEAD = f"""# Settings of a run

{NOTE}

Every setting of `trainer.spec.RunSpec`. The form in the window, a YAML file for `fettle train`, `--set key=value`
and the record of a run all use these keys. In a YAML file a key with a dot is a section:

```yaml
model: path/to/model
data:
  train: rows.jsonl
lora:
  rank: 8
```

A key that is not listed here is refused (`setting-unknown` in `--set`, `setting-invalid` in a file), and so is a
value outside its range (`setting-invalid`). The window shows the advanced ones after a switch.
"""

DEVICES = ("cpu", "cuda", "mps")

TRAINING_HEAD = f"""# Training

{NOTE}

How to start a run is in [commands.md](commands.md), what each setting does in [settings.md](settings.md). This page
says what a run does with its checkpoints and its memory, and on which device each setting acts.

## Pause, stop, crash

| What happens | What is left | How it goes on |
|---|---|---|
| `fettle runs pause ID`, SIGTERM | a checkpoint; the process has ended, so the device is free | `fettle runs resume ID` |
| `fettle runs stop ID`, Ctrl-C | the adapter, and a checkpoint | `fettle runs resume ID` |
| killed, power lost | the newest checkpoint, at most `training.checkpoint_every` steps or five minutes old | `fettle runs resume ID` |
| the disk is full at a checkpoint | a warning; the run goes on, the checkpoint before it stays | |
| the disk is full at the adapter | `disk-full`, and a checkpoint of the last step | free some space, `fettle runs resume ID` |
| the loss or its gradient is no number | `loss-not-finite` with step and layer, before the weights take it in; the last good checkpoint | with a lower rate, as a new run |

A checkpoint (`checkpoints/step-NNNNNN/`) holds the trained weights in full precision, the state of the optimiser,
every random state, and the place in the order of rows, as safetensors and JSON. It is written aside by a thread, made durable,
hashed and renamed. The newest whole one is found by its hashes; a damaged one is skipped with a warning. On a CPU
a run that went on ends with the same adapter, bit for bit, as one that nobody interrupted. On a GPU that needs
`training.deterministic`, and has not been measured. Data that was changed in between is refused (`data-changed`).

## Memory

`training.batch_size` times `training.gradient_accumulation` rows make a step, whatever fits into memory at once. Before the
first step a run predicts what a step of its longest rows holds, from the sizes in `config.json` and in the headers of
the weights ([`trainer/memory`](../trainer/memory)): the process, weights, adapter, its gradients and the optimiser's
state, activations, logits. With `training.micro_batch_size` empty it takes the most rows at once that fit into 90 % of what
is free (within the limit of a container), and where one row does not fit, computes activations twice.

Where the step fits even if nothing that is freed is given back, that is all. Where it is closer, freed memory is given back
to the system at once from then on, which is slower, and one step is measured before the first and changes the choice if
the prediction was wrong; no bit of the run depends on it. Prediction and measurement stand in the run's record and
on its page. On 14 models of 8 to 160 million parameters of five families, fp32 and bf16, seven of them not looked at
while the formulas were made, they were 4 % apart at most, 9 % at rank 256, when freed memory is given back at once; without, a
process held up to 1.6 times as much, and with recomputation up to 3.3 times. A family that was not counted is predicted as a
Llama and called rough. The figures for GPUs follow the same formulas and have not been measured.

| When memory runs out all the same | Then |
|---|---|
| on a GPU | half as many rows are computed at once, and the step is begun again whole; at one row activations are computed twice. A warning says so. |
| on Linux, where the system kills the process | its parent starts it again from the newest checkpoint with half as many rows at once, at most five times, and a warning says so |
| on Linux, killed by a person | nothing; it stays as it is until `fettle runs resume ID` |
| on other systems | let it go on with `fettle runs resume ID` |

The two kills on Linux are told apart by the kernel's count of kills for want of memory (of the control group, else of the
machine), which the parent reads every two seconds: a kill is for want of memory if the count has risen in the last half
minute, which a large process may take to end. A program
in user space that kills by its own judgement does not count, and ends the run. Only steps become smaller: a run
that is killed while it loads its model or judges fails with `out-of-memory`.

## Where each setting acts

A setting that was changed and does nothing on the run's device is refused with `device-setting`. Two depend on
their value: `optimizer.kind` `adamw-8bit` acts on CPU and CUDA, `adamw-8bit-paged` on CUDA only; `training.precision` `fp16`
does not act on a CPU. `training.compile` needs a C++ compiler on a CPU.
"""

PRESETS_HEAD = "`fettle train --preset NAME`; `--set` goes over it."

COMMANDS_HEAD = f"""# Commands

{NOTE}

Everything in the window has a command. From a checkout write `./fettle` (on Windows `fettle.cmd`).

## Exit statuses

| Status | Meaning |
|---|---|
| 0 | Done. A run that was stopped and kept its adapter counts as done. |
| 1 | Failed: one message, what to do, and a code in brackets on standard error, or with `--json` one line `{{"type": "failed", "code", "message", "remedy"}}` on standard output. The codes are in [troubleshooting.md](troubleshooting.md). `fettle env status` and `fettle doctor` report an unsound environment with 1. |
| 2 | The command line was not understood. |
| 130 | Interrupted, or the installation was cancelled. |

The first Ctrl-C on `fettle train` or `fettle env install` asks the operation to stop and waits for it; the second leaves
at once while it goes on stopping.
"""


def main(arguments: list[str]) -> int:
    """Write both pages, or with `--check` only say which is stale; returns 1 when one is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit status 1 when a page is stale")
    check = parser.parse_args(arguments).check
    stale = [name for name, text in pages().items() if _read(DOCS / name) != text]
    for name in stale:
        if check:
            print(f"docs/{name} is not what docs/generate.py would write", file=sys.stderr)
        else:
            (DOCS / name).write_text(pages()[name], encoding="utf-8", newline="\n")
            print(f"docs/{name} written")
    return 1 if check and stale else 0


def pages() -> dict[str, str]:
    """The generated pages by file name."""
    return {"settings.md": settings(), "commands.md": commands(), "training.md": training()}


def training() -> str:
    """How a run goes, and on which device each of its settings acts."""
    schema = RunSpec.model_json_schema()
    fields = [
        (f"{key}.{name}" if "$ref" in part else key, field)
        for key, part in schema["properties"].items()
        for name, field in _fields(schema, part).items()
    ]
    rows = [
        [f"`{key}`", field["title"], *("yes" if each in field["acts_on"] else "refused" for each in DEVICES)]
        for key, field in fields
    ]
    presets = [
        [f"`{name}`", about, ", ".join(f"`{key}={value}`" for key, value in changes.items())]
        for name, (about, changes) in PRESETS.items()
    ]
    acts = _table(["Setting", "Name", *DEVICES], rows)
    return f"{TRAINING_HEAD}\n{acts}\n## Presets\n\n{PRESETS_HEAD}\n\n{_table(['Preset', 'For', 'Sets'], presets)}"


def _fields(schema: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    """The fields of a section, or the one that stands by itself."""
    properties: dict[str, Any] = (
        schema["$defs"][part["$ref"].rpartition("/")[2]]["properties"] if "$ref" in part else {"": part}
    )
    return properties


def settings() -> str:
    """The page of all settings, one table a section."""
    schema = RunSpec.model_json_schema()
    top = {key: field for key, field in schema["properties"].items() if "$ref" not in field}
    parts = [SETTINGS_HEAD, _section("The run", schema["description"], "", top)]
    for key, field in schema["properties"].items():
        if "$ref" in field:
            section = schema["$defs"][field["$ref"].rpartition("/")[2]]
            parts.append(_section(section["title"], section["description"], f"{key}.", section["properties"]))
    return "\n".join(parts)


def _section(title: str, about: str, prefix: str, fields: dict[str, Any]) -> str:
    rows = [
        [
            f"`{prefix}{key}`",
            _shown(field.get("default")),
            _range(field),
            field.get("unit") or NONE,
            f"{field['title']}. {field['description']}",
            field["level"],
        ]
        for key, field in fields.items()
    ]
    table = _table(["Key", "Default", "Range", "Unit", "Consequence", "Level"], rows)
    return f"## {title}\n\n{about}\n\n{table}"


def _range(field: dict[str, Any]) -> str:
    """The values a setting takes, in words."""
    kinds = field.get("anyOf", [field])
    found = [_range_of(kind) for kind in kinds if kind.get("type") != "null"]
    return " or ".join([*found, *(["empty"] if len(found) < len(kinds) else [])])


def _range_of(kind: dict[str, Any]) -> str:
    if "enum" in kind:
        return ", ".join(f"`{value}`" for value in kind["enum"])
    if kind["type"] == "boolean":
        return "`true`, `false`"
    if kind["type"] == "string":
        return f"text of at most {kind['maxLength']} characters" if "maxLength" in kind else "text"
    words = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "to", "exclusiveMaximum": "below"}
    limits = [f"{word} {_number(kind[name])}" for name, word in words.items() if name in kind]
    return " ".join(["whole number" if kind["type"] == "integer" else "number", *limits])


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)


def commands() -> str:
    """The page of all commands, in the order of the command line's own help."""
    root = typer.main.get_command(cli)
    return "\n".join([COMMANDS_HEAD, *(_command(path, command) for path, command in _walk("fettle", root))])


def _walk(path: str, command: Any) -> Iterator[tuple[str, Any]]:
    yield path, command
    for name, child in getattr(command, "commands", {}).items():
        yield from _walk(f"{path} {name}", child)


def _command(path: str, command: Any) -> str:
    listed = [each for each in command.params if each.name != "help"]
    arguments = [each for each in listed if each.param_type_name == "argument"]
    rows = [
        [f"`{_spelling(each)}`", _accepts(each), _default(each), each.help or NONE]
        for each in sorted(listed, key=arguments.__contains__, reverse=True)
    ]
    usage = [
        path,
        *(_placeholder(each) for each in arguments),
        *(["[OPTIONS]"] if len(listed) > len(arguments) else []),
    ]
    usage += ["COMMAND"] if getattr(command, "commands", None) else []
    usage += ["[ARGUMENTS]..."] if command.context_settings.get("allow_extra_args") else []
    table = _table(["Argument or option", "Takes", "Default", "Meaning"], rows) if rows else ""
    return f"## {path}\n\n{command.help}\n\n```text\n{' '.join(usage)}\n```\n" + (f"\n{table}" if table else "")


def _placeholder(argument: Any) -> str:
    name = str(argument.name).upper()
    return name if argument.required else f"[{name}]"


def _spelling(parameter: Any) -> str:
    return _placeholder(parameter) if parameter.param_type_name == "argument" else ", ".join(parameter.opts)


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    return NONE if getattr(parameter, "is_flag", False) else _shown(parameter.default)


def _accepts(parameter: Any) -> str:
    """What may stand for a parameter, in words."""
    if getattr(parameter, "is_flag", False):
        return "nothing"
    kind = parameter.type_descriptor.annotation
    if get_origin(kind) is list:
        (kind,) = get_args(kind)
    if get_origin(kind) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(kind))
    words = {str: "text", int: "whole number", float: "number", Path: "path"}[kind]
    if parameter.min is not None and parameter.max is not None:
        words += f" from {_number(parameter.min)} to {_number(parameter.max)}"
    return words + (", may be repeated" if parameter.multiple else "")


def _shown(value: Any) -> str:
    """A default as it is written in YAML; nothing as a dash."""
    if value is None or value == "" or value == []:
        return NONE
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
