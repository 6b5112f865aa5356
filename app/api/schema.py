"""What the server says to the page: the one definition that OpenAPI and the UI's types come from."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from app.api.schema_after import AfterView
from app.api.schema_estimate import MemoryView
from app.api.schema_evaluation import EvaluationView
from app.api.schema_generations import CheckView, GenerationView, HistoryView
from trainer.operation import State
from trainer.spec import RunSpec

Action = Literal["install", "rollback", "repair"]


class Problem(BaseModel):
    """A failure in plain words; `action` names the click that mends it, where there is one."""

    code: str
    message: str
    remedy: str
    action: Action | None = None


class Gpu(BaseModel):
    name: str
    compute_capability: str | None
    memory_bytes: int


class HardwareView(BaseModel):
    """This machine, as the environment manager sees it."""

    system: str
    machine: str
    cpu: str
    cores: int
    memory_bytes: int
    disk_free_bytes: int
    accelerator: str
    driver: str | None
    gpus: list[Gpu]
    notes: list[str]


class TorchView(BaseModel):
    """The build of torch that an installation takes here, why, and what would make it better."""

    build: str
    reason: str
    advice: list[str]


class PlannedStep(BaseModel):
    """A step that an install would take, or leaves out for a reason."""

    id: str
    title: str
    why: str
    packages: list[str]
    left_out: str | None
    optional: bool


class PlanView(BaseModel):
    """What an installation would take here if the user decided so."""

    torch: TorchView
    plan: list[PlannedStep]


class EnvironmentView(BaseModel):
    """The whole Environment page but its running install.

    `accelerators` are the builds of torch that can be asked for on this system. `previous` is where
    a rollback leads; `passed_over` are newer than that, and known to be damaged.
    """

    hardware: HardwareView
    torch: TorchView
    plan: list[PlannedStep]
    accelerators: list[str]
    active: str | None
    previous: str | None
    passed_over: list[str]
    generations: list[GenerationView]
    history: list[HistoryView]
    keep: int | None
    problem: Problem | None


class StepView(BaseModel):
    """One installation step, live.

    `bytes_total` is None until the index has told it; rate and time left are None while nothing is
    coming. `probe` is what proved it, `reason` why it failed or was left out. Its part of the
    operation's log begins at byte `log_from` and ends at `log_to`, None while it runs.
    """

    id: str
    title: str
    state: Literal["waiting", "running", "done", "failed", "skipped"]
    bytes_done: int
    bytes_total: int | None
    bytes_per_second: int | None
    seconds_left: float | None
    seconds: float
    probe: str
    reason: str
    log_from: int | None
    log_to: int | None


class InstallView(BaseModel):
    """An installation, or the repair of an environment from its own lock; `findings` say why it failed, if known."""

    repair: bool
    phase: str
    text: str
    steps: list[StepView]
    generation: str | None
    findings: list[FindingView]


class CoverageView(BaseModel):
    """One part of the model: how many of its modules are trained, how many stay frozen, and the parameters trained."""

    part: str
    modules: int
    trained: int
    frozen: int
    parameters: int


class TrainView(BaseModel):
    """A run's newest figures. Memory in bytes, rate in real (unpadded) tokens a second; `sees`: its adapter takes pictures."""

    spec: RunSpec
    folder: str
    generation: str
    phase: str
    text: str
    step: int
    steps: int
    epoch: float
    loss: float | None
    learning_rate: float | None
    tokens_per_second: float | None
    memory_bytes: int | None
    memory: MemoryView | None
    eta_seconds: float | None
    train_seconds: float | None
    evaluation: EvaluationView | None
    trained_parameters: int | None
    parameters: int | None
    coverage: list[CoverageView]
    adapter: str | None
    sees: bool
    proof: str
    warnings: list[str]
    resumable: bool


class OperationView(BaseModel):
    """An installation, a run, or what is done with one, whole: a page that has the newest one needs nothing else."""

    id: str
    kind: Literal["install", "train", "evaluate", "export"]
    title: str
    state: State
    created: float
    seconds: float
    problem: Problem | None
    install: InstallView | None = None
    train: TrainView | None = None
    after: AfterView | None = None


