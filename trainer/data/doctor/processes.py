"""Processes that check parts of a data set: within a limit of memory, and without harm when one dies."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import trainer

MOST_PROCESSES = 4
Answer = tuple[dict[str, Any], bytes]  # empty where the process died over the task


class Worker:
    """A process that answers tasks; one that dies over a task is replaced for the next."""

    def __init__(self, module: str, environment: dict[str, str], python: Path | None = None) -> None:
        room = str(Path(trainer.__file__).parents[1])
        serve = f"from trainer.data.doctor.{module} import main; main()"
        if python:  # another interpreter's own packages come before those that lie beside the room
            self._command = [str(python), "-I", "-c", f"import sys; sys.path.append({room!r}); {serve}"]
        else:  # the room's own folder instead of the current one, which may hold a module of any name
            self._command = [sys.executable, "-c", f"import sys; sys.path[0] = {room!r}; {serve}"]
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, task: dict[str, Any], heard: Callable[[dict[str, Any]], None]) -> Answer:
        """The answer to one task; what the process says before it goes to `heard`."""
        process = self._process or self._start()
        assert process.stdin and process.stdout
        try:
            process.stdin.write(json.dumps(task).encode() + b"\n")
            process.stdin.flush()
            while line := process.stdout.readline():
                about = json.loads(line)
                data = process.stdout.read(about["bytes"])
                if len(data) < about["bytes"]:
                    break
                if "rows" not in about:
                    return about, data
                heard(about)
        except (BrokenPipeError, ValueError):  # it died in the middle of a word
            pass
        self.end()
        return {}, b""

    def _start(self) -> subprocess.Popen[bytes]:
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=self._environment,
        )
        return self._process

    def end(self) -> None:
        """End the process, if there is one."""
        process, self._process = self._process, None
        if process:
            process.kill()
            process.communicate()


def one_hash_seed() -> dict[str, str]:
    """An environment in which equal texts have equal hashes in every process."""
    return {**os.environ, "PYTHONHASHSEED": str(random.randrange(1, 2**32 - 1))}


def answers(module: str, tasks: list[dict[str, Any]], progress: Callable[[float], None]) -> Iterator[Answer]:
    """The answers in the order of the tasks, worked on by as many processes as there are cores."""
    environment = one_hash_seed()
    count = max(1, min(len(tasks), os.cpu_count() or 1, MOST_PROCESSES))
    workers = [Worker(module, environment) for _ in range(count)]
    free = list(workers)
    done = 0

    def work(task: dict[str, Any]) -> Answer:
        nonlocal done
        worker = free.pop()
        try:
            answer = worker.ask(task, lambda _: progress(done / len(tasks)))
        finally:
            free.append(worker)
        done += 1
        progress(done / len(tasks))
        return answer

    try:
        with ThreadPoolExecutor(count) as pool:
            yield from pool.map(work, tasks)
    finally:
        for worker in workers:
            worker.end()
