"""Adapters: stores of state in the shapes of other frameworks, each in an extra of its own (docs/adapters.md)."""
