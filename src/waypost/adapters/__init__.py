"""Waypost inside other frameworks: an extra each, imported by nobody who does not use it."""
