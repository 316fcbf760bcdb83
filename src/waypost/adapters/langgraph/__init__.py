"""The checkpointer for LangGraph (docs/langgraph.md): `WaypostSaver`."""

from __future__ import annotations

try:
    import langgraph.checkpoint.base as _framework
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] not in ("langgraph", "langchain_core"):
        raise
    raise ImportError(
        "waypost.adapters.langgraph needs the package langgraph-checkpoint: pip install 'waypost[langgraph]'",
        name=error.name,
    ) from error

from waypost.adapters.langgraph.saver import WaypostSaver

__all__ = ["WaypostSaver"]

del _framework
