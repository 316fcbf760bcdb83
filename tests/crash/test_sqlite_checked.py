"""The checker of power loss is checked on SQLite, whose promises are known.

SQLite makes its calls itself, so they are recorded by strace. With `synchronous=EXTRA` nothing may be found, and with
less what SQLite says of itself: `FULL` may forget a commit whose journal comes back, `OFF` may break the file.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections import Counter
from functools import lru_cache
from pathlib import Path

import pytest

from tests.crash.campaign import Campaign, check_replay
from tests.crash.disk import Model
from tests.crash.oracle import Standing, Wrong
from tests.crash.recording import Made, Mark, Removed, Synced, Wrote
from tests.crash.simulated import Tree
from tests.crash.stories import Recording
from tests.crash.tracing import Trace, calls_of, trace
from tests.totals import ring_size

pytestmark = [
    pytest.mark.skipif(not shutil.which("strace"), reason="needs strace"),
    pytest.mark.timeout(ring_size(120, 3600)),
]
TRANSACTIONS = 8
UNSYNCED = 2
"""How many there are where nothing is synced: what may be on the disk grows with the square of the calls."""
PROGRAM = """
import os, sqlite3, sys
directory, journal, synchronous, transactions = sys.argv[1:]
database = sqlite3.connect(f"{directory}/data", isolation_level=None)
database.execute("PRAGMA cache_size = 8")  # some pages are written before the commit
database.execute(f"PRAGMA journal_mode = {journal}")
database.execute(f"PRAGMA synchronous = {synchronous}")
for number in range(1, int(transactions) + 1):
    os.write(1, b"tried %d" % number)
    database.execute("BEGIN")
    for statement in STATEMENTS:
        database.execute(statement, {"number": number})
    database.execute("COMMIT")
    os.write(1, b"promised %d" % number)
