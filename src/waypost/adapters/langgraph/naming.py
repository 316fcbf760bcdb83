"""How ids and namespaces of LangGraph become ids of documents and keys of parts (docs/langgraph.md, section 2).

No id reaches another thread, page or part: what could is named by its digest, or refused.
"""

from __future__ import annotations

import re
from hashlib import sha256
from uuid import UUID

from waypost import thread_pages
from waypost.errors import InvalidId
from waypost.store import DocumentId

SEPARATOR = thread_pages.SEPARATOR
PREFIX = thread_pages.PREFIX
THREAD = "thread"
NEXT = "next"
SEALED = thread_pages.SEALED
GONE = "gone"
PAGE = thread_pages.PAGE
REACH = thread_pages.REACH
IN = f"in{SEPARATOR}"
LEAVING = f"leaving{SEPARATOR}"
SAVED = thread_pages.SAVED
VALUE = f"value{SEPARATOR}"
WRITES = thread_pages.WRITES
NEWEST = f"newest{SEPARATOR}"
OF_PAGE = (SAVED, VALUE, WRITES, NEWEST)
"""What the parts of a page begin with that hold what was saved."""

_PLAIN = re.compile(r"[A-Za-z0-9._@:-]{1,100}")
_CONTROL = re.compile("[\x00-\x1f\x7f]")
_MOST_BYTES_OF_A_COMPONENT = 400
_MOST_BYTES_OF_AN_ID = 256


def thread_id_of(given: object) -> str:
    """A thread id as a text that can be kept. Raises InvalidId."""
    if isinstance(given, int | UUID) and not isinstance(given, bool):
        given = str(given)
    if not isinstance(given, str):
        raise InvalidId(f"a thread id is a text, not {type(given).__name__}", what="thread id")
    _encoded(given, "thread id")
    return str(given)


def checkpoint_id_of(given: object) -> str:
    """A checkpoint's id, by whose order checkpoints sort. Raises InvalidId."""
    if not isinstance(given, str):
        raise InvalidId(f"a checkpoint id is a text, not {type(given).__name__}", what="checkpoint id")
    length = len(_encoded(given, "checkpoint id"))
    if not 0 < length <= _MOST_BYTES_OF_AN_ID:
        raise InvalidId(
            f"a checkpoint id has 1 to {_MOST_BYTES_OF_AN_ID} bytes, this one has {length:,}", what="checkpoint id"
        )
    if _CONTROL.search(given):
        raise InvalidId(f"a checkpoint id holds no control character: {given!a:.80}", what="checkpoint id")
    return str(given)


def text_of(given: object, what: str) -> str:
    """A namespace, a channel or the like: any text that UTF-8 can write. Raises InvalidId."""
    if not isinstance(given, str):
        raise InvalidId(f"a {what} is a text, not {type(given).__name__}", what=what)
    _encoded(given, what)
    return str(given)


def _encoded(given: str, what: str) -> bytes:
    try:
        return given.encode()
    except UnicodeEncodeError as error:
        raise InvalidId(
            f"a {what} holds no lone surrogate: {given!a:.80} has one at {error.start}", what=what, position=error.start
        ) from None


# --- documents ---


def name_of(thread_id: str) -> str:
    """What the documents of a thread are called."""
    if _PLAIN.fullmatch(thread_id):
        return PREFIX + thread_id
    return f"{PREFIX}~{sha256(thread_id.encode()).hexdigest()}"


def page(name: str, number: int) -> DocumentId:
    """A page of the thread of that name; page 0 is its head."""
    return DocumentId("thread", f"{name}/{number}" if number else name)


def is_head(identifier: str) -> bool:
    """Whether a document of the kind `thread` is the head of one of LangGraph's."""
    return identifier.startswith(PREFIX) and "/" not in identifier[len(PREFIX) :]


# --- parts ---

listed = thread_pages.listed
reach = thread_pages.reach


def component(given: str) -> str:
    """A text as it stands in a key."""
    data = given.encode()
    if len(data) <= _MOST_BYTES_OF_A_COMPONENT and SEPARATOR not in given and not given.startswith("~"):
        return given
    return f"~{sha256(data).hexdigest()}"


def saved(checkpoint_id: str, namespace: str) -> str:
    return f"{SAVED}{checkpoint_id}{SEPARATOR}{component(namespace)}"


def writes(checkpoint_id: str, namespace: str, task_id: str | None = None) -> str:
    """The part of a task's writes; without one, what the parts of all tasks begin with."""
    beginning = f"{WRITES}{checkpoint_id}{SEPARATOR}{component(namespace)}{SEPARATOR}"
    return beginning if task_id is None else beginning + component(task_id)


def of_key(key: str) -> tuple[str, str]:
    """Id and namespace component of the checkpoint that a part `saved` or `writes` is of."""
    _, checkpoint_id, namespace, *_ = key.split(SEPARATOR)
    return checkpoint_id, namespace


def newest(namespace: str) -> str:
    return NEWEST + component(namespace)


def inside(namespace_component: str, number: int) -> str:
    """The part by which the head says that a namespace is in a page."""
    return f"{IN}{namespace_component}{SEPARATOR}{number:017d}"


def leaving(number: int) -> str:
    return f"{LEAVING}{number:017d}"


def number_of(key: str) -> int:
    """The page's number at the end of a key."""
    return int(key.rpartition(SEPARATOR)[2])


def of_reach(key: str) -> tuple[int, str]:
    """The page's number and the id of a part `reach`."""
    _, number, checkpoint_id = key.split(SEPARATOR)
    return int(number), checkpoint_id
