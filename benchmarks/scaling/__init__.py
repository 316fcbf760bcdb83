"""How costs grow: with steps, workflows, checkpoints, processes and the size of a value (`python -m benchmarks scale`).

Every size of a dimension has a store and a process of its own, and in each round all sizes have their turn at the same
thing, one after the other. How much dearer a size is than the smallest is the median over the rounds of ratios taken
within each, so that a machine which is busy for a while is busy for all sizes.
"""
