"""Coding agents: what their hooks say becomes state, and the next one is told what is unfinished (docs/agents.md)."""
