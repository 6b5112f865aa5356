"""One setting: its default, its limits, and what a person needs to choose its value."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Level = Literal["basic", "advanced", "expert"]
Device = Literal["cpu", "cuda", "mps"]
EVERYWHERE: tuple[Device, ...] = ("cpu", "cuda", "mps")


def setting(
    default: Any,
    title: str,
    consequence: str,
    *,
    level: Level = "advanced",
    unit: str = "",
    acts_on: tuple[Device, ...] = EVERYWHERE,
    **limits: Any,
) -> Any:
    """A field; `acts_on` names the devices where a value other than the default does anything."""
    extra: dict[str, Any] = {"level": level, "unit": unit, "acts_on": list(acts_on)}
    return Field(default, title=title, description=consequence, json_schema_extra=extra, **limits)


class Section(BaseModel):
    """A group of settings; unknown names are refused and nothing changes once it is made."""

    model_config = ConfigDict(extra="forbid", frozen=True)
