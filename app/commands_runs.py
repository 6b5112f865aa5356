"""`fettle train`, `fettle runs …` and `fettle chat`."""

from __future__ import annotations

import asyncio
import time
from base64 import b64encode
from mimetypes import guess_type
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from pydantic import ValidationError

from app.api.schema import ChatMessage, ChatRequest, OperationView
from app.commands_env import JsonFlag, pairs
from app.errors import AppError
from app.models import recommended_for
from app.operations import Operations
from app.paths import open_home
from app.terminal import Display, duration, evaluation_lines, fail, say_json
from app.worker import Worker, chat_line, chat_request
from trainer.spec import RunSpec
from trainer.spec.presets import PRESETS

RunArgument = Annotated[str, typer.Argument(help="The run's id, as `fettle runs list` shows it.")]
runs = typer.Typer(help="Past and present runs.", no_args_is_help=True)


def train(
    spec_file: Annotated[Path | None, typer.Argument(help="A YAML file with the whole specification.")] = None,
    model: Annotated[str | None, typer.Option(help="A model folder, or `starter`.")] = None,
    data: Annotated[str | None, typer.Option(help="A JSONL or JSON file, or `ticket` or `calendar`.")] = None,
    output: Annotated[Path | None, typer.Option(help="The run's folder; the adapter lands in its `adapter/`.")] = None,
    preset: Annotated[str | None, typer.Option(help=f"A set of settings: {', '.join(PRESETS)}.")] = None,
    eval: Annotated[str | None, typer.Option("--eval", help="Held-out rows in the same form.")] = None,
    set: Annotated[list[str], typer.Option("--set", help="Any setting, as in lora.rank=8.")] = [],  # noqa: B006 - typer wants a list
    json: JsonFlag = False,
) -> None:
    """Fine-tune a model with LoRA and keep the adapter."""
    spec = read_spec(spec_file, model, data, eval, pairs(set), preset)
    operations = Operations(open_home())
    display = Display(as_json=json)
    started = operations.start_run(spec, output)
    display.line(f"Run {started.id} in {started.folder}")
    _tell_end(display, started.id, display.watch(operations, started))


def _tell_end(display: Display, run: str, last: dict[str, Any]) -> None:
    """What a run has left, and what can be done next."""
    said = {"stopped": "Stopped", "paused": "Paused"}.get(last["type"], "Done")
    display.line(f"{said} after {duration(last['train_seconds'])} of training.")
    if last["type"] == "paused":
        display.line(f"Next: fettle runs resume {run}")
    elif last["adapter"]:  # not where it was stopped before the trainer began
        next_step = f"fettle runs show {run}" if last.get("unit") == "pictures" else f"fettle chat {run} 'your prompt'"
        display.line(f"Adapter: {last['adapter']}\nNext: {next_step}")


def read_spec(
    spec_file: Path | None,
    model: str | None,
    data: str | None,
    held_out: str | None,
    changes: dict[str, str],
    preset: str | None,
) -> RunSpec:
    """The specification from a file, the options, a preset and `--set`, in that order; raises `AppError` for what is not one."""
    tree: dict[str, Any] = {}
    if spec_file:
        tree = _read_yaml(spec_file)
    try:
        spec = RunSpec.model_validate(tree)
        named = {"model": model, "data.train": data, "data.held_out": held_out}
        spec = spec.with_changes({key: value for key, value in named.items() if value is not None})
        if not spec_file:
            spec = spec.with_changes(recommended_for(spec.model))
        if preset is not None:
            spec = spec.with_changes(_preset(preset))
        spec = spec.with_changes({key: yaml.safe_load(text) for key, text in changes.items()})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise AppError(
            "setting-invalid", f"{where}: {first['msg']} (got {first['input']!r}).", "Correct the value."
        ) from error
    except ValueError as error:
        raise AppError("setting-unknown", str(error), "The settings are listed in docs/settings.md.") from error
    if not spec.model or not spec.data.train:
        raise AppError(
            "spec-incomplete", "A run needs a model and data.", "Add --model and --data, or name a specification file."
        )
    return spec


