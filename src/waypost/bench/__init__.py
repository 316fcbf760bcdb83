"""Measuring on a user's own disk: what it syncs, how close Waypost comes to that, whether it seems to sync at all.

`waypost store bench` is this, and `benchmarks/` measures with the same engines, turns and floor. Engines work in
processes of their own, which are told what to do (`crew`, `worker`); they take turns, and ratios are between turns that
lie next to each other (`turns`). What is measured lies in a folder of its own beside the store (`trial`).
"""
