"""The demo: a survey of Python's own standard library, killed in the middle and resumed."""