def _preset(name: str) -> dict[str, Any]:
    if name not in PRESETS:
        raise AppError("preset-unknown", f"There is no preset '{name}'.", f"Choose one of {', '.join(PRESETS)}.")
    return PRESETS[name][1]


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise AppError("spec-unreadable", f"{path}, line {line}: {error.problem}.", "Correct the file.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise AppError("spec-unreadable", f"{path} cannot be read: {error}.", "Name a YAML file.") from error
    if not isinstance(tree, dict):
        raise AppError("spec-unreadable", f"{path} is not a specification.", "Write settings as `key: value`.")
    return tree


@runs.command("list")
def list_runs(json: JsonFlag = False) -> None:
    """All runs, newest first."""
    for view in _views():
        if json:
            say_json(view.model_dump(mode="json"))
        else:
            print(f"{view.id}  {view.state:9}  {_ago(view.created):>10}  {_result(view)}  {view.title}")


@runs.command()
def show(run: RunArgument, json: JsonFlag = False) -> None:
    """One run, whole."""
    view = Operations(open_home()).get(run).view()
    if json:
        say_json(view.model_dump(mode="json"))
        return
    print(f"{view.id}  {view.state}\n{view.title}\n{_result(view)}")
    if view.train:
        print(
            f"folder: {view.train.folder}\nadapter: {view.train.adapter or 'none'}\nenvironment: {view.train.generation}"
        )
    if view.train and view.train.evaluation and view.train.evaluation.verdict:
        rows = view.train.evaluation.rows
        print(f"\non {rows} held-out rows:", *evaluation_lines(view.train.evaluation), sep="\n")
        print(f"\nthe rows it does worst on: {Path(view.train.folder) / 'evaluation.json'}")
    if view.problem:
        print(f"!! {view.problem.message}\n   {view.problem.remedy}  [{view.problem.code}]")


@runs.command()
def stop(run: RunArgument, json: JsonFlag = False) -> None:
    """Ask a run to end after its present step and keep its adapter."""
    view = Operations(open_home()).stop(run).view()
    if json:
        say_json(view.model_dump(mode="json"))
    else:
        print(
            f"{run}: asked to stop."
            if view.state in ("running", "starting")
            else f"{run} has already ended ({view.state})."
        )


@runs.command()
def pause(run: RunArgument, json: JsonFlag = False) -> None:
    """Ask a run to write a checkpoint after its present step and end, so that the device is free."""
    view = Operations(open_home()).pause(run).view()
    if json:
        say_json(view.model_dump(mode="json"))
    elif view.state in ("running", "starting"):
        print(f"{run}: asked to pause. Next: fettle runs resume {run}")
    else:
        print(f"{run} has already ended ({view.state}).")


@runs.command()
def resume(run: RunArgument, json: JsonFlag = False) -> None:
    """Let a run go on that was paused, stopped or killed, from its newest whole checkpoint."""
    operations = Operations(open_home())
    display = Display(as_json=json)
    before = operations.get(run).last_sequence
    resumed = operations.resume_run(run)
    _tell_end(display, run, display.watch(operations, resumed, after=before))


def chat(
    run: Annotated[str, typer.Argument(help="The run whose adapter answers beside its base.")],
    prompt: Annotated[str, typer.Argument(help="What to ask.")],
    picture: Annotated[
        list[Path],
        typer.Option(exists=True, dir_okay=False, help="A picture that belongs to the question; several may be given."),
    ] = [],  # noqa: B006 - typer wants a list
    max_new_tokens: Annotated[int, typer.Option(min=1, max=4096, help="The longest answer, in tokens.")] = 128,
    temperature: Annotated[float, typer.Option(min=0.0, max=2.0, help="0 always takes the likeliest token.")] = 0.0,
    json: JsonFlag = False,
) -> None:
    """Ask the base and the tuned model the same."""
    operations = Operations(open_home())
    request = ChatRequest(
        run=run,
        messages=[ChatMessage(role="user", content=prompt, pictures=[_data_url(file) for file in picture])],
        max_new_tokens=max_new_tokens,
        temperature=temperature,
    )
    asyncio.run(_chat(operations, request, as_json=json))


def _data_url(file: Path) -> str:
    kind = guess_type(file.name)[0] or "image/unknown"
    if not kind.startswith("image/"):
        raise AppError("picture-unreadable", f"{file} is no picture by its name.", "Name a picture's file.")
    return f"data:{kind};base64,{b64encode(file.read_bytes()).decode()}"


async def _chat(operations: Operations, request: ChatRequest, *, as_json: bool) -> None:
    generation, asked = chat_request(operations, request)
    worker, side = Worker(operations), None
    try:
        async for raw in worker.ask(generation, asked):
            line = chat_line(raw)
            if line.problem:
                fail(line.problem, as_json=as_json)
            if as_json:
                say_json(line.model_dump(mode="json"))
            else:
                if line.side and line.side != side:
                    print(f"{'' if side is None else chr(10)}{line.side + ':':7}", end="")
                    side = line.side
                print(line.text, end="", flush=True)
        if not as_json:
            print()
    finally:
        await worker.close()


def _views() -> list[OperationView]:
    return [each.view() for each in Operations(open_home()).refresh() if each.record["kind"] == "train"]


def _ago(created: float) -> str:
    minutes = (time.time() - created) / 60
    return (
        f"{minutes:.0f} min"
        if minutes < 90
        else f"{minutes / 60:.0f} h"
        if minutes < 48 * 60
        else f"{minutes / 1440:.0f} days"
    )


def _result(view: OperationView) -> str:
    train = view.train
    if train is None:
        return ""
    text = f"step {train.step}/{train.steps}" + (f", loss {train.loss:.4f}" if train.loss is not None else "")
    if train.evaluation and train.evaluation.tuned_exact_match is not None:
        right = "accuracy" if any(each.name == "accuracy" for each in train.evaluation.measures) else "exact match"
        text += f", {right} {train.evaluation.base_exact_match or 0:.0%} -> {train.evaluation.tuned_exact_match:.0%}"
    return text
