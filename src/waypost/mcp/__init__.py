"""A server of the Model Context Protocol: the runs of a store for coding agents, as tools, resources and prompts.

Invariants:

* Tools that read open the store for reading only, and hold nothing of it between two calls.
* Nothing is written unless the server was started with `--write`; nothing is restored or deleted unless that was
  allowed, too, and the call repeats the id.
* What programs have stored comes back in fields of data, marked, cut to a bound, and without characters that a reader
  does not see. None of it is in a description of a tool.
"""
