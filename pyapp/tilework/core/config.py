"""The limits and knobs that are not a kernel's or a layout's, in one place, each with its reason.

Read as `config.NAME` or imported by name; nothing writes them at run time. What a user may set is
an argument (SessionOptions, open_device), not a name here.
"""

from __future__ import annotations

from typing import Final

# -- shapes and values ---------------

# Elements of a tensor whose value inference carries along. Shape arithmetic is a few numbers; what
# is larger is data, and folding data is a pass's decision.
FOLD_LIMIT: Final = 4096

# Elements of an input whose values are looked at because they may lead to a shape. What is larger
# is data: a plan is cut where its elements decide a shape.
VALUE_LIMIT: Final = 64

# Bytes of a tensor that an operation may ask for: half of what a device can address, of which a
# result and an operand of that size would take all.
LARGEST_TENSOR: Final = 2 << 30

# Bytes of an external constant that may be read back while the graph is built, for axes and shapes
# that an exporter has put beside the weights.
READ_BACK_LIMIT: Final = 65536

# Axes of a tensor: as many as every version of NumPy takes.
MOST_AXES: Final = 32

# -- model files: what a damaged or hostile file may ask for ---------------

# Messages within messages: the limit of protobuf's own readers.
MESSAGE_DEPTH: Final = 100

# Calls of a model's functions within calls; they must not be recursive.
CALL_DEPTH: Final = 32

# Nodes after inlining: a few nested calls could otherwise stand for any number.
INLINED_NODES: Final = 1_000_000

# -- the device ---------------

# The least that a driver is asked for at once, bytes.
SLAB: Final = 16 << 20

# A thread's stack, bytes; kernels keep their arrays in scratch.
STACK: Final = 128 << 10

# A thread's scratch, bytes: what the L2 cache of most cores holds. Tiles are cut to fit it.
SCRATCH: Final = 1 << 20

# What the address of imported memory must be a multiple of, bytes: what malloc gives in Pyodide.
# Kernels load vectors from anywhere, but an element of 8 bytes must not lie across.
IMPORT_ALIGNMENT: Final = 8

# From so many bytes on, inputs and outputs of a run are computed in the caller's arrays, where the
# memory mode allows it. A smaller one is copied sooner than it is bound.
IN_PLACE: Final = 64 << 10

# Plans that a session keeps; the one used longest ago goes first.
PLANS: Final = 64

# -- waiting ---------------

# Tiles that a thread runs before it looks at its clock, where a wait has a time-out. Tiles take 3
# to 30 us, a look costs 4 us in a browser.
SLICE_TILES: Final = 64

# Seconds that an event loop's wait takes at most before it looks whether anything has happened.
SLICE: Final = 0.05

# Seconds that a thread drives the queue before it lets another Python thread have a turn.
SHARED_SLICE: Final = 0.001

# Seconds that a wait with a time-out computes at least.
LEAST_SLICE: Final = 0.0001

# Seconds that a tile may take on a worker before the workers are given up and started anew. Tiles
# are cut to some microseconds; the rest is room for a machine that is asleep or overloaded.
WATCHDOG: Final = 10.0

# Seconds after which a terminated browser worker surely runs no more: a browser that cannot stop it
# at once does so after two, and a machine may be busy.
STALE: Final = 20.0
