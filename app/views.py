"""An operation's events folded into the one record that everybody shows."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from app.api.schema import (
    CoverageView,
    FindingView,
    InstallView,
    OperationView,
    Problem,
    StepView,
    TrainView,
)
from app.api.schema_after import AfterView
from app.api.schema_estimate import MemoryPart, MemoryView
from app.api.schema_evaluation import EvaluationView
from app.errors import problem
from env_manager.diagnosing.diagnosis import Finding, diagnose_install
from trainer import checkpoints
from trainer.operation import FINAL, Event, Tail, being_resumed, read_record, state
from trainer.spec import RunSpec


class Followed:
    """One operation's folder, read as far as it has been written. `version` grows with every change."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.record = read_record(folder)
        self.version = 0
        self.losses: list[tuple[int, float]] = []
        self._tail = Tail(folder)
        self._last: Event | None = None
        self._state = state(folder, None)
        self._steps: dict[str, StepView] = {}
        self._phase: Event = {}
        self._newest: Event = {}
        self._evaluations: dict[str, Event] = {}
        self._coverage: Event = {}
        self._memory: Event = {}
        self._held: int | None = None
        self._warnings: list[str] = []
        self._proof = ""
        self.refresh()

    @property
    def id(self) -> str:
        return str(self.record["id"])

    @property
    def last_sequence(self) -> int:
        """The number of the newest event; 0 before the first."""
        return int(self._last["seq"]) if self._last else 0

    @property
    def ended(self) -> bool:
        """Whether nothing will follow unless the operation is started again."""
        return self._state not in ("starting", "running")

    @property
    def resumable(self) -> bool:
        """Whether this run can go on: it ended before its end, with a checkpoint or before it could have any."""
        return not self.why_not_resumable()

    def why_not_resumable(self) -> str:
        """Why this cannot go on, in words; empty where it can."""
        if self.record["kind"] != "train":
            return "it is no run"
        if not self.ended:
            return "it is running"
        if self._state == "done":
            return "it has reached its end"
        if self._state in ("stopped", "failed") and not checkpoints.exist(self.folder):
            return "it left no checkpoint"
        return ""

    def woken(self) -> bool:
        """Whether what had ended has been started again, by us or by somebody else."""
        return self.record["kind"] == "train" and (being_resumed(self.folder) or self._tail.behind())

    def refresh(self) -> bool:
        """Read what is new; returns whether anything changed."""
        changed = False
        for event in self._tail.read():
            self._take(event)
            changed = True
        now = state(self.folder, self._last)
        if now == "crashed" and self._state != "crashed":
            # The final event may have been written between our read and our look at the lock.
            for event in self._tail.read():
                self._take(event)
            now = state(self.folder, self._last)
        if now != self._state:
            self._state, changed = now, True
        self.version += changed
        return changed

    def _take(self, event: Event) -> None:
        self._last = event
        match event["type"]:
            case "phase":
                self._phase = event
            case "progress" if "step" in event:
                known = self._steps.get(event["step"]["id"])
                self._steps[event["step"]["id"]] = _step(
                    event["step"], known.log_from if known else None, event.get("log")
                )
            case "progress" if "memory" in event:
                self._memory = event["memory"]
            case "progress" if "held" in event:
                self._held = event["held"]
            case "progress" if "coverage" in event:
                self._coverage = event
            case "progress" if "checked" in event:
                self._proof = event["text"]
            case "step":
                self._newest = event
                self.losses.append((event["step"], event["loss"]))
            case "eval" if event["side"] in ("base", "tuned", "comparison"):
                self._evaluations[event["side"]] = event
            case "warning":
                self._warnings.append(event["message"])

    def view(self) -> OperationView:
        """The whole record as of the last refresh."""
        created = float(self.record["created"])
        until = self._last["time"] if self.ended and self._last else time.time()
        kind = self.record["kind"]
        return OperationView(
            id=self.id,
            kind=kind,
            title=self.record["title"],
            state=self._state,
            created=created,
            seconds=max(0.0, until - created),
            problem=self._problem(),
            install=self._install() if kind == "install" else None,
            train=self._train() if kind == "train" else None,
            after=self._after() if kind in ("evaluate", "export") else None,
        )

    def _problem(self) -> Problem | None:
        if self._state == "failed" and self._last:
            told = self._last
            return problem(told["code"], told["message"], told["remedy"], told.get("action"))
        if self._state == "crashed":
            if self.record["kind"] == "train":
                return problem(
                    "run-crashed",
                    "The run was ended from outside, without a word: by the system for want of memory, by a person, or with the machine.",
                    f"Let it go on from its newest checkpoint: `fettle runs resume {self.id}`.",
                )
            if self.record["kind"] != "install":
                return problem(
                    "after-crashed",
                    "This was ended from outside, without a word: often by the system for want of memory.",
                    "Start it again; the run and its adapter are as they were.",
                )
            return problem(
                "installation-crashed",
                "The installation was ended from outside, without a word.",
                "Start it again; the environment that was active still is.",
            )
        return None

    def _install(self) -> InstallView:
        last = self._last or {}
        return InstallView(
            repair="repair" in self.record,
            phase=self._phase.get("phase", ""),
            text=self._phase.get("text", ""),
            steps=list(self._steps.values()),
            generation=last.get("generation"),
            findings=_why(last["message"]) if last.get("type") == "failed" else [],
        )

    def _train(self) -> TrainView:
        step, final = self._newest, self._last if self._last and self._last["type"] in FINAL else {}
        phase = self._phase
        spec, foreign = RunSpec.recorded(self.record["spec"])
        adapter = _adapter(self.folder, final.get("adapter"))
        return TrainView(
            spec=spec,
            folder=str(self.folder),
            generation=self.record["generation"],
            phase=phase.get("phase", ""),
            text=phase.get("text", ""),
            step=step.get("step", 0),
            steps=step.get("steps") or phase.get("steps") or 0,
            epoch=step.get("epoch", 0.0),
            loss=step.get("loss"),
            learning_rate=step.get("learning_rate"),
            tokens_per_second=final.get("real_tokens_per_second", step.get("tokens_per_second")),
            memory_bytes=step.get("memory_bytes"),
            memory=self._memory_view(),
            eta_seconds=None if self.ended else step.get("eta_seconds"),
            train_seconds=final.get("train_seconds"),
            evaluation=self._evaluation(),
            trained_parameters=self._coverage.get("trained_parameters"),
            parameters=self._coverage.get("parameters"),
            coverage=[CoverageView(**row) for row in self._coverage.get("coverage", [])],
            adapter=adapter,
            sees=adapter is not None and (Path(adapter) / "preprocessor_config.json").is_file(),
            proof=self._proof,
            warnings=[*self._warnings, *_of_another_version(foreign)],
            resumable=self.resumable,
        )

    def _after(self) -> AfterView:
        last = self._last or {}
        return AfterView(
            run=self.record["run"],
            text=self._phase.get("text", ""),
            output=last.get("output"),
            proof=self._proof,
            data=self.record.get("data"),
            evaluation=self._evaluation(),
            warnings=self._warnings,
        )

    def _memory_view(self) -> MemoryView | None:
        if not self._memory:
            return None
        told = {name: value for name, value in self._memory.items() if name != "parts"}
        return MemoryView(parts=MemoryPart.named(self._memory["parts"]), held=self._held, **told)

    def _evaluation(self) -> EvaluationView | None:
        if not self._evaluations:
            return None
        base, tuned, both = (self._evaluations.get(side, {}) for side in ("base", "tuned", "comparison"))
        return EvaluationView(
            rows=(base or tuned or both)["rows"],
            base_loss=base.get("loss"),
            tuned_loss=tuned.get("loss"),
            base_exact_match=base.get("exact_match"),
            tuned_exact_match=tuned.get("exact_match"),
            measures=both.get("measures", []),
            verdict=both.get("verdict", ""),
            confused=both.get("confused", []),
        )


