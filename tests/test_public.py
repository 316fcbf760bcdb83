"""What `import waypost` offers, and what it does not do."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import waypost
from waypost import errors


def in_new_process(code: str, *options: str) -> str:
    """What a program prints in an interpreter of its own that has imported nothing of ours yet."""
    path = str(Path(waypost.__file__).parent.parent)
    program = f"import sys; sys.path.insert(0, {path!r})\n{code}"
    done = subprocess.run([sys.executable, *options, "-c", program], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_every_public_name_loads() -> None:
    """Each name in `__all__` is there, and nothing else is loaded by name."""
    for name in waypost.__all__:
        assert getattr(waypost, name) is not None
    assert set(waypost.__all__) <= set(dir(waypost))
    with pytest.raises(AttributeError):
        waypost.no_such_name  # noqa: B018


def test_type_checkers_see_the_same_names() -> None:
    """What is imported for type checkers is what is loaded at run time."""
    tree = ast.parse(Path(waypost.__file__).read_text(encoding="utf-8"))
    imported = {
        alias.name: node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    imported.pop("version")
    imported.pop("import_module")
    assert imported == waypost._HOMES
    assert sorted(imported) == sorted(waypost.__all__)


def test_every_error_is_public() -> None:
    """Whatever can be raised can be caught by a public name."""
    kinds = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, Exception)}
    assert kinds <= set(waypost.__all__)


def test_trap_01_importing_does_nothing(tmp_path: Path) -> None:
    """`import waypost` makes no file, thread or timer, and loads next to nothing."""
    code = f"""
import os, threading
os.chdir({str(tmp_path)!r})
before = set(sys.modules)
import waypost
print(sorted(name for name in set(sys.modules) - before if name != "waypost"))
print(threading.active_count(), os.listdir("."))
"""
    assert in_new_process(code, "-S").splitlines() == ["[]", "1 []"]


def test_the_blocking_face_needs_no_event_loop(tmp_path: Path) -> None:
    """Working with the blocking face, runs included, never imports asyncio."""
    code = f"""
import os
os.chdir({str(tmp_path)!r})
import waypost
with waypost.open("memory:") as wp:
    with wp.run("w", steps=["a", "b"]) as run:
        for step_id in run.ready():
            run.do(step_id, str.upper, step_id)
    print(wp.load_workflow_state("w").unwrap().workflow.progress)
print("asyncio" in sys.modules, os.listdir("."))
"""
    assert in_new_process(code).splitlines() == ["100.0", "False []"]


def test_hook_events_are_loaded_when_one_is_emitted(tmp_path: Path) -> None:
    """Opening a store costs nothing for hook events that nobody emits."""
    code = f"""
import os
os.chdir({str(tmp_path)!r})
import waypost
with waypost.open("memory:") as wp:
    wp.create_workflow("w", "W", steps=["a"]).unwrap()
    before = "waypost.hooks.emitting" in sys.modules
    wp.emit_hook_event("step_start", {{"workflow_id": "w", "step_id": "a"}}).unwrap()
    print(before, "waypost.hooks.emitting" in sys.modules, "asyncio" in sys.modules)
"""
    assert in_new_process(code) == "False True False"


def test_trap_01_the_process_exits_by_itself(tmp_path: Path) -> None:
    """A program that closes its store, or forgets to, ends when its last line is done."""
    code = f"""
import os, asyncio
os.chdir({str(tmp_path)!r})
import waypost
wp = waypost.open("memory:")
wp.create_workflow("w", "W", steps=["a"]).unwrap()
async def main():
    async with waypost.open_async("memory:") as awp:
        (await awp.create_workflow("w", "W", steps=["a"])).unwrap()
        await awp.list_workflows()
asyncio.run(main())
print("done")
"""
    assert in_new_process(code) == "done"


def test_types_of_results_are_known_to_checkers() -> None:
    """The package says that it is typed."""
    assert (Path(waypost.__file__).parent / "py.typed").exists()