class ModelView(BaseModel):
    """A model that can be tuned, with the settings it likes best as dotted keys."""

    id: str
    title: str
    path: str
    about: str
    recommended: dict[str, Any]


class DatasetView(BaseModel):
    id: str
    title: str
    about: str
    train: str
    held_out: str | None
    example_prompt: str


class Snapshot(BaseModel):
    """Everything the page shows; the event stream begins with it."""

    type: Literal["snapshot"] = "snapshot"
    version: str
    home: str
    environment: EnvironmentView
    operations: list[OperationView]
    models: list[ModelView]
    datasets: list[DatasetView]


class OperationChanged(BaseModel):
    """A new or newer record of one operation; it replaces the one with the same id."""

    type: Literal["operation"] = "operation"
    operation: OperationView


class EnvironmentChanged(BaseModel):
    type: Literal["environment"] = "environment"
    environment: EnvironmentView


class Points(BaseModel):
    """New points of a run's curves: (step, loss) for training, (step, loss) for held-out."""

    type: Literal["points"] = "points"
    operation: str
    loss: list[tuple[int, float]]


class Ping(BaseModel):
    """Nothing new; the stream is alive."""

    type: Literal["ping"] = "ping"


StreamEvent = Annotated[Snapshot | OperationChanged | EnvironmentChanged | Points | Ping, Field(discriminator="type")]


class StreamLine(BaseModel):
    """One line of the event stream (named so that the page's types include every kind)."""

    event: StreamEvent


class InstallRequest(BaseModel):
    """What the user decides in place of the machine and the catalog.

    Overrides are exact versions by package name; `allow_large` accepts a multi-gigabyte CUDA build
    on a CPU machine; `accelerator` is one of the offered builds, `gpu` the NVIDIA GPU that decides.
    """

    overrides: dict[str, str] = {}
    allow_large: bool = False
    accelerator: str | None = None
    gpu: Annotated[int, Field(ge=0)] | None = None


class RollbackRequest(BaseModel):
    """The generation to return to; None means the one before the active one."""

    generation: str | None = None


class CheckRequest(BaseModel):
    """The generation to check; None means the active one. `full` compares the content of every file too."""

    generation: str | None = None
    full: bool = True


class RepairRequest(BaseModel):
    """The generation to build again; None means the active one. `whole`: even if no recorded file differs."""

    generation: str | None = None
    whole: bool = False


class FindingView(BaseModel):
    """A cause that the diagnosis names, what it was recognised by, and the click that mends it."""

    name: str
    cause: str
    evidence: str
    remedy: str
    action: Action | None


class CheckedView(BaseModel):
    """What a check of one generation found; an environment without findings whose checks all hold is sound."""

    generation: str
    sound: bool
    seconds: float
    checks: list[CheckView]
    findings: list[FindingView]


class RunRequest(BaseModel):
    spec: RunSpec


class Curve(BaseModel):
    loss: list[tuple[int, float]]


class LogPage(BaseModel):
    """A piece of the raw log; ask again from `next_offset`."""

    text: str
    next_offset: int


# A picture as a browser reads a file: its kind and its content, at most twelve million characters of base64.
DataUrl = Annotated[str, Field(pattern=r"^data:image/[\w.+-]+;base64,[A-Za-z0-9+/=]+$", max_length=12_000_000)]


class ChatMessage(BaseModel):
    """One turn; its pictures stand before its text."""

    role: Literal["system", "user", "assistant"]
    content: str
    pictures: Annotated[list[DataUrl], Field(max_length=8)] = []


class ChatRequest(BaseModel):
    """Ask base and tuned the same; `run` names the run whose adapter is used."""

    run: str
    messages: list[ChatMessage]
    max_new_tokens: Annotated[int, Field(ge=1, le=4096)] = 128
    temperature: Annotated[float, Field(ge=0.0, le=2.0)] = 0.0


class ChatLine(BaseModel):
    """One line of a streamed answer. `side` is missing on the last line, which is done or failed."""

    type: Literal["token", "done", "failed"]
    side: Literal["base", "tuned"] | None = None
    text: str = ""
    problem: Problem | None = None
