"""From a graph and concrete shapes to programs: cut, lower, place, record.

`planner.py` is the flow; `lowerings/` has the table op → kernels; `schedule.py` and `arena.py`
decide when and where. Never runs anything that depends on a run's data.
"""
