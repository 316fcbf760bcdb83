"""Hook events: what other programs and processes say has happened to a workflow (docs/hooks.md): how it is handed over
(`script`), where it waits (`spool`, `entries`), how it becomes commits (`intake`, `payloads`, `effects`), and how a
handle says it (`emitting`).
"""
