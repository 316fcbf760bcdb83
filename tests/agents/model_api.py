"""A model that says what a script tells it to, by the Messages API's protocol: for the real agent, without network."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Turn = list[dict[str, Any]]
"""The content blocks of one answer."""


def says(text: str) -> Turn:
    return [{"type": "text", "text": text}]


def calls(*tools: tuple[str, str, dict[str, Any]]) -> Turn:
    """An answer that calls tools: id, name, input of each."""
    return [{"type": "tool_use", "id": name, "name": tool, "input": given} for name, tool, given in tools]


class Model:
    """Answers the requests that offer tools with the turns of a script, one after the other; others with a word.

    Scripts of subagents, which may ask at any time, go by a word of their prompt.
    """

    def __init__(self, script: Sequence[Turn], **subagents: Sequence[Turn]) -> None:
        self._script = list(script)
        self._subagents = {word: list(turns) for word, turns in subagents.items()}
        self._lock = threading.Lock()
        self.asked: list[dict[str, Any]] = []

    def answer(self, request: dict[str, Any]) -> Turn:
        with self._lock:
            self.asked.append(request)
            begun = json.dumps(request.get("messages", [])[:1])
            script = next((turns for word, turns in self._subagents.items() if word in begun), self._script)
            return script.pop(0) if request.get("tools") and script else says("ok")


def _events(content: Turn) -> Iterator[tuple[str, dict[str, Any]]]:
    usage = {"input_tokens": 10, "output_tokens": 10}
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-test", "content": []}
    yield "message_start", {"message": {**message, "stop_reason": None, "stop_sequence": None, "usage": usage}}
    for index, block in enumerate(content):
        is_text = block["type"] == "text"
        start = {"type": "text", "text": ""} if is_text else {**block, "input": {}}
        yield "content_block_start", {"index": index, "content_block": start}
        delta = (
            {"type": "text_delta", "text": block["text"]}
            if is_text
            else {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
        )
        yield "content_block_delta", {"index": index, "delta": delta}
        yield "content_block_stop", {"index": index}
    reason = "tool_use" if any(block["type"] == "tool_use" for block in content) else "end_turn"
    yield "message_delta", {"delta": {"stop_reason": reason, "stop_sequence": None}, "usage": {"output_tokens": 10}}
    yield "message_stop", {}


@contextmanager
def serving(model: Model) -> Iterator[str]:
    """The model behind an address on this machine."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if not self.path.startswith("/v1/messages") or "count_tokens" in self.path:
                self._send("application/json", b'{"input_tokens": 10}')
            elif not request.get("stream"):
                message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-test"}
                rest = {"stop_reason": "end_turn", "usage": {"input_tokens": 1, "output_tokens": 1}}
                self._send(
                    "application/json", json.dumps({**message, **rest, "content": model.answer(request)}).encode()
                )
            else:
                told = "".join(
                    f"event: {name}\ndata: {json.dumps({'type': name, **data})}\n\n"
                    for name, data in _events(model.answer(request))
                )
                self._send("text/event-stream", told.encode())

        def do_GET(self) -> None:
            self._send("application/json", b"{}")

        do_HEAD = do_GET

        def _send(self, kind: str, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            del format, args

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
