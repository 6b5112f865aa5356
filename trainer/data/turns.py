"""The turns of a conversation in the ways that data sets write them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from trainer.data.pictures import Pictures
from trainer.data.problems import RowError
from trainer.data.samples import ROLES, Message

# What other formats call the four roles.
_OTHER_NAMES = {
    "human": "user", "gpt": "assistant", "chatgpt": "assistant", "bot": "assistant", "model": "assistant",
    "developer": "system", "function": "tool", "observation": "tool", "ipython": "tool", "function_call": "assistant",
}  # fmt: skip
_USED = {"role", "content", "tool_calls", "name", "tool_call_id"}
SHORT = 40  # characters of a role that is none
Odd = tuple[str, str, str]


def read_turns(value: Any, column: str, pictures: Pictures | None = None) -> tuple[list[Message], list[Odd]]:
    """The turns, and what is odd about them as (kind, detail, field); raises `RowError` when they are no conversation.

    Pictures that stand in them go to `pictures`.
    """
    pictures = pictures or Pictures([])
    if isinstance(value, str):
        value = _as_json(value)
    if not isinstance(value, list) or not value:
        what = "an empty list" if value == [] else "not a list of turns"
        raise RowError("messages-shape", f"`{column}` is {what}.", column, value)
    turns, odd = [], []
    for index, raw in enumerate(value):
        where = f"{column}[{index}]"
        turn = _turn(raw, where, pictures)
        turns.append(turn)
        if not turn["content"].strip() and not turn.get("tool_calls"):
            odd.append(("content-empty", f"the turn `{where}` of the {turn['role']} is empty.", where))
        unused = [name for name in raw if name not in _USED]
        if unused:
            odd.append(("turn-fields", f"turns have a field `{unused[0]}`, which is not used.", where))
    if not any(turn["role"] == "assistant" and (turn["content"].strip() or turn.get("tool_calls")) for turn in turns):
        raise RowError("no-answer", "no turn of the assistant says anything.", column)
    order = odd_order([turn["role"] for turn in turns])
    if order:
        odd.append(("role-order", order, column))
    return turns, odd


def odd_order(roles: Sequence[str]) -> str:
    """What is unusual in the order of roles, in words; empty when nothing is."""
    for index, role in enumerate(roles):
        before = roles[index - 1] if index else ""
        if role == "system" and index:
            return f"turn {index + 1} is by the system, which speaks first or never."
        if role == before and role in ("user", "assistant"):
            return f"turns {index} and {index + 1} are both by the {role}."
        if role == "assistant" and before in ("", "system"):
            return f"turn {index + 1} is an answer before anybody asked."
        if role == "tool" and before not in ("assistant", "tool"):
            return f"turn {index + 1} is a tool's result that nobody called for."
    if roles[-1] in ("user", "tool"):
        return f"the last turn is by the {roles[-1]}, so nothing is learned from it."
    return ""


def _turn(raw: Any, where: str, pictures: Pictures) -> Message:
    if not isinstance(raw, dict):
        raise RowError("messages-shape", f"`{where}` is not an object with `role` and `content`.", where, raw)
    told = raw.get("role")
    role = _OTHER_NAMES.get(told.lower(), told.lower()) if isinstance(told, str) else None
    if role not in ROLES:
        what = f"the role {told!r}" if "role" in raw else "no `role`"
        raise RowError("role-unknown", f"`{where}` has {what[:SHORT]}.", f"{where}.role", raw)
    turn: Message = {"role": role, "content": _content(raw, where, pictures)}
    if raw.get("tool_calls"):
        turn["tool_calls"] = [_call(call, f"{where}.tool_calls") for call in _list(raw["tool_calls"], where)]
    if isinstance(raw.get("name"), str):
        turn["name"] = raw["name"]
    if isinstance(raw.get("tool_call_id"), str):
        turn["tool_call_id"] = raw["tool_call_id"]
    return turn


def _content(raw: dict[str, Any], where: str, pictures: Pictures) -> str:
    content = raw.get("content")
    if isinstance(content, str):
        return content
    if content is None and raw.get("tool_calls"):
        return ""
    if isinstance(content, list):
        return "".join(_parts(content, where, pictures))
    what = "nothing (null)" if content is None else "something that is not text"
    raise RowError("content-type", f"`{where}.content` holds {what}.", f"{where}.content", content)


def _parts(content: list[Any], where: str, pictures: Pictures) -> Iterator[str]:
    """The texts of a content that is a list of parts, with a sign for each picture."""
    for part in content:
        if isinstance(part, dict) and isinstance(part.get("text"), str):
            yield part["text"]
        elif isinstance(part, dict) and str(part.get("type", "")).startswith(("image", "input_image")):
            yield pictures.take(part, f"{where}.content")
        elif isinstance(part, dict) and str(part.get("type", "")).startswith(("video", "audio", "input_")):
            raise RowError("media-content", f"`{where}.content` holds a part of the type {part['type']!r}.", where)
        else:
            raise RowError("content-type", f"`{where}.content` holds a part that is not text.", where, part)


def _call(call: Any, where: str) -> dict[str, Any]:
    """A tool call with its arguments as an object, which is what chat templates expect."""
    function = call.get("function", call) if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise RowError("tools-shape", f"`{where}` holds a call without the tool's `name`.", where, call)
    arguments = function.get("arguments", {})
    if isinstance(arguments, str):
        arguments = _as_json(arguments)
    whole = {"type": "function", "function": {"name": function["name"], "arguments": arguments}}
    return {"id": call["id"], **whole} if isinstance(call.get("id"), str) else whole


def read_tools(value: Any, column: str) -> tuple[dict[str, Any], ...]:
    """The tools that a row describes, from a list or from such a list as JSON text."""
    if value in (None, "", []):
        return ()
    if isinstance(value, str):
        value = _as_json(value)
    if not isinstance(value, list) or not all(isinstance(tool, dict) for tool in value):
        raise RowError("tools-shape", f"`{column}` is not a list of tools.", column, value)
    return tuple(value)


def from_sharegpt(value: Any, column: str) -> Any:
    """Turns of `from` and `value` as turns of `role` and `content`."""
    if not isinstance(value, list):
        return value
    return [_from_value(turn, f"{column}[{index}]") for index, turn in enumerate(value)]


def _from_value(turn: Any, where: str) -> Any:
    if not isinstance(turn, dict) or "from" not in turn:
        return turn
    rest = {name: each for name, each in turn.items() if name not in ("from", "value")}
    if turn["from"] == "function_call":
        call = _as_json(turn.get("value"))
        return {**rest, "role": "assistant", "content": "", "tool_calls": _list(call, where)}
    return {**rest, "role": turn["from"], "content": turn.get("value")}


def _list(value: Any, where: str) -> list[Any]:
    if isinstance(value, dict):
        return [value]
    if not isinstance(value, list):
        raise RowError("tools-shape", f"`{where}` holds tool calls that are not a list.", where, value)
    return value


def _as_json(value: Any) -> Any:
    """The value of JSON text; the text itself where it is none."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value
