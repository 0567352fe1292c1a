"""Rewrites of the graph: pure functions Graph → Graph that never touch shapes' meaning or devices.

`pipeline.py` says in which order they run, once at load and once more when shapes are known. A
rewrite that is not certain is not done. To add one: a function of an `Editor` in the file of its
subject, and its line in the pipeline's table.
"""
