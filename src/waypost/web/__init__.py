"""A page of the store in the browser, and the server behind it, on this machine only (docs/dashboard.md).

Invariants:

* Nothing is answered that did not pass the guard: every route object needs the token unless it is marked exempt, and
  those that are hold nothing of the store.
* The store is open for reading only. A writer is opened for one change, and for none where only reading is allowed.
* Blocking work runs in a few threads, and everything is bounded: bodies, answers, streams, waiting, time.
"""
