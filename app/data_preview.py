"""A preview of rows as the model will see them: what is asked of the worker, and its lines for page and terminal."""

from __future__ import annotations

from typing import Any

from app import models
from app.api.schema_data import PreviewLine, PreviewRequest, PreviewRow, PreviewStatistics
from app.errors import problem
from app.operations import Operations
from env_manager.generations import Generation
from trainer.models.folder import read_config
from trainer.models.hub import model_folder
from trainer.spec import RunSpec


def preview_request(operations: Operations, request: PreviewRequest) -> tuple[Generation, dict[str, Any]]:
    """The environment and the request for its worker; raises `AppError` or `TrainError` as the start of a run would."""
    spec = models.with_names_resolved(RunSpec(model=request.model, data=request.data))
    folder = model_folder(spec.model)
    read_config(folder)
    return operations.active_generation(), {
        "type": "preview",
        "model": str(folder),
        "data": spec.data.model_dump(mode="json"),
        **request.model_dump(include={"first", "rows", "statistics"}),
        "token_cache": str(operations.home.token_cache),
    }


def preview_line(line: dict[str, Any]) -> PreviewLine:
    """A worker's line as page and terminal read it."""
    match line["type"]:
        case "failed":
            return PreviewLine(type="failed", problem=problem(line["code"], line["message"], line["remedy"]))
        case "row":
            return PreviewLine(type="row", row=PreviewRow.model_validate(line))
        case "statistics":
            return PreviewLine(type="statistics", statistics=PreviewStatistics.model_validate(line))
    return PreviewLine(type=line["type"], text=line.get("text", ""), share=line.get("share"))
