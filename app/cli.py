"""The command line: every action of the window has a command, and both call the same functions."""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from app import __version__, commands_after, commands_data, commands_env, commands_home, commands_models, commands_runs
from app.api.schema import Problem
from app.errors import KNOWN, AppError, problem, problem_of
from app.operations import Operations
from app.paths import default_root, open_home
from app.terminal import fail
from env_manager.errors import from_os

cli = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    no_args_is_help=False,
    help="Fine-tune language models with LoRA on your own machine, in an environment that can always be rolled back.",
)
cli.add_typer(commands_env.cli, name="env")
cli.add_typer(commands_runs.runs, name="runs")
commands_runs.runs.command("evaluate")(commands_after.evaluate)
commands_runs.runs.command("export")(commands_after.export)
cli.add_typer(commands_data.cli, name="data")
cli.add_typer(commands_models.cli, name="model")
cli.add_typer(commands_home.cli, name="home")
cli.command("uninstall")(commands_home.uninstall)
cli.command("train")(commands_runs.train)
cli.command("chat")(commands_runs.chat)
JsonFlag = Annotated[bool, typer.Option("--json", help="One JSON object a line, for programs.")]


@cli.callback(invoke_without_command=True)
def _default(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Say the version and leave.")] = False,
) -> None:
    if version:
        print(f"fettle {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        open_window()


@cli.command("open")
def open_window() -> None:
    """Open the desktop window; without a display or a web engine, serve the same page for a browser."""
    from app.window import run

    raise typer.Exit(run(Operations(open_home())))


@cli.command()
def serve(
    port: Annotated[int, typer.Option(help="A loopback port; 0 takes any free one.", min=0, max=65535)] = 0,
) -> None:
    """Serve the page for a browser on this machine until Ctrl-C."""
    from app.window import serve_page

    raise typer.Exit(serve_page(Operations(open_home()), port))


@cli.command()
def demo(
    skill: Annotated[str, typer.Option(help="What to teach the starter: ticket or calendar.")] = "ticket",
    allow_large: Annotated[bool, typer.Option("--allow-large", help="Accept a multi-gigabyte build of torch.")] = False,
    json: JsonFlag = False,
) -> None:
    """Install the environment, teach the starter model a skill, and show before and after."""
    from app.demo import run

    run(Operations(open_home()), skill, allow_large=allow_large, as_json=json)


@cli.command()
def doctor(
    bundle: Annotated[Path | None, typer.Option(help="Also write a ZIP of the report, records and logs.")] = None,
    json: JsonFlag = False,
) -> None:
    """Say what this machine is, what is installed, and whether it works; without names, tokens and passwords."""
    from app.doctor import run

    raise typer.Exit(run(Operations(open_home()), as_json=json, bundle=bundle))


@cli.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def test(context: typer.Context) -> None:
    """Run all tests of a checkout; arguments go to pytest."""
    runner = Path(__file__).parent.parent / "tests" / "run.py"
    if not runner.is_file():
        fail(
            problem(
                "not-a-checkout",
                "The tests are not part of an installed Fettle.",
                "Run this in a clone of the repository.",
            ),
            as_json=False,
        )
    import subprocess

    raise typer.Exit(subprocess.call([sys.executable, str(runner), *context.args]))


def main() -> NoReturn:
    """The `fettle` command: a known failure becomes one message, an unknown one goes to the app's log."""
    as_json = "--json" in sys.argv
    try:
        try:
            try:
                cli()
            finally:
                _finish_output()
        except BrokenPipeError:
            sys.exit(1)  # whoever read it has read enough
        except KNOWN as error:
            fail(problem_of(error), as_json=as_json)
        except Exception as error:  # the last barrier before the terminal
            fail(_unexpected(error), as_json=as_json)
    except typer.Exit as leaving:
        sys.exit(leaving.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(0)


def _finish_output() -> None:
    """Write what is still to be written while a failure can be told; at the interpreter's end it would be a traceback."""
    if sys.stdout is None:
        return
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise


def _unexpected(error: Exception) -> Problem:
    try:
        log = default_root() / "app.log"
        with log.open("a", encoding="utf-8") as stream:
            traceback.print_exc(file=stream)
        where = f"The details are in {log}."
    except (OSError, AppError):
        where = "Run `fettle doctor`."
    if isinstance(error, OSError):
        return problem_of(from_os(error, "finish this command"))
    return problem("unexpected", f"Fettle met a problem it does not know: {error or type(error).__name__}", where)


if __name__ == "__main__":
    main()