def _of_another_version(foreign: list[str]) -> list[str]:
    if not foreign:
        return []
    return [
        f"Another version of Fettle started this run; unknown here: {', '.join(foreign)}. The run's record has them."
    ]


def _adapter(folder: Path, noted: str | None) -> str | None:
    """Where a run's adapter is: as noted, or in the run's folder if that was moved since."""
    if noted is None or Path(noted).exists() or not (folder / Path(noted).name).exists():
        return noted
    return str(folder / Path(noted).name)


def _why(message: str) -> list[FindingView]:
    """What a failed installation's message was recognised as; nothing where it says no more than itself."""
    return [finding_view(each) for each in diagnose_install(message) if each.name != "unknown"]


def finding_view(finding: Finding) -> FindingView:
    """A finding of the diagnosis as the page shows it."""
    return FindingView(
        name=finding.name,
        cause=finding.cause,
        evidence=finding.evidence,
        remedy=finding.remedy,
        action=finding.action,
    )


def _step(step: dict[str, Any], log_from: int | None, log: int | None) -> StepView:
    began = step["state"] not in ("waiting", "skipped")
    return StepView(
        id=step["id"],
        title=step["title"],
        state=step["state"],
        bytes_done=step["bytes_done"],
        bytes_total=step["bytes_total"],
        bytes_per_second=step.get("bytes_per_second"),
        seconds_left=step.get("seconds_left"),
        seconds=step["seconds"],
        probe=step.get("probe") or "",
        reason=step.get("reason") or "",
        log_from=log if began and log_from is None else log_from,
        log_to=log if began and step["state"] != "running" else None,
    )
