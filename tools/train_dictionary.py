"""Train the dictionary that small frames are compressed with, on the commits of made-up but realistic workflows.

    python tools/train_dictionary.py OUTPUT

A shipped dictionary never changes: frames on people's disks need its very bytes. So a new one gets a new number
(`codec/compression.py`) and a new file; this program is kept to say where number 1 came from. Ids and times differ
from run to run, and so do the bytes.
"""

from __future__ import annotations

import random
import sys
import tempfile
from pathlib import Path

import waypost
from waypost.codec import compression
from waypost.codec.frame import FrameType
from waypost.store.directory import DirectoryStore
from waypost.store.directory.log import Log

SIZE = 16 * 1024
WORDS = """
the a of to and in is for with on result error failed file module function class test value response request
user agent plan review summary analysis data table query model message tool call output input token context
search found missing updated created removed added changed returned expected received timeout retry connection
import parse build check because should would could was were has been after before while when then next step
""".split()  # noqa: SIM905 - a list of words is read best as words
TOOLS = ("read_file", "write_file", "search", "run_tests", "fetch", "edit", "grep", "plan", "review", "summarise")
AGENTS = ("planner", "coder-1", "coder-2", "reviewer", "researcher", "agent1", "writer")


def prose(rng: random.Random, most: int) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(rng.randrange(3, most))).capitalize() + "."


def path(rng: random.Random) -> str:
    folders = rng.sample(["src", "tests", "docs", "app", "lib", "core", "utils", "data", "api"], rng.randrange(1, 4))
    return "/".join(folders) + f"/{rng.choice(WORDS)}_{rng.choice(WORDS)}{rng.choice(['.py', '.md', '.json', '.ts'])}"


def output(rng: random.Random) -> object:
    shapes = (
        lambda: {"result": "success", "rows": rng.randrange(10_000), "duration_ms": round(rng.random() * 900, 2)},
        lambda: {"status": "ok", "files_changed": [path(rng), path(rng)], "summary": prose(rng, 30)},
        lambda: {"tool_name": rng.choice(TOOLS), "input": {"file_path": path(rng)}, "output": prose(rng, 60)},
        lambda: {"role": "assistant", "content": prose(rng, 90), "usage": {"input_tokens": rng.randrange(9000)}},
        lambda: {"sha256": rng.randbytes(32).hex(), "size_bytes": rng.randrange(1 << 20), "url": f"https://example.com/{path(rng)}"},
        lambda: {"exit_code": 0, "stdout": prose(rng, 40) + "\n", "stderr": "", "duration_ms": rng.randrange(60_000)},
        lambda: [round(rng.random(), 4) for _ in range(rng.randrange(3, 12))],
        lambda: prose(rng, 50),
    )  # fmt: skip
    return rng.choice(shapes)()


def work(directory: str, rng: random.Random) -> None:
    """A few workflows with all the operations that people use, without compression."""
    with waypost.open(
        directory, config={"compression": {"enabled": False}, "reliability": {"enable_wal": False}}
    ) as wp:
        for number in range(12):
            workflow = rng.choice(["survey", "release", "nightly-etl", "refactor", "my_workflow"]) + f"-{number}"
            names = [rng.choice([f"step{at}", f"step-{at:03}", f"{rng.choice(WORDS)}-{at}"]) for at in range(60)]
            steps = [
                waypost.WorkflowStep(
                    id=name,
                    name=prose(rng, 6),
                    agent_id=rng.choice(AGENTS),
                    max_retries=3,
                    dependencies=names[at - 1 : at],
                )
                for at, name in enumerate(names)
            ]
            wp.create_workflow(workflow, prose(rng, 6), f"session_{rng.randbytes(16).hex()}", steps).unwrap()
            for name in names:
                wp.update_step_status(workflow, name, "running").unwrap()
                if rng.random() < 0.1:
                    wp.update_step_status(workflow, name, "failed", error=prose(rng, 20)).unwrap()
                    wp.update_step_status(workflow, name, "running").unwrap()
                wp.update_step_status(workflow, name, "completed", output(rng)).unwrap()
                if rng.random() < 0.3:
                    wp.add_step_output(workflow, name, output(rng)).unwrap()
                if rng.random() < 0.3:
                    agent = rng.choice(AGENTS)
                    state = waypost.AgentState(id=agent, name=agent, status="active", current_task=name)
                    wp.update_agent_state(workflow, agent, state).unwrap()
                if rng.random() < 0.3:
                    wp.update_context(workflow, variables={rng.choice(WORDS): output(rng)}).unwrap()


def commits(directory: str) -> list[bytes]:
    """The uncompressed content of every commit in a store."""
    store = DirectoryStore.open(directory, waypost.config.load("production"), create=False, read_only=True)
    found: list[bytes] = []
    for identifier in store.documents("workflow"):
        view = store.view(waypost.store.DocumentId("workflow", identifier))
        log: Log = store._document(view.document).log_if_read()
        size = log.file.identity().size
        first = log.first(size)
        for each in log.hop(first.end, first.header.checksum, size):
            if each.header.type == FrameType.COMMIT and each.header.length < compression.DICTIONARY_UP_TO:
                found.append(bytes(each.content()[0]))
    store.close()
    return found


def main(target: str) -> None:
    rng = random.Random(1)  # noqa: S311 - it makes words, not keys
    with tempfile.TemporaryDirectory() as directory:
        work(directory, rng)
        samples = commits(directory)
    zstd = compression._zstd()
    dictionary = zstd.train_dict(samples[::2], SIZE)
    Path(target).write_bytes(dictionary.dict_content)
    plain = sum(map(len, samples[1::2]))
    packed = sum(len(zstd.compress(each, 3, zstd_dict=dictionary)) for each in samples[1::2])
    alone = sum(len(zstd.compress(each, 3)) for each in samples[1::2])
    print(f"{len(samples)} commits; of those not trained on, {plain / packed:.2f} times smaller")
    print(f"without the dictionary {plain / alone:.2f} times")


if __name__ == "__main__":
    main(sys.argv[1])
