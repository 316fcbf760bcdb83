"""Going through crash states: which are tried, how a failure is made small, and what is said of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from tests.crash.disk import Choice, Crash, Disk, Model
from tests.crash.oracle import Standing, Wrong, examine
from tests.crash.recording import Mark, apply
from tests.crash.simulated import Tree
from tests.crash.stories import PATH, Recording

SEED = 20_260_101
_IN_VAIN = 60


class Moment(NamedTuple):
    """A crash, and what had been promised by then."""

    crash: Crash
    standing: Standing


def moments(recording: Recording, model: Model, start: int = 0) -> Iterator[Moment]:
    """Every moment of a recording from event `start` on at which the power may go."""
    disk = Disk(recording.before, model)
    kind = "kept" if model == "kill" else "promised"
    for at, event in enumerate(recording.events):
        disk.follow(at, event)
        if at < start or isinstance(event, Mark):
            continue
        end = at + 1  # what is said next is said before anything else happens
        while end < len(recording.events) and isinstance(recording.events[end], Mark):
            end += 1
        yield Moment(disk.crash(at), recording.standing(end, kind))


def check_replay(recording: Recording) -> None:
    """With all of it on the medium a disk holds what the system held."""
    tree = recording.before.copy()
    for event in recording.events:
        apply(tree, event)
    for model in ("kill", "ordered", "weak"):
        *_, last = moments(recording, model)
        held = last.crash.state(last.crash.everything())
        assert list(held.contents()) == list(tree.contents()), model


class Campaign:
    """Tries states of a recording, each once, until enough were tried or no more are found."""

    def __init__(self, recording: Recording, model: Model, *, seed: int = SEED, title: str = "") -> None:
        self.recording = recording
        self.model: Model = model
        self.seed = seed
        self.title = title
        self.tried = 0
        self._known: set[object] = set()

    def run(self, wanted: int, start: int = 0) -> int:
        """Try up to so many states, some of each moment in turn. Raises Wrong with the smallest that fails."""
        for moment, choice, tree in self.states(wanted, start):
            try:
                self.examine(tree, moment.standing)
            except Wrong as error:
                raise Wrong(self.report(moment, *self.shrink(moment, choice, error))) from None
        return self.tried

    def examine(self, tree: Tree, standing: Standing) -> None:
        examine(tree, PATH, self.recording.story, standing, self.recording.options)

    def states(self, wanted: int, start: int = 0) -> Iterator[tuple[Moment, Choice, Tree]]:
        found = [(each, self._new_states(each)) for each in moments(self.recording, self.model, start)]
        while found and self.tried < wanted:
            for each in list(found):
                moment, states = each
                state = next(states, None)
                if state is None:
                    found.remove(each)
                elif self.tried < wanted:
                    self.tried += 1
                    yield moment, *state

    def _new_states(self, moment: Moment) -> Iterator[tuple[Choice, Tree]]:
        if self.model == "kill":
            yield moment.crash.everything(), moment.crash.state(moment.crash.everything())
            return
        in_vain = 0
        for is_sample, choice in moment.crash.choices(self.seed + moment.crash.event):
            tree = moment.crash.state(choice)
            known = tree.fingerprint(), moment.standing
            if known not in self._known:
                self._known.add(known)
                in_vain = 0
                yield choice, tree
            elif is_sample:
                in_vain += 1
                if in_vain > _IN_VAIN:
                    return

    # --- when one fails -----------------------------------------------------------------------

    def shrink(self, moment: Moment, choice: Choice, error: Wrong) -> tuple[Choice, Wrong]:
        """A state that fails with less: no tear, zeros, fewer operations left out, then fewer there."""
        crash = moment.crash
        smaller: list[Choice] = [choice._replace(torn=None), choice._replace(fill="zeros")]
        smaller.append(Choice(choice.taken))
        for candidate in smaller:
            failed = self._fails(moment, candidate)
            if failed is not None:
                choice, error = candidate, failed
        for at in crash.optional():
            for taken in (choice.taken | {at}, choice.taken - {at}):
                candidate = choice._replace(taken=crash.legal(taken))
                if candidate.taken != choice.taken and at not in choice.taken:
                    failed = self._fails(moment, candidate)
                    if failed is not None:
                        choice, error = candidate, failed
        return choice, error

    def _fails(self, moment: Moment, choice: Choice) -> Wrong | None:
        try:
            self.examine(moment.crash.state(choice), moment.standing)
        except Wrong as error:
            return error
        return None

    def report(self, moment: Moment, choice: Choice, error: Wrong) -> str:
        crash = moment.crash
        lines = [
            str(error),
            f"{self.title}, model {self.model}, seed {self.seed}; the power goes after event {crash.event}:",
            *(f"  {at} {_shown(event)}" for at, event in enumerate(self.recording.events) if at <= crash.event),
            f"promised {sorted(moment.standing.promised)}, tried {sorted(moment.standing.tried)}, "
            f"failed {sorted(moment.standing.failed)}; where it grew without data: {choice.fill}; not yet durable:",
        ]
        for at, operation in enumerate(crash.operations):
            word = "durable" if at in crash.durable else "there" if at in choice.taken else "not there"
            if choice.torn is not None and choice.torn[0] == at and at in choice.taken:
                word = f"only its bytes {choice.torn[1]} to {choice.torn[2]}"
            lines.append(f"  {word:>10}: {operation}")
        return "\n".join(lines)


def _shown(event: object) -> str:
    text = repr(event)
    return text if len(text) <= 150 else text[:110] + "..." + text[-20:]
