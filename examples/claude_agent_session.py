"""Sessions of the Claude Agent SDK in a Waypost store: kept, listed, read and forked by the SDK's own functions.

    pip install 'waypost[claude-agent]'
    python examples/claude_agent_session.py

No model is called: a transcript as Claude Code leaves it is taken in. With a model the SDK calls the store by itself:

    options = ClaudeAgentOptions(session_store=WaypostSessionStore.open(".claude/state"))
    async for message in query(prompt="…", options=options): ...
"""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
import uuid
from pathlib import Path

import claude_agent_sdk as sdk

from waypost.adapters.claude_agent import WaypostSessionStore

SESSION = str(uuid.UUID(int=7))


def leave_a_transcript(config: Path, project: Path) -> None:
    """What the command line of Claude Code would have written."""
    folder = config / "projects" / sdk.project_key_for_directory(str(project))
    folder.mkdir(parents=True)
    parent = None
    with (folder / f"{SESSION}.jsonl").open("w") as file:
        for number, (role, text) in enumerate(
            [("user", "Mend the roof"), ("assistant", "Which tiles?"), ("user", "Red")]
        ):
            content = text if role == "user" else [{"type": "text", "text": text}]
            entry = {
                "type": role,
                "uuid": str(uuid.UUID(int=100 + number)),
                "parentUuid": parent,
                "sessionId": SESSION,
                "timestamp": f"2026-01-01T00:00:0{number}.000Z",
                "cwd": str(project),
                "message": {"role": role, "content": content},
            }
            file.write(json.dumps(entry) + "\n")
            parent = entry["uuid"]


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        config, project = Path(folder) / "config", Path(folder) / "project"
        project.mkdir()
        os.environ["CLAUDE_CONFIG_DIR"] = str(config)
        leave_a_transcript(config, project)
        async with WaypostSessionStore.open(Path(folder) / "state") as sessions:
            for _ in range(2):  # twice is once
                await sdk.import_session_to_store(SESSION, sessions, directory=str(project))
            (info,) = await sdk.list_sessions_from_store(sessions, directory=str(project))
            print(f"{info.session_id[-4:]}: {info.summary}")
            messages = await sdk.get_session_messages_from_store(sessions, SESSION, directory=str(project))
            print(f"{len(messages)} messages, the last: {messages[-1].message['content']}")
            fork = await sdk.fork_session_via_store(sessions, SESSION, directory=str(project))
            listed = await sdk.list_sessions_from_store(sessions, directory=str(project))
            print(
                f"forked: {len(listed)} sessions, one of them {fork.session_id in {each.session_id for each in listed}}"
            )


if __name__ == "__main__":
    asyncio.run(main())
