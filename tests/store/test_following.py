"""Commits of another store that are appended behind the newest one here: what they were, or not at all."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests import servers
from tests.conftest import KINDS, make_config
from tests.store.support import TestedStore, change, directory_store
from waypost.codec import bodies
from waypost.codec.bodies import CommitBody, MergeMark
from waypost.errors import DocumentDamaged, ValueErased, VersionConflict
from waypost.store import Change, Commit, DocumentId, JointChange, Pieces, Store, commits, open_store, parts
from waypost.store.contract import CHECKPOINT
from waypost.store.directory import following
from waypost.store.erasures import ERASED
from waypost.store.memory import MemoryStore
from waypost.store.pasts import Merge

A = DocumentId("workflow", "a")
LARGE = os.urandom(9000)


def putting(document: DocumentId = A, operation_id: str | None = None, **values: bytes) -> Change:
    def work(tx: Any) -> None:
        for key, value in values.items():
            tx.put(key, value)

    return change(document, work, operation_id=operation_id)


def opened(path: Path) -> TestedStore:
    return directory_store(path, chunk_size=4096)


def made(kind: str, path: Path) -> Iterator[Store]:
    with ExitStack() as stack:
        if kind == "postgres":
            config = make_config({"compression": {"chunk_size": 4096}})
            store = open_store(stack.enter_context(servers.postgres().lent()), config)
        else:
            store = MemoryStore() if kind == "memory" else opened(path)
        stack.callback(store.close)
        yield store


@pytest.fixture(params=KINDS)
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    yield from made(request.param, tmp_path / "source")


@pytest.fixture(params=KINDS)
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    yield from made(request.param, tmp_path / "target")


def arrive(source: Store, target: Store) -> None:
    """Have the document in the other store, as it is."""
    reception = target.receive()
    reception.take(A, source.past(A), None)
    assert target.commit(target.begin(), JointChange("op", "test"), reception)
    reception.close()


def behind(source: Store, head: bytes) -> list[Commit]:
    found = list(source.past(A).commits(oldest_first=True))
    return found[[each.commit_id for each in found].index(head) + 1 :]


def told(commit: Commit) -> tuple[Any, ...]:
    """A commit as it is to be everywhere."""
    puts = {key: commit.read(key) for key in commit.puts if commit.erased is None or key not in commit.erased[1]}
    joint = None if commit.joint is None else (commit.joint.transaction_id, list(map(tuple, commit.joint.participants)))
    merge = None if commit.merge is None else tuple(map(list, commit.merge))
    return (
        *(commit.commit_id, commit.time_us, commit.operation_id, commit.operation, commit.session, commit.agent),
        *(commit.cleared, puts, list(commit.removed), joint, commit.projection, commit.size_bytes, commit.checksum),
        *(dict(commit.digests), merge),
    )


def equal(one: Store, other: Store) -> None:
    here, there = one.view(A), other.view(A)
    assert (here.commit_id, here.checksum, here.size_bytes, here.time_us) == (
        *(there.commit_id, there.checksum, there.size_bytes, there.time_us),
    )
    assert {key: here.get(key) for key in here.keys()} == {key: there.get(key) for key in there.keys()}


def test_what_follows_is_what_it_was_elsewhere(source: Store, target: Store) -> None:
    """A commit that follows keeps id, time, operation, sums and values, large ones too, and is remembered."""
    source.submit(putting(first=b"1")).result()
    arrive(source, target)
    head = target.view(A).commit_id
    source.submit(putting(operation_id="mine", large=LARGE, small=b"2")).result()
    source.submit(change(A, lambda tx: (tx.delete("first"), tx.project(["x", 1])))).result()
    source.submit(change(A, lambda tx: (tx.clear(), tx.put("large", LARGE + b"!"), tx.put("z", b"")))).result()
    joint = source.begin()
    for document in (A, DocumentId("workflow", "b")):
        joint.document(document).put("both", LARGE)
    assert source.commit(joint, JointChange("op2", "test"))
    assert target.follow(A, head, behind(source, head)) == 5
    equal(source, target)
    assert [told(each) for each in source.past(A).commits()] == [told(each) for each in target.past(A).commits()]
    record = target.view(A).operation("mine")
    assert record is not None
    assert record.version == 2


def test_versions_are_local(target: Store) -> None:
    """What follows gets the next version of the document here, whatever it made elsewhere."""
    source = MemoryStore()
    for number in range(5):
        source.submit(putting(key=b"%d" % number)).result()
    arrive(source, target)
    head = target.view(A).commit_id
    source.submit(putting(key=b"x")).result()
    (commit,) = behind(source, head)
    assert target.follow(A, head, [commit._replace(version=77)]) == 6
    view = target.view_at(A, 6)
    assert view is not None
    assert view.get("key") == b"x"


def test_nothing_follows_another_commit(target: Store) -> None:
    """Where the newest commit is another one, nothing is appended."""
    source = MemoryStore()
    source.submit(putting(key=b"1")).result()
    arrive(source, target)
    head = target.view(A).commit_id
    source.submit(putting(key=b"2")).result()
    target.submit(putting(other=b"3")).result()
    before = target.view(A).commit_id
    with pytest.raises(VersionConflict):
        target.follow(A, head, behind(source, head))
    assert target.view(A).commit_id == before


@pytest.mark.parametrize("what", ["value", "operation", "projection", "sum", "size", "time", "id", "session"])
def test_what_is_not_what_its_id_says_is_refused(target: Store, what: str) -> None:
    """A commit that was changed on its way is refused before any byte of it is written; those before it stand."""
    source = MemoryStore()
    source.submit(putting(key=b"1")).result()
    arrive(source, target)
    head = target.view(A).commit_id
    source.submit(putting(key=b"2")).result()
    source.submit(putting(key=b"3")).result()
    good, commit = behind(source, head)
    bad: dict[str, Any] = {
        "value": {"read": dict.fromkeys(commit.puts, b"x").__getitem__},
        "operation": {"operation_id": "another"},
        "projection": {"projection": ["y"]},
        "sum": {"checksum": bytes(32)},
        "size": {"size_bytes": 1},
        "time": {"time_us": good.time_us},
        "id": {"commit_id": bytes(32)},
        "session": {"session": "s"},
    }[what]
    with pytest.raises(DocumentDamaged):
        target.follow(A, head, [good, commit._replace(**bad)])
    assert target.view(A).commit_id == good.commit_id
    assert target.view(A).get("key") == b"2"
    target.follow(A, good.commit_id, [commit])
    equal(source, target)


def test_a_checkpoint_that_follows_is_kept(source: Store, target: Store) -> None:
    """A checkpoint whose commit followed stands for the version that the commit made here."""
    source.submit(putting(key=b"1")).result()
    arrive(source, target)
    head = target.view(A).commit_id
    source.submit(change(A, lambda tx: (tx.put(CHECKPOINT + "a@c1", b"x"), tx.put("key", b"2")))).result()
    source.submit(putting(key=b"3")).result()
    target.follow(A, head, behind(source, head))
    assert target.checkpoints(A) == ["a@c1"]
    kept = target.checkpoint(A, "a@c1")
    assert kept is not None
    assert kept.get("key") == b"2"


def merge_of(one: Store, other: Store, base: bytes, **values: bytes) -> Commit:
    """A merge that puts values, as it is to be behind the newest commit of either, or of `base`."""
    parents = sorted(each.view(A).commit_id for each in (one, other))

    def pieces(key: str) -> Pieces:
        return Pieces.of(values[key])

    commit = Commit(
        version=0,
        commit_id=b"",
        time_us=max(each.view(A).time_us for each in (one, other)) + 1,
        operation_id="merge",
        operation="sync",
        session=None,
        agent=None,
        cleared=False,
        puts={key: len(value) for key, value in values.items()},
        removed=[],
        joint=None,
        read=values.__getitem__,
        pieces=pieces,
        digests={},
        projection=None,
        size_bytes=0,
        checksum=b"",
        merge=Merge(parents, [base], []),
    )
    body = commits.body_of(commit)
    held = {key: one.view(A).get(key) or b"" for key in one.view(A).keys()} | values
    return commit._replace(
        commit_id=commits.id_of(parents[0], body),
        size_bytes=sum(len(key) + len(value) for key, value in held.items()),
        checksum=parts.document_checksum(held.items()),
    )


def test_a_merge_is_the_same_commit_behind_either_line(source: Store, target: Store) -> None:
    """A merge has one id behind each of the commits that it may follow, and is refused behind any other."""
    source.submit(putting(key=b"1")).result()
    arrive(source, target)
    third = MemoryStore()
    arrive(source, third)
    base = source.view(A).commit_id
    source.submit(putting(ours=b"2")).result()
    target.submit(putting(theirs=b"3")).result()
    merge = merge_of(source, target, base, ours=b"2", theirs=b"3")
    for store in (source, target, third):
        store.follow(A, store.view(A).commit_id, [merge])
        equal(source, store)
    assert next(told(each) for each in target.past(A).commits()) == told(merge)
    stranger = MemoryStore()
    stranger.submit(putting(ours=b"2", theirs=b"3", key=b"1")).result()
    with pytest.raises(DocumentDamaged):
        stranger.follow(A, stranger.view(A).commit_id, [merge])


def test_no_id_of_another_commit_changes() -> None:
    """The content of a commit that is no merge is encoded as before there were any."""
    plain = CommitBody("op", "test", None, None, None, False, {"a": b"1"}, [])
    merged = plain._replace(merge=MergeMark([bytes(32), b"\1" * 32], [], []))
    assert bodies.content_of(plain) == bytes.fromhex("99a26f70a474657374c0c0c0c281a161c4013190c0")
    assert bodies.read_commit(memoryview(bodies.content_of(merged))) == merged
    assert commits.id_of(bytes(32), merged) == commits.id_of(b"\1" * 32, merged)
    for parents in ([bytes(32)], [b"\1" * 32, bytes(32)], [bytes(32), bytes(32)]):
        with pytest.raises(DocumentDamaged):
            commits.id_of(bytes(32), plain._replace(merge=MergeMark(parents, [], [])))


def test_what_was_erased_follows_without_its_value(source: Store, target: Store) -> None:
    """Commits from which something was erased follow with their ids and sums, and no byte of what was erased."""
    source.submit(putting(key=b"1")).result()
    arrive(source, target)
    head = target.view(A).commit_id
    source.submit(putting(secret=LARGE, other=b"2")).result()
    source.submit(putting(secret=b"small", other=b"3")).result()
    until = source.view(A).time_us
    said = msgspec.msgpack.encode([until, until, "secret"])
    source.submit(change(A, lambda tx: (tx.delete("secret"), tx.put(ERASED + "secret", said)))).result()
    source.erase(A)
    target.follow(A, head, behind(source, head))
    equal(source, target)
    assert [told(each) for each in source.past(A).commits()] == [told(each) for each in target.past(A).commits()]
    for version in (2, 3):
        view = target.view_at(A, version)
        assert view is not None
        with pytest.raises(ValueErased):
            view.get("secret")
        assert view.get("other") == b"%d" % version
    if isinstance(target, TestedStore):
        assert [each.text for each in target.verify().findings if each.severity == "damage"] == []


@pytest.mark.parametrize("is_erased", [False, True])
def test_a_commit_that_changes_nothing_any_more_follows(source: Store, target: Store, is_erased: bool) -> None:
    """So does one that was made to be remembered alone, and one of which all that it put was erased since: what comes
    behind them follows, too.
    """
    source.submit(putting(key=b"1")).result()
    arrive(source, target)
    head = target.view(A).commit_id
    nothing = change(A, lambda _: None, operation_id="mine", repeatable=True)
    source.submit(putting(secret=b"2") if is_erased else nothing).result()
    until = source.view(A).time_us
    said = msgspec.msgpack.encode([until, until, "secret"])
    source.submit(change(A, lambda tx: (tx.delete("secret"), tx.put(ERASED + "secret", said)))).result()
    source.erase(A)
    assert target.follow(A, head, behind(source, head)) == 3
    equal(source, target)
    assert [told(each) for each in source.past(A).commits()] == [told(each) for each in target.past(A).commits()]


def test_halves_of_a_transaction_that_followed_are_not_missed(source: Store, tmp_path: Path) -> None:
    """`verify` does not look here for participants by the versions that they have elsewhere, cleared or not."""
    other = DocumentId("workflow", "b")
    with opened_for(tmp_path / "target") as target:
        source.submit(putting(key=b"1")).result()
        arrive(source, target)
        head = target.view(A).commit_id
        for number in range(2):
            joint = source.begin()
            for document in (A, other):
                if number:
                    joint.document(document).clear()
                joint.document(document).put("both", b"%d" % number)
            assert source.commit(joint, JointChange(f"op{number}", "test"))
        target.follow(A, head, behind(source, head))
        target.submit(putting(other, key=b"1")).result()
        assert [each.text for each in target.verify().findings if each.severity == "damage"] == []
        equal(source, target)


def test_what_follows_survives_compaction_and_opening_again(source: Store, tmp_path: Path) -> None:
    """A merge and what follows are the same after the log was compacted, and opened again."""
    source.submit(putting(key=b"1")).result()
    with opened_for(tmp_path / "target") as target:
        arrive(source, target)
        base = target.view(A).commit_id
        source.submit(putting(ours=LARGE)).result()
        target.submit(putting(theirs=b"3")).result()
        merge = merge_of(source, target, base, ours=LARGE, theirs=b"3")
        for store in (source, target):
            store.follow(A, store.view(A).commit_id, [merge])
        source.submit(putting(later=b"4")).result()
        target.follow(A, merge.commit_id, behind(source, merge.commit_id))
        assert target.tidy(A, "compact")
    with opened_for(tmp_path / "target") as target:
        equal(source, target)
        assert [told(each) for each in target.past(A).commits()][1] == told(merge)
        assert [each.text for each in target.verify().findings if each.severity == "damage"] == []


@contextmanager
def opened_for(path: Path) -> Generator[TestedStore]:
    store = opened(path)
    try:
        yield store
    finally:
        store.close()


def test_another_process_comes_in_between(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit of others between two that follow, of another part too, ends it; what followed before it stands."""
    monkeypatch.setattr(following, "_MOST_AT_A_TIME", 1)
    source = MemoryStore()
    source.submit(putting(key=b"1")).result()
    with opened_for(tmp_path / "target") as target, opened_for(tmp_path / "target") as others:
        arrive(source, target)
        head = target.view(A).commit_id
        source.submit(putting(key=b"2")).result()
        source.submit(putting(key=b"3")).result()
        first, second = behind(source, head)

        def commits() -> Iterator[Commit]:
            yield first
            others.submit(putting(quite=b"another")).result()
            yield second

        with pytest.raises(VersionConflict):
            target.follow(A, head, commits())
        assert target.view(A).get("key") == b"2"
        assert target.view(A).version == 3
