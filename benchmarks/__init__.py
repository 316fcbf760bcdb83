"""Waypost measured beside what the disk can do, LangGraph's checkpointers and DBOS: `python -m benchmarks`.

Every figure of a row comes from one run in which the engines take turns, so that a machine which is busy for a while is
busy for all of them. Claims are ratios between neighbouring turns, never bare times. Each engine lives in processes of
its own (`worker`), which the measuring process (`crew`) tells what to do; how it measured is said in `rows` and printed
under the tables.
"""
