"""T10 with erasures: what was erased from a workflow never comes back, whatever is done to it afterwards.

Random operations on several workflows and all their values, with checkpoints, restores, forks, deletions, compactions
that shorten history, other processes and reopening. Each value is one of its kind, so that the bytes of every file tell
which are there.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ON_REQUEST, make_config
from tests.files import contents
from tests.seeds import SEED
from tests.store.support import TestedStore
from tests.totals import Totals, ring_size
from waypost.blocking import Waypost
from waypost.definitions import Definitions
from waypost.errors import NotFound, Refused, ValueErased
from waypost.store import DocumentId, View
from waypost.store.directory import compaction
from waypost.store.directory.layout import encode_id

CONFIG = make_config({"checkpoints": ON_REQUEST, "compression": {"enabled": False, "chunk_size": 4096}})
NAMES = ("w", "v", "fork1", "fork2")
PATHS = ("context.variables.x", "context.variables.y", "outputs.a", "outputs.b", "agents.g")


class Model:
    """Some handles over one store, what was ever put where, and what of that was erased."""

    def __init__(self, path: Path, rng: random.Random) -> None:
        self.path = path
        self.rng = rng
        self.number = 0
        self.put: dict[tuple[str, str], set[str]] = defaultdict(set)
        self.gone: dict[str, set[str]] = defaultdict(set)
        self.handles = [self._opened(), self._opened()]

    def _opened(self) -> Waypost:
        store = TestedStore.open(str(self.path), CONFIG, create=True, read_only=False)
        return Waypost(Definitions(store, CONFIG, verbose=False))

    @property
    def wp(self) -> Waypost:
        return self.rng.choice(self.handles)

    def value(self) -> str:
        self.number += 1
        return f"value-{self.number:05}-" * (1 if self.rng.random() < 0.7 else 500)

    def checkpoint(self) -> tuple[str, str]:
        """A checkpoint, and the workflow that it is of. Raises NotFound."""
        name = self.rng.choice(NAMES)
        found = self.wp.list_checkpoints(name).items
        if not found:
            raise NotFound("there is none")
        return name, self.rng.choice(list(found)).id

    # --- what is done ---

    def set(self) -> None:
        name, path, value = self.rng.choice(NAMES), self.rng.choice(PATHS), self.value()
        kind, _, key = path.rpartition(".")
        if kind == "context.variables":
            self.wp.update_context(name, variables={key: value}).unwrap()
        elif kind == "outputs":
            self.wp.add_step_output(name, key, value).unwrap()
        else:
            self.wp.update_agent_state(name, key, {"current_task": value}).unwrap()
        self.put[name, path].add(value)

    def make(self) -> None:
        self.wp.create_workflow(self.rng.choice(NAMES[:2]), "W", steps=["a", "b"]).unwrap()

    def keep(self) -> None:
        self.wp.create_checkpoint(self.rng.choice(NAMES)).unwrap()

    def go_back(self) -> None:
        self.wp.restore_from_checkpoint(self.checkpoint()[1]).unwrap()

    def fork(self) -> None:
        source, checkpoint = self.checkpoint()
        target = self.rng.choice(NAMES[2:])
        self.wp.fork_workflow(checkpoint, target).unwrap()
        for path in PATHS:
            came = self.put[source, path] - self.gone[source]
            self.put[target, path] |= came
            self.gone[target] -= came  # it was deleted, and is made anew of a workflow that still has them

    def delete(self) -> None:
        self.wp.delete_workflow(self.rng.choice(NAMES)).unwrap()

    def erase(self) -> None:
        name, path = self.rng.choice(NAMES), self.rng.choice(PATHS)
        self.wp.erase(name, path).unwrap()
        self.gone[name] |= self.put[name, path]

    def tidy(self) -> None:
        store: Any = self.wp.definitions.store
        document = DocumentId("workflow", self.rng.choice(NAMES))
        if store.view(document).version:
            store._document(document).open_for_writing()
            with pytest.MonkeyPatch.context() as patch:
                if self.rng.random() < 0.3:
                    patch.setattr(compaction, "DAY_US", -1)
                store.tidy(document, self.rng.choice(["compact", "snapshot", "keep"]))

    def reopen(self) -> None:
        number = self.rng.randrange(len(self.handles))
        self.handles[number].close()
        self.handles[number] = self._opened()

    def step(self) -> str:
        acts: list[tuple[Callable[[], None], int]] = [
            (self.set, 12), (self.make, 2), (self.keep, 4), (self.go_back, 2), (self.fork, 2), (self.delete, 1),
            (self.erase, 3), (self.tidy, 3), (self.reopen, 1),
        ]  # fmt: skip
        act = self.rng.choices([act for act, _ in acts], [weight for _, weight in acts])[0]
        try:
            act()
        except (NotFound, Refused):
            pass  # there was nothing to do that to
        return act.__name__

    # --- what must hold ---

    def check(self) -> None:
        for name in NAMES:
            lost = self.gone[name]
            for file, data in self._files_of(name):
                assert not [value for value in lost if value[:12].encode() in data], file
        for view in self._views():
            gone = self.gone[view.document.id]
            for key in view.keys():
                if view.erased(key) is None:
                    data = view.get(key) or b""
                    assert not [value for value in gone if value[:12].encode() in data], (view.version, key)
        for name in NAMES:
            self._check_state(name)

    def _files_of(self, name: str) -> Iterator[tuple[Path, bytes]]:
        for file, data in contents(self.path).items():
            if file.name.startswith((f"{name}.state", f"{encode_id(name)}_40c")):
                yield file, data

    def _views(self) -> Iterator[View]:
        store = self.wp.definitions.store
        for name in NAMES:
            document = DocumentId("workflow", name)
            for version in range(1, store.view(document).version + 1):
                view = store.view_at(document, version)
                if view is not None:
                    yield view
            for checkpoint in store.checkpoints(document):
                view = store.checkpoint(document, checkpoint)
                assert view is not None
                yield view

    def _check_state(self, name: str) -> None:
        """It is sound, and what can be read of it is a value or says that it was erased."""
        wp = self.wp
        loaded = wp.load_workflow_state(name)
        if not loaded:
            return
        report = wp.validate_workflow_state(name)
        assert report.is_valid, (name, report.errors)
        for step in loaded.unwrap().workflow.steps:
            for version in range(1, step.output_version + 1):
                try:
                    wp.get_step_output(name, step.id, version)
                except ValueErased:
                    pass

    def close(self) -> None:
        for each in self.handles:
            each.close()


@contextmanager
def told(seed: int) -> Iterator[list[str]]:
    done: list[str] = []
    try:
        yield done
    except BaseException as error:
        again = f"WAYPOST_TEST_SEED={seed} python -m pytest {__file__}"
        error.add_note(f"seed {seed}, after {len(done)} steps: {' '.join(done[-12:])}; again: {again}")
        raise


def test_t10_what_was_erased_never_comes_back(tmp_path: Path, totals: Totals) -> None:
    """After each erasure, and every few steps, no file and no version of a workflow holds what was erased from it."""
    print(f"seed {SEED}: WAYPOST_TEST_SEED={SEED} python -m pytest {__file__}")
    erased = 0
    for part in range(ring_size(2, 100)):
        with told(SEED) as done:
            model = Model(tmp_path / f"store{part}", random.Random(SEED + part))
            for _ in range(ring_size(250, 1_000)):
                done.append(model.step())
                if done[-1] in ("erase", "tidy") or len(done) % 20 == 0:
                    model.check()
            model.close()
            model.handles = [model._opened()]
            model.check()
            store: Any = model.wp.definitions.store
            assert [each for each in store.verify().findings if each.severity not in ("note", "leftover")] == []
            model.close()
            erased += sum(map(len, model.gone.values()))
        totals("model steps", len(done))
    assert erased > 20
