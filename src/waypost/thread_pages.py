"""What a sync has to know of the pages of LangGraph's threads (docs/langgraph.md, section 2).

A page that is sealed ends below where the next one begins. One into which two stores have put, and which only one of
them has sealed, holds higher ids once it is merged, and nothing but the page itself would tell. So before it is merged
the heads of both stores are told how far it reaches.
"""

from __future__ import annotations

from waypost import clock
from waypost.store import Change, DocumentId, Store, Transaction, View

SEPARATOR = "\x1f"
PREFIX = "langgraph/"
SEALED = "sealed"
PAGE = f"page{SEPARATOR}"
REACH = f"reach{SEPARATOR}"
SAVED = f"saved{SEPARATOR}"
WRITES = f"writes{SEPARATOR}"


def listed(number: int) -> str:
    """The part by which the head lists a page."""
    return f"{PAGE}{number:017d}"


def reach(number: int, checkpoint_id: str) -> str:
    """The part by which the head says that a page may hold ids up to that one."""
    return f"{REACH}{number:017d}{SEPARATOR}{checkpoint_id}"


def highest(view: View) -> str:
    """The highest id of which there is anything in a page, "" where there is none."""
    keys = [max(view.keys(prefix), default="") for prefix in (SAVED, WRITES)]
    return max(key.split(SEPARATOR)[1] if key else "" for key in keys)


def tell_reach(document: DocumentId, views: tuple[View, View], stores: tuple[Store, Store]) -> None:
    """Have the heads know what a page will hold that is about to be merged. Raises what the stores raise."""
    head, _, number = document.id.rpartition("/")
    is_page = document.kind == "thread" and head.startswith(PREFIX) and number.isdecimal()
    if not is_page or all(view.size_of(SEALED) is None for view in views):
        return
    key = reach(int(number), max(map(highest, views)))

    def work(tx: Transaction) -> None:
        if tx.size_of(listed(int(number))) is not None and tx.size_of(key) is None:
            tx.put(key, b"")

    for store in stores:
        store.submit(Change(DocumentId("thread", head), work, clock.new_id("op"), "langgraph.reach")).result()
