"""Committing what one piece of work has changed in two stores: in both, or in neither (docs/two-stores.md)."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from waypost import clock, prepared, records
from waypost.attempts import Attempt, Repeated
from waypost.errors import InvalidInput, WaypostError
from waypost.models import StepOwner
from waypost.operations import status_of
from waypost.prepared import PreparedRecord, SettledRecord
from waypost.store import DocumentId, JointChange, Receipt, Store
from waypost.store.contract import SETTLED

logger = logging.getLogger("waypost")


def commit(attempts: Sequence[Attempt], data: object) -> Receipt | None:
    """Commit what was staged in two stores; None where the work has to run again."""
    touched = sorted((each for each in attempts if each.opened), key=lambda each: prepared.name_of(each.store))
    if not touched:
        return attempts[0].commit(data)
    if len(touched) == 1:
        return touched[0].commit(data)
    coordinator, participant = touched
    if any(each.takes_in_checkpoints for each in touched):  # whose files nobody would keep until it is carried out
        raise InvalidInput("a checkpoint is imported outside of transactions over two stores")
    for each in touched:
        prepared.introduce(each.store)
    transaction = clock.new_id("tx")
    with prepared.under_way(transaction):
        return _Commit(transaction, coordinator, participant, data).run()


class _Commit:
    """The commit of a transaction over two stores."""

    def __init__(self, transaction: str, coordinator: Attempt, participant: Attempt, data: object) -> None:
        self._coordinator = coordinator
        self._participant = participant
        self._data = data
        # rather in one that is there than in one that was only looked for
        self._decided_in = min(coordinator.opened, key=lambda each: (not coordinator.opened[each].version, each))
        change = participant.change
        self._record = PreparedRecord(
            transaction,
            prepared.name_of(coordinator.store),
            self._decided_in,
            sorted(participant.opened),
            StepOwner.this_process(),
            False,
            [],
            change.operation_id,
            change.repeatable,
            change.session,
            participant.projection(data),
            prepared.identity_of(coordinator.store),
        )

    def run(self) -> Receipt | None:
        prepared.complete(self._coordinator.store, self._decided_in, self._participant.store)
        if not self._prepare():
            return None
        try:
            receipt = self._decide()
        except WaypostError as error:
            if status_of(error) == "rolled_back":
                self._abandon()
            raise
        if receipt is None:
            if not self._is_committed():
                self._abandon()
                return None
            receipt = Receipt(0, changed=True)  # only the answer was lost: the work is not to run again
        self._follow()
        return receipt

    def _prepare(self) -> bool:
        for part in self._participant.opened.values():
            prepared.prepare(part, self._record, self._participant.limit_bytes)
        change = JointChange(clock.new_id("op"), "prepare", session=self._record.session)
        return self._participant.commit_as(change) is not None

    def _decide(self) -> Receipt | None:
        part = self._coordinator.opened[self._decided_in]
        key = SETTLED + self._record.transaction
        said = SettledRecord(
            "committed", prepared.name_of(self._participant.store), self._record.documents, self._record.owner
        )
        part.put(key, records.encode(said))  # who gives it up meanwhile is in conflict with this
        return self._coordinator.commit(self._data)

    def _abandon(self) -> None:
        """Take away what was prepared. Where that fails, whoever comes next asks the coordinator, and does."""
        try:
            prepared.finish(self._participant.store, self._record, "abandoned")
        except WaypostError as error:
            logger.warning("a transaction over two stores is still to be undone: %s", error)

    def _is_committed(self) -> bool:
        """Whether a decision that was refused was made before, and refused as a repetition of itself."""
        try:
            return prepared.is_committed(self._coordinator.store, self._record)
        except WaypostError as error:
            error.details["outcome"] = "unknown"
            raise

    def _follow(self) -> None:
        """Carry out what is committed by now. Where that fails, whoever comes next does."""
        try:
            prepared.finish(self._participant.store, self._record, "committed")
            prepared.forget(self._coordinator.store, self._decided_in, self._record.transaction)
        except WaypostError as error:
            logger.warning("a transaction over two stores is still to be carried out: %s", error)


def complete(seen: Repeated, stores: Sequence[Store]) -> None:
    """Carry out what an earlier call has committed under the same operation id, and did not get to carry out."""
    for other in stores:
        if other is not seen.store:
            _complete(seen.store, seen.document, other)


def _complete(coordinator: Store, document: DocumentId, participant: Store) -> None:
    prepared.introduce(coordinator)
    for each in prepared.still_prepared(coordinator, document, prepared.name_of(participant)):
        prepared.settle(participant, each, coordinator)
    prepared.complete(coordinator, document, participant)
