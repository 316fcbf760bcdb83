"""Runs, checkpoints and outputs as resources, to be attached to a conversation by their addresses.

    waypost://runs/{run_id}                             the run with its steps, agents and context
    waypost://runs/{run_id}/checkpoints/{checkpoint_id} the run as it was at a checkpoint
    waypost://runs/{run_id}/outputs/{step_id}           the beginning of a step's newest output

They say what the tools say, within the same bounds. Characters of ids that mean something in an address are written as
`%2F` and the like.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Any

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ResourceError, ResourceNotFoundError
from mcp.server.mcpserver.resources import ResourceSecurity

from waypost.cli import describe
from waypost.errors import CheckpointNotFound, NotFound, WaypostError
from waypost.mcp import bounds, rows
from waypost.mcp.answers import as_text, explain
from waypost.mcp.outputs import output_text
from waypost.mcp.reads import ReadTools
from waypost.mcp.results import CheckpointDetail, Result
from waypost.mcp.stores import Stores

RUN = "waypost://runs/{run_id}"
CHECKPOINT = RUN + "/checkpoints/{checkpoint_id}"
OUTPUT = RUN + "/outputs/{step_id}"

_IDS_ARE_NO_PATHS = ResourceSecurity(reject_path_traversal=False, reject_absolute_paths=False)
"""Ids may look like paths: the store never makes one of them."""


def add(server: MCPServer[Any], stores: Stores) -> None:
    """Have the resources served."""
    reads = ReadTools(stores, ())

    def run(run_id: str) -> str:
        """A run with its steps, agents and context, as JSON."""
        return _text(lambda: reads.get_run(run_id, "full"))

    def checkpoint(run_id: str, checkpoint_id: str) -> str:
        """A run as it was at a checkpoint, as JSON."""
        return _text(lambda: checkpoint_of(stores, run_id, checkpoint_id))

    def output(run_id: str, step_id: str) -> str:
        """The newest output of a step, as JSON: the beginning of it, where it is long."""
        return _text(lambda: _output(stores, run_id, step_id))

    for address, read in ((RUN, run), (CHECKPOINT, checkpoint), (OUTPUT, output)):
        server.resource(address, mime_type="application/json", security=_IDS_ARE_NO_PATHS)(read)


def checkpoint_of(stores: Stores, run_id: str, checkpoint_id: str) -> CheckpointDetail:
    """A checkpoint of a run, by its whole id. Raises CheckpointNotFound."""
    with stores.reading() as store:
        found = store.wp.get_checkpoint(checkpoint_id)
        if (found.id, found.workflow_id) != (checkpoint_id, run_id):
            raise CheckpointNotFound(f"run {run_id!r} has no checkpoint {checkpoint_id!r}")
        then = describe.as_of_then(found.state)
        steps = then.workflow.steps
        return CheckpointDetail(
            checkpoint=rows.of_checkpoint(found),
            run=rows.of_state(then),
            steps=rows.steps(islice(steps, 500)),
            steps_total=len(steps),
        )


def _output(stores: Stores, run_id: str, step_id: str) -> Result:
    with stores.reading() as store:
        return output_text(store.wp, run_id, step_id, None, 0, 3 * bounds.ROOM)


def _text(read: Callable[[], Result]) -> str:
    try:
        return as_text(read())
    except NotFound as error:
        raise ResourceNotFoundError(explain(error)) from error
    except WaypostError as error:
        raise ResourceError(explain(error)) from error
