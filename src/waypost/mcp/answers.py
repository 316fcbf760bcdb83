"""What becomes of a call: the result as typed data, or an error that says what to do next."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec

from mcp_types import CallToolResult, TextContent
from pydantic import ValidationError

from waypost.cli.text import json_escape
from waypost.errors import (
    CheckpointNotFound,
    DependencyUnfinished,
    DocumentDamaged,
    IllegalTransition,
    InvalidInput,
    OutputNotFound,
    RetriesExhausted,
    SessionBusy,
    SessionFenced,
    StepBusy,
    StepNotFound,
    StoreNotFound,
    StoreReadOnly,
    WaypostError,
    WorkflowExists,
    WorkflowNotFound,
    WorkflowPaused,
)
from waypost.mcp import bounds
from waypost.mcp.results import Result, Stored

P = ParamSpec("P")

_NEXT: dict[type[WaypostError], str] = {
    WorkflowNotFound: "list_runs shows which runs there are; ids are taken exactly as they stand there.",
    StepNotFound: "list_steps shows the steps of the run.",
    OutputNotFound: "list_steps tells of each step which version of its output is the newest, 0 where there is none.",
    CheckpointNotFound: "list_checkpoints shows which there are.",
    StoreNotFound: "status tells where a store is looked for; start_run makes one where the server may write.",
    StoreReadOnly: "Start the server with --write to let it change anything.",
    WorkflowExists: "resume_plan tells how to go on with it; or choose another run id.",
    WorkflowPaused: "Running steps may end; none can start until the user resumes the run.",
    SessionBusy: "Another process works on the run. Should it no longer, ask the user; then claim_run with take_over.",
    SessionFenced: "Somebody else has taken the run over. Stop working on it, and tell the user.",
    StepBusy: "Another process is at that step: choose another step, or look again later.",
    DependencyUnfinished: "list_steps tells what it depends on; finish those steps first.",
    RetriesExhausted: "set_step with `reset` makes it pending again, if the user agrees.",
    IllegalTransition: "list_steps tells the status that it has now.",
    DocumentDamaged: "resume_plan tells which checkpoint is whole; `waypost verify` tells what is damaged.",
    InvalidInput: "Correct the arguments and call again.",
}
_MOST_MISFITS = 10
_LATER = "Call again: it may succeed later."
_NONE = "Tell the user; calling again the same way will not help."


def answering(tool: Callable[P, Result]) -> Callable[P, Result | CallToolResult]:
    """The same tool, whose results are laid out for the wire and whose failures are results, too."""

    @wraps(tool)
    def call(*args: P.args, **kwargs: P.kwargs) -> CallToolResult:
        try:
            return answer(tool(*args, **kwargs))
        except WaypostError as error:
            return refusal(error)

    return call


def answer(result: Result) -> CallToolResult:
    """A result as structured data, and once more as one line of JSON for clients that read text."""
    text = as_text(result)
    assert bounds.tokens(text) <= bounds.MOST_TOKENS, f"{type(result).__name__} is too long"
    data = result.model_dump(mode="json", exclude_none=True)
    return CallToolResult(content=[TextContent(type="text", text=text)], structured_content=data)


def refusal(error: WaypostError) -> CallToolResult:
    """An error, as the result of a call."""
    return CallToolResult(content=[TextContent(type="text", text=explain(error))], is_error=True)


def as_text(result: Result) -> str:
    """A result as one line of JSON, in which nothing is invisible, in ids neither."""
    return json_escape(result.model_dump_json(exclude_none=True))


def misfit(error: ValidationError) -> InvalidInput:
    """What is wrong with arguments, none of which is repeated."""
    found = error.errors(include_url=False, include_input=False, include_context=False)
    said = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in found[:_MOST_MISFITS]]
    return InvalidInput("; ".join(said))


def explain(error: WaypostError) -> str:
    """What went wrong and what to do, as JSON."""
    said: dict[str, Any] = {
        "code": error.code,
        "message": Stored.of(str(error), 1_000).text,
        "retryable": error.retryable,
        "next": advice(error),
    }
    return bounds.as_json({"error": said})


def advice(error: WaypostError) -> str:
    """What to do next."""
    for kind in type(error).__mro__:
        if kind in _NEXT:
            return _NEXT[kind]
    return _LATER if error.retryable else _NONE
