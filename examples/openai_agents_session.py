"""A conversation of the OpenAI Agents SDK that goes on in the next process.

    pip install 'waypost[openai-agents]'
    python examples/openai_agents_session.py

The model is a few lines of our own, so that no service and no key is needed; with a real one nothing else differs.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from agents import Agent, Model, ModelResponse, Runner, Usage, set_tracing_disabled
from openai.types.responses import ResponseOutputMessage, ResponseOutputText

import waypost
from waypost.adapters.openai_agents import WaypostSession


class Listener(Model):
    """Says how much it was told, and what came first."""

    async def get_response(self, system_instructions: Any, input: Any, *args: Any, **kwargs: Any) -> ModelResponse:
        told = [input] if isinstance(input, str) else [each["content"] for each in input]
        said = ResponseOutputText(text=f"{len(told)} items, from {told[0]!r} on", type="output_text", annotations=[])
        message = ResponseOutputMessage(id="m", content=[said], role="assistant", status="completed", type="message")
        return ModelResponse(output=[message], usage=Usage(), response_id=None)

    def stream_response(self, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("this model does not stream")


async def say(state: str, text: str) -> None:
    set_tracing_disabled(True)
    async with waypost.open_async(state) as wp:
        session = WaypostSession("ann", wp)
        result = await Runner.run(Agent(name="listener", model=Listener()), text, session=session)
        print(f"{text!r} → {result.final_output}", flush=True)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for text in ("My roof leaks", "It rains again"):
            subprocess.run([sys.executable, __file__, str(Path(folder) / "state"), text], check=True)


if __name__ == "__main__":
    asyncio.run(say(*sys.argv[1:])) if len(sys.argv) > 1 else main()
