"""Running works: from changes to commits that are ready to be appended.

The works of a batch run one after the other, each seeing what those before it staged. A prepared commit holds
everything about a frame that does not depend on its place: content, compressed body, parts touched, and by how much it
changes the document's size and checksum. Only sums and the commit id are left for the time under the lock.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from waypost import clock
from waypost.codec import bodies
from waypost.codec.bodies import CommitBody, Extent, JointMark, Part
from waypost.codec.frame import MAX_FRAME_BYTES, Draft, FrameType, Standing, part_hash, touched_parts
from waypost.errors import DocumentDamaged
from waypost.store import commits, erasures
from waypost.store import parts as sums
from waypost.store.contract import Receipt
from waypost.store.directory.content import Written
from waypost.store.directory.context import Context
from waypost.store.directory.log import NOTHING, Frame, Log
from waypost.store.directory.state import DocumentState
from waypost.store.directory.submission import Outcomes, Submission
from waypost.store.kinds import DocumentId
from waypost.store.staging import StagedTransaction, bytes_of, length_of
from waypost.store.values import Content, ContentLost, Pieces
from waypost.store.views import OperationRecord, View

_OPERATION = "\x00operation\x00"


class Tentative:
    """The state as it would be after the commits prepared so far; fulfils `views.View`."""

    def __init__(self, state: DocumentState) -> None:
        self._state = state
        self._puts: dict[str, bytes | Content | Extent | None] = {}
        """An extent says of a part that it was erased."""
        self._cleared = False
        self._known: dict[str, Part | None] = {}
        self._operations: dict[str, OperationRecord] = {}
        self._standing = state.standing
        self._unsummed: list[Prepared] = []
        self.version = state.standing.version
        self.time_us = state.standing.time_us
        self.compressed = False

    @property
    def document(self) -> DocumentId:
        return self._state.document

    @property
    def standing(self) -> Standing:
        """What the document is after the commits prepared so far; summed up when somebody asks."""
        for prepared in self._unsummed:
            self._standing = prepared.standing_after(self._standing)
        self._unsummed.clear()
        return self._standing

    @property
    def size_bytes(self) -> int:
        return self.standing.size_bytes

    @property
    def checksum(self) -> bytes:
        return self.standing.checksum

    @property
    def commit_id(self) -> bytes:
        return self.standing.commit_id

    def _part(self, key: str) -> Part | None:
        """The part in the state; asked for several times in a commit."""
        if key in self._known:
            return self._known[key]
        part = self._known[key] = self._state.part(key)
        return part

    @property
    def file_id(self) -> int:
        """Which generation of the file the state was read from."""
        return self._state.base.blocks.file_id

    def get(self, key: str) -> bytes | None:
        if key in self._puts or self._cleared:
            value = self._puts.get(key)
            if isinstance(value, Extent):
                raise erasures.gone(value.length, value.digest)
            return None if value is None else bytes_of(value)
        part = self._part(key)
        if isinstance(part, bytes):
            return part
        return None if part is None else self._state.base.blocks.value(part)

    def pieces(self, key: str) -> Pieces | None:
        value = self.get(key)
        return None if value is None else Pieces.of(value)

    def size_of(self, key: str) -> int | None:
        if key in self._puts or self._cleared:
            value = self._puts.get(key)
            return None if value is None else value.length if isinstance(value, Extent) else length_of(value)
        part = self._part(key)
        return None if part is None else len(part) if isinstance(part, bytes) else part.length

    def erased(self, key: str) -> bytes | None:
        part = self._puts.get(key) if key in self._puts or self._cleared else self._part(key)
        return part.digest if isinstance(part, Extent) and bodies.is_erased(part) else None

    def keys(self, prefix: str = "") -> Iterator[str]:
        found = (
            set[str]() if self._cleared else {key for key in self._state.view().keys(prefix) if key not in self._puts}
        )
        found.update(key for key, value in self._puts.items() if value is not None and key.startswith(prefix))
        return iter(sorted(found))

    def differing(self, other: View) -> set[str]:
        if self._cleared:
            return {*self.keys(), *other.keys()}
        return {*self._puts, *self._state.view().differing(other)}

    def operation(self, operation_id: str) -> OperationRecord | None:
        return self._operations.get(operation_id) or self._state.operation(operation_id)

    def summand(self, key: str) -> tuple[int, int]:
        """(checksum, size) that the part under a key adds to its document; zeros where there is none."""
        name = key.encode()
        part = self._puts.get(key) if key in self._puts or self._cleared else self._part(key)
        if isinstance(part, Written | Extent):
            return int.from_bytes(part.digest, "big"), sums.part_size(name, part.length)
        value = self.get(key)
        return (0, 0) if value is None else (sums.part_checksum(name, value), sums.part_size(name, len(value)))

    def take(self, prepared: Prepared) -> None:
        body = prepared.body
        if body.cleared:
            self._puts.clear()
            self._cleared = True
        self._puts.update(dict.fromkeys(body.removed))
        for key, value in body.puts.items():
            self._puts[key] = value if isinstance(value, bytes) else prepared.ahead[key]
        for key, (length, digest) in body.erased.parts.items() if body.erased is not None else ():
            self._puts[key] = Extent(length, digest, [])
        self.version += 1
        self.time_us = max(prepared.time_us, self.time_us + 1)
        self._unsummed.append(prepared)
        self._operations[body.operation_id] = OperationRecord(
            body.operation_id, self.version, self.time_us, body.operation, body.projection
        )


class Prepared:
    """A commit that is ready to be appended."""

    __slots__ = (
        "_body_hash", "_checksum", "_size", "ahead", "body", "content", "draft", "everything", "read", "receipt",
        "submission", "time_us"
    )  # fmt: skip

    def __init__(
        self,
        submission: Submission,
        transaction: StagedTransaction,
        before: Tentative,
        context: Context,
        data: object,
        joint: JointMark | None = None,
    ) -> None:
        change, staged = submission.change, transaction.staged
        self.submission = submission
        self.receipt = Receipt(0, changed=True, data=data, counters=submission.counters)
        told = change.told
        self.time_us = clock.now_us() if told is None else told.time_us
        self.everything = staged.cleared or bool(transaction.read_prefixes)
        keys = transaction.read | staged.puts.keys() | staged.removed
        self.read = {part_hash(key.encode()) for key in keys}
        self.ahead = {key: value for key, value in staged.puts.items() if isinstance(value, Written)}
        if any(written.file_id not in (0, before.file_id) for written in self.ahead.values()):
            raise ContentLost("the file that content was written to has been replaced")
        self.body = CommitBody(
            change.operation_id,
            change.operation,
            change.session,
            change.agent,
            staged.projection,
            staged.cleared,
            {
                key: value if isinstance(value, bytes) else (self.ahead[key].length, self.ahead[key].digest)
                for key, value in staged.puts.items()
            },
            sorted(staged.removed),
            joint,
        )
        if told is not None:
            self.body = commits.body_of(told)._replace(puts=self.body.puts)
        touched = self._touched(before)
        digests = self._measure(before, context.chunk_bytes if told is None else MAX_FRAME_BYTES)
        compressor = context.take_compressor()
        ahead = {key: (written.table, written.last) for key, written in self.ahead.items()}
        self.content = bodies.commit_content(self.body, digests, ahead, compressor, context.chunk_bytes)
        self.draft = bodies.commit_draft(self.content, touched, compressor)
        context.give_back(compressor)
        self._body_hash = bodies.content_hash(self.body, self.content.data)

    def _touched(self, before: Tentative) -> list[int] | None:
        change = self.submission.change
        touched = bodies.touched_by(self.body)
        if change.told is not None and touched is None:  # what it follows is known
            known = bodies.touched_by(self.body._replace(cleared=False)) or []
            touched = [*{part_hash(key.encode()) for key in before.keys()}.union(known)]
        if change.told is not None and touched is not None and self.body.transaction is not None:
            touched.append(bodies.FOLLOWED_MARK)
        if change.repeatable or change.told is not None:
            # two processes with one operation id must meet, though they may touch different parts
            mark = part_hash((_OPERATION + change.operation_id).encode())
            self.read.add(mark)
            if touched is not None:
                touched.append(mark)
        return touched

    def _measure(self, before: Tentative, chunk_bytes: int) -> dict[str, bytes]:
        """Work out what the commit adds to size and checksum; returns the digests of large parts."""
        checksum = size = 0
        erased = self.body.erased.parts if self.body.erased is not None else {}
        if not self.body.cleared:
            for key in (*self.body.puts, *self.body.removed, *erased):
                old_checksum, old_size = before.summand(key)
                checksum -= old_checksum
                size -= old_size
        for key, (length, digest) in erased.items():
            checksum += int.from_bytes(digest, "big")
            size += sums.part_size(key.encode(), length)
        digests: dict[str, bytes] = {}
        for key, value in self.body.puts.items():
            name = key.encode()
            if not isinstance(value, bytes):
                length, digest = value
                checksum += int.from_bytes(digest, "big")
                size += sums.part_size(name, length)
                continue
            summand = sums.part_checksum(name, value)
            checksum += summand
            size += sums.part_size(name, len(value))
            if len(value) > chunk_bytes:
                digests[key] = summand.to_bytes(32, "big")
        self._checksum, self._size = checksum, size
        return digests

    def standing_after(self, before: Standing) -> Standing:
        """What the document is once this commit follows `before`."""
        cleared = self.body.cleared
        return Standing(
            before.version + 1,
            max(self.time_us, before.time_us + 1),
            self._size + (0 if cleared else before.size_bytes),
            sums.add_to_checksum(sums.EMPTY_CHECKSUM if cleared else before.checksum, self._checksum),
            commits.id_behind(before.commit_id, self.body, self._body_hash),
        )

    def check_told(self, before: Standing) -> None:
        """Whether a commit that was told becomes what it says. Raises DocumentDamaged."""
        told = self.submission.change.told
        if told is None:
            return
        after = self.standing_after(before)
        if told.time_us <= before.time_us or told[1:3] != (after.commit_id, after.time_us):
            raise DocumentDamaged(f"version {after.version} is not what its id and time say")
        if (told.size_bytes, told.checksum) != (after.size_bytes, after.checksum):
            raise DocumentDamaged(f"version {after.version} is not what its sums say")

    def publish(self, found: Frame, state: DocumentState) -> None:
        """Bring the state to the version that the appended frame made."""
        body = self.body
        is_plain = not self.content.table and body.erased is None
        parts: dict[str, Part] = dict(body.puts) if is_plain else {}  # type: ignore[arg-type]
        if not is_plain:
            written = bodies.read_commit(memoryview(self.content.data))
            parts = dict(bodies.commit_parts(written, bodies.placed(self.content.table, found.blocks_at)))
        state.apply(found, parts, body.removed, body.cleared, self._record(found))
        self.receipt.version = found.header.version
        counters = self.receipt.counters
        counters.bytes_written += found.header.length + sum(each.frame_bytes for each in self.ahead.values())
        counters.streamed_bytes += sum(each.length for each in self.ahead.values())
        counters.raw_bytes += len(self.content.data) + sum(block.raw for block in self.content.table)
        counters.writes += 1

    def _record(self, found: Frame) -> OperationRecord:
        header, body = found.header, self.body
        return OperationRecord(body.operation_id, header.version, header.time_us, body.operation, body.projection)


class Ran(NamedTuple):
    """What came of running a batch: commits to append, outcomes that need none, and what all of it has read.

    None of it is final before the log has shown nothing new that touches what was read.
    """

    prepared: list[Prepared]
    settled: Outcomes
    read: set[int]
    everything: bool
    is_overtaken: bool = False
    """Whether the state went on as it ran: a work has looked at its own document, and what it took in is no news."""


def run(submissions: list[Submission], state: DocumentState, context: Context, attempt: int) -> Ran:
    """Run the works of a batch. A work that fails is an outcome of its own and leaves the others alone."""
    before = Tentative(state)
    prepared: list[Prepared] = []
    settled: Outcomes = []
    read = set[int]()
    everything = False
    for submission in submissions:
        submission.counters.attempts = attempt
        if attempt == 1:
            submission.counters.queue_wait_us = (time.perf_counter_ns() - submission.queued_ns) // 1000
        transaction = StagedTransaction(before)
        try:
            outcome = _run_one(submission, transaction, before, context)
        except Exception as error:
            outcome = error
        if isinstance(outcome, Prepared):
            before.take(outcome)
            prepared.append(outcome)
            read |= outcome.read
            everything |= outcome.everything
        else:
            settled.append((submission, outcome))
            read.update(part_hash(key.encode()) for key in transaction.read)
            everything |= bool(transaction.read_prefixes)
            everything |= isinstance(outcome, Receipt) and _names_newest(outcome, state)
    return Ran(prepared, settled, read, everything)


def _names_newest(receipt: Receipt, state: DocumentState) -> bool:
    """Whether an outcome without a commit names the version that it was found at, or one that its batch makes: behind
    any commit of others that is another one.
    """
    return receipt.repeated is None or receipt.version > state.standing.version


def _run_one(
    submission: Submission, transaction: StagedTransaction, before: Tentative, context: Context
) -> Prepared | Receipt:
    change, counters = submission.change, submission.counters
    if change.repeatable and (seen := before.operation(change.operation_id)) is not None:
        return Receipt(seen.version, changed=False, repeated=seen, counters=counters)
    submission.is_new = True
    data = change.work(transaction)
    # a commit that is told is made also where all that it put was erased since
    if not transaction.staged.changes_anything and not change.repeatable and change.told is None:
        return Receipt(before.version, changed=False, data=data, counters=counters)
    prepared = Prepared(submission, transaction, before, context, data)
    if change.told is not None:
        prepared.check_told(before.standing)
    return prepared


def conflicts(ran: Ran, news: list[Frame]) -> bool:
    """Whether commits that others made touch what the batch has read."""
    if ran.is_overtaken:
        return True
    for found in news:
        if found.header.type == FrameType.COMMIT:
            touched = touched_parts(found.header, found.data)
            if ran.everything or touched is None or not ran.read.isdisjoint(touched):
                return True
    return False


def compose(prepared: Sequence[Prepared], state: DocumentState, log: Log) -> tuple[list[Frame], bytes]:
    """The frames of commits as they will stand behind the log end, and their bytes. Raises DocumentTooLarge."""
    drafts: list[tuple[Draft, Standing]] = []
    if log.end == 0 and log.body is not None:
        drafts.append((bodies.file_draft(log.body), NOTHING))
    standing = state.standing
    for each in prepared:
        standing = each.standing_after(standing)
        drafts.append((each.draft, standing))
    length = sum(draft.length for draft, _ in drafts)
    if log.end + length > log.limit or standing.size_bytes > log.limit:
        raise log.too_large(max(log.end + length, standing.size_bytes))
    return log.compose(drafts)