"""
STATES = ring_size(500, 5_000)
STATEMENTS = [
    "CREATE TABLE IF NOT EXISTS parts (number INTEGER, part INTEGER, text TEXT, PRIMARY KEY (number, part))",
    """INSERT INTO parts WITH RECURSIVE part(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM part WHERE n < 4)
       SELECT :number, n, printf('%.*c', 700 * n, char(64 + :number)) FROM part""",
    "UPDATE parts SET text = text || 'again ' || :number WHERE part = 1 + :number % 4",
    "DELETE FROM parts WHERE number < :number - 3",
]
"""What each transaction does: it makes and changes parts, which takes several pages each, and removes old ones."""

Rows = list[tuple[object, ...]]


def rows_of(database: sqlite3.Connection) -> Rows:
    if not database.execute("SELECT name FROM sqlite_master").fetchall():
        return []
    return database.execute("SELECT * FROM parts ORDER BY number, part").fetchall()


@lru_cache
def expected() -> list[Rows]:
    """The rows after each number of transactions."""
    database = sqlite3.connect(":memory:", isolation_level=None)
    found = [rows_of(database)]
    for number in range(1, TRANSACTIONS + 1):
        for statement in STATEMENTS:
            database.execute(statement, {"number": number})
        found.append(rows_of(database))
    database.close()
    return found


class SqliteCampaign(Campaign):
    """Opens each state with SQLite."""

    def examine(self, tree: Tree, standing: Standing) -> None:
        in_memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
        with tempfile.TemporaryDirectory(dir=in_memory) as folder:
            for path, data in tree.contents():
                assert data is not None
                Path(folder, path).write_bytes(data)
            least, most = max(standing.promised, default=0), max(standing.tried, default=0)
            present = {self._open(f"{folder}/data") for _ in range(2)}
            if len(present) != 1:
                raise Wrong("opened again it shows something else")
            if not least <= present.pop() <= most:
                raise Wrong(f"transaction {least} was promised and is lost")

    def _open(self, path: str) -> int:
        """How many transactions are there, whole."""
        database = sqlite3.connect(path)
        try:
            sound = database.execute("PRAGMA integrity_check").fetchall()
            if sound != [("ok",)]:
                raise Wrong(f"damaged: {sound}")
            return expected().index(rows_of(database))
        except sqlite3.DatabaseError as error:
            raise Wrong(f"damaged: {error}") from error
        except ValueError:
            raise Wrong("damaged: there is half of a transaction") from None
        finally:
            database.close()


@lru_cache
def recorded(journal: str, synchronous: str) -> Recording:
    transactions = UNSYNCED if synchronous == "OFF" else TRANSACTIONS
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder, "below")
        directory.mkdir()
        program = f"STATEMENTS = {STATEMENTS!r}\n{PROGRAM}"
        return trace(program, directory, journal, synchronous, str(transactions))


def campaign(journal: str, synchronous: str, model: Model) -> SqliteCampaign:
    title = f"SQLite, journal {journal}, synchronous {synchronous}"
    return SqliteCampaign(recorded(journal, synchronous), model, title=title)


def findings(journal: str, synchronous: str, model: Model) -> Counter[str]:
    """What is wrong with states that a power cut may leave, in a word each."""
    tried = campaign(journal, synchronous, model)
    found: Counter[str] = Counter()
    for moment, _, tree in tried.states(STATES):
        try:
            tried.examine(tree, moment.standing)
        except Wrong as error:
            found["damaged" if "damaged" in str(error) else "lost" if "is lost" in str(error) else str(error)] += 1
    assert tried.tried > 30
    return found


@pytest.mark.parametrize(
    ("journal", "synchronous"), [("DELETE", "EXTRA"), ("PERSIST", "FULL"), ("TRUNCATE", "FULL"), ("DELETE", "OFF")]
)
def test_q05_the_trace_is_what_happens_on_a_disk(journal: str, synchronous: str) -> None:
    """Replayed it gives the files that are there, and so does each model when all of it reached the medium."""
    recording = recorded(journal, synchronous)
    check_replay(recording)
    kinds = {type(event) for event in recording.events}
    assert {Made, Wrote, Mark} <= kinds
    assert (Synced in kinds) is (synchronous != "OFF")


@pytest.mark.parametrize("model", ["kill", "ordered", "weak"])
@pytest.mark.parametrize(("journal", "synchronous"), [("DELETE", "EXTRA"), ("PERSIST", "FULL")])
def test_q05_nothing_is_found_in_sqlite_where_it_promises_all(journal: str, synchronous: str, model: Model) -> None:
    """With each sync that its authors ask for, SQLite is whole after any crash, and holds what it promised."""
    assert campaign(journal, synchronous, model).run(STATES) > 300


@pytest.mark.parametrize("model", ["ordered", "weak"])
def test_q05_sqlite_that_syncs_no_directory_is_found_to_forget(model: Model) -> None:
    """With `FULL` the removal of the journal is not synced: it comes back, and with it the state of before."""
    assert set(findings("DELETE", "FULL", model)) == {"lost"}


def test_q05_the_end_of_the_process_costs_sqlite_nothing_at_any_level() -> None:
    """Without any sync everything is in the page cache, which outlives the process."""
    assert not findings("DELETE", "OFF", "kill")


@pytest.mark.parametrize("model", ["ordered", "weak"])
def test_q05_sqlite_that_syncs_nothing_is_found_to_lose_and_to_break(model: Model) -> None:
    """With `OFF` states are found in which a promise is broken, and such in which the file is."""
    assert {"lost", "damaged"} <= set(findings("DELETE", "OFF", model))


def test_q05_a_failure_in_sqlite_is_told_with_what_repeats_it() -> None:
    """As for our own store: the seed, the calls, and which of them were on the medium."""
    with pytest.raises(Wrong, match=r"SQLite, journal DELETE, synchronous OFF, model weak, seed \d+"):
        campaign("DELETE", "OFF", "weak").run(STATES)


# --- the trace itself ---

OPENED = r'1 openat(AT_FDCWD, "\x2f\x64\x2f\x61", O_RDWR|O_CREAT, 0600) = 3' + "\n"


def followed(text: str) -> Trace:
    traced = Trace("/d")
    for call in calls_of(OPENED + text):
        traced.follow(call)
    return traced


def test_q05_a_trace_holds_what_was_written_and_not_what_failed() -> None:
    """A short write counts as far as it went, and a call that failed does not."""
    text = r"""1 pwrite64(3, "\x61\x62\x63", 3, 5) = 2
1 pwrite64(3, "\x61\x62\x63", 3, 7) = -1 ENOSPC (No space left on device)
1 write(1, "\x74\x72\x69\x65\x64\x20\x37", 7) = 7
1 write(1, "\x74\x72", 2) = -1 EPIPE (Broken pipe)
1 unlink("\x2f\x64\x2f\x61") = 0
1 +++ exited with 0 +++
"""
    assert followed(text).events == [Made(1, "a", 2, False), Wrote(2, 5, b"ab"), Mark("tried", 7), Removed(1, "a")]


@pytest.mark.parametrize(
    "line",
    [
        r'1 write(3, "\x61", 1) = 1',
        "1 fallocate(3, 0, 0, 4096) = 0",
        "1 dup(3) = 4",
        "1 fsync(3 <unfinished ...>",
        r'1 pwrite64(3, "\x61"..., 5000, 0) = 5000',
        r'1 symlink("\x78", "\x2f\x64\x2f\x62") = 0',
    ],
)
def test_q05_a_trace_that_is_not_understood_is_refused(line: str) -> None:
    """A call that would be missing from the recording ends it."""
    with pytest.raises(AssertionError, match=r"not understood|overlap|cut off"):
        followed(line + "\n")
