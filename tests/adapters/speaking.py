"""A model for the OpenAI Agents SDK that needs no service: it repeats what it was told."""

from __future__ import annotations

from typing import Any

from agents import Model, ModelResponse, Usage
from openai.types.responses import ResponseOutputMessage, ResponseOutputText


class Parrot(Model):
    """Answers with the number of items that it was given, and their texts."""

    async def get_response(self, system_instructions: Any, input: Any, *args: Any, **kwargs: Any) -> ModelResponse:
        items = [{"content": input}] if isinstance(input, str) else input
        said = " / ".join(text_of(each["content"]) for each in items)
        text = ResponseOutputText(text=f"{len(items)}: {said}", type="output_text", annotations=[])
        message = ResponseOutputMessage(id="m", content=[text], role="assistant", status="completed", type="message")
        return ModelResponse(output=[message], usage=Usage(), response_id=None)

    def stream_response(self, *args: Any, **kwargs: Any) -> Any:
        raise AssertionError("nothing streams here")


def text_of(content: Any) -> str:
    return content if isinstance(content, str) else " ".join(part["text"] for part in content)
