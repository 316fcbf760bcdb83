"""Coding agents: what their hooks say becomes state, and what is unfinished is told to the next one (docs/agents.md)."""
