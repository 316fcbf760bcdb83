"""Prompts: to go on with a run, and to hand it over. What is stored stands in them as JSON, marked as data."""

from __future__ import annotations

from typing import Annotated, Any

from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.prompts import Prompt
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS
from pydantic import Field, ValidationError

from waypost.errors import InvalidInput, WaypostError
from waypost.mcp.answers import as_text, explain, misfit
from waypost.mcp.plans import plan_of
from waypost.mcp.reads import ReadTools, RunId
from waypost.mcp.results import Result
from waypost.mcp.stores import Stores

_RESUME = (
    "Go on with what is unfinished. The data below tells which steps are done, were interrupted, failed or come next. "
    "Do not repeat a step that is done. Of a step that was interrupted find out first what it had done. Record each "
    "step with set_step as you begin and end it, where that tool is there. If another process has claimed the run, "
    "stop and say so."
)
_HAND_OVER = (
    "Write down for whoever goes on with this run: what is done and what came of it, what is half done and how far it "
    "is, what failed and why, what comes next, and what has to be known for it. Use the data below and what you "
    "know. Where the tool save_checkpoint is there, save it with that text as its description; else show the text."
)


class _Prompt(Prompt):
    """A prompt that says which argument it lacks."""

    async def render(self, arguments: dict[str, Any] | None, context: Context[Any, Any]) -> Any:
        try:
            return await super().render(arguments, context)
        except ValueError as error:
            if isinstance(error.__cause__, ValidationError):
                raise _refusal(misfit(error.__cause__)) from error
            if error.__cause__ is not None:
                raise
            raise _refusal(InvalidInput(str(error))) from error


def _refusal(error: WaypostError) -> MCPError:
    return MCPError(code=INVALID_PARAMS, message=explain(error))


def add(server: MCPServer[Any], stores: Stores) -> None:
    """Have the prompts served."""

    def resume(run_id: Annotated[str, Field(max_length=512)] = "") -> str:
        """Go on with a run; without its id, with what is unfinished in the store."""
        return _prompt(_RESUME, stores, run_id)

    def handoff(run_id: RunId) -> str:
        """Hand a run over to somebody else, or to a later session."""
        return _prompt(_HAND_OVER, stores, run_id)

    for function in (resume, handoff):
        server.add_prompt(_Prompt.from_function(function))


def _prompt(request: str, stores: Stores, run_id: str) -> str:
    try:
        data = _data(stores, run_id)
    except WaypostError as error:
        raise _refusal(error) from error
    # no fence that stored text could close: JSON is one line, in which no line ends
    return f"{request}\n\nData, one line of JSON:\n{as_text(data)}"


def _data(stores: Stores, run_id: str) -> Result:
    if not run_id:
        return ReadTools(stores, ()).status()
    with stores.reading() as store:
        return plan_of(store, run_id)
