"""A script for onnxruntime, as one writes it: load, inspect, run, IO binding, profiling, errors.

tests/onnx/test_script.py runs it under onnxruntime and, unchanged, under tilework.onnxruntime;
both must print the same. It expects model.onnx in the working directory.
"""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime as ort
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, NoSuchFile

np.set_printoptions(precision=3, suppress=True)

print("device:", ort.get_device(), "| CPU available:",
      "CPUExecutionProvider" in ort.get_available_providers())
print("new enough:", tuple(int(part) for part in ort.__version__.split(".")[:2]) >= (1, 17))

# -- load --------------------------------------------------------------------

options = ort.SessionOptions()
options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
options.intra_op_num_threads = 2
options.inter_op_num_threads = 1
options.enable_mem_pattern = False
options.log_severity_level = 3
options.add_session_config_entry("session.intra_op.allow_spinning", "0")
options.enable_profiling = True
options.profile_file_prefix = "example"
print(options.graph_optimization_level, options.execution_mode,
      options.get_session_config_entry("session.intra_op.allow_spinning"))

session = ort.InferenceSession("model.onnx", options, providers=["CPUExecutionProvider"])
print("providers:", session.get_providers(), session.get_provider_options())

# -- inspect -----------------------------------------------------------------

for node in session.get_inputs():
    print("input:", node.name, node.type, node.shape)
for node in session.get_outputs():
    print("output:", node)
for node in session.get_overridable_initializers():
    print("initializer:", node)
meta = session.get_modelmeta()
print("meta:", meta.producer_name, meta.graph_name, meta.domain, meta.version, meta.description,
      sorted(meta.custom_metadata_map.items()))

# -- run ---------------------------------------------------------------------

x = np.linspace(-1, 1, 8, dtype=np.float32).reshape(2, 4)
past = np.zeros((0, 3), np.float32)
for outputs in (None, ["probabilities"], ["present", "probabilities"]):
    for result in session.run(outputs, {"x": x, "past": past}):
        print(result.dtype, result.shape, result.tolist() if result.size < 1 else result)
print(session.run(None, {"x": x, "past": past, "scale": np.array([2], np.float32)})[0])
run_options = ort.RunOptions()
run_options.logid = "one run"
print(session.run(["probabilities"], {"x": x[:1], "past": past}, run_options)[0])

# -- OrtValue ----------------------------------------------------------------

value = ort.OrtValue.ortvalue_from_numpy(x)
print(value.data_type(), value.shape(), value.device_name(), value.is_tensor(), value.has_value(),
      value.element_type(), value.tensor_size_in_bytes())
cache = ort.OrtValue.ortvalue_from_numpy(past)
for step in range(3):  # a cache that grows, from run to run
    value.update_inplace(x * (step + 1))
    probabilities, cache = session.run_with_ort_values(
        ["probabilities", "present"], {"x": value, "past": cache}
    )
    print(step, cache.shape(), cache.data_type(), probabilities.numpy()[0])
print(cache.numpy())

# -- IO binding --------------------------------------------------------------

binding = session.io_binding()
binding.bind_cpu_input("x", x)
binding.bind_ortvalue_input("past", cache)
binding.bind_output("present")
target = ort.OrtValue.ortvalue_from_shape_and_type([2, 3], np.float32, "cpu", 0)
binding.bind_ortvalue_output("probabilities", target)
session.run_with_iobinding(binding)
print([one.shape() for one in binding.get_outputs()], target.numpy())
print(binding.copy_outputs_to_cpu()[0])

x_value, result = ort.OrtValue.ortvalue_from_numpy(x), np.empty((2, 3), np.float32)
binding = session.io_binding()
binding.bind_input("x", "cpu", 0, np.float32, x_value.shape(), x_value.data_ptr())
binding.bind_input("past", "cpu", 0, np.float32, cache.shape(), cache.data_ptr())
binding.bind_output("probabilities", "cpu", 0, np.float32, [2, 3], result.ctypes.data)
session.run_with_iobinding(binding)
print(result)
binding.clear_binding_inputs()
binding.clear_binding_outputs()

# -- a callback --------------------------------------------------------------

done: list[object] = []


def callback(outputs: list[np.ndarray], user_data: str, error: str) -> None:
    done.append((user_data, error, [output.shape for output in outputs]))


session.run_async(["probabilities"], {"x": x, "past": past}, callback, "mine")
while not done:
    pass
print(done)

# -- errors ------------------------------------------------------------------

wrong: list[tuple[Callable[[], object], type[Exception]]] = [
    (lambda: ort.InferenceSession("absent.onnx"), NoSuchFile),
    (lambda: session.run(None, {"x": x, "past": past, "z": x}), InvalidArgument),
    (lambda: session.run(["z"], {"x": x, "past": past}), InvalidArgument),
    (lambda: session.run(None, {"x": x.astype(np.float64), "past": past}), InvalidArgument),
    (lambda: session.run(None, {"x": x[0], "past": past}), InvalidArgument),
    (lambda: session.run(None, {"x": x[:, 1:], "past": past}), InvalidArgument),
    (lambda: session.run(None, {"x": x}), ValueError),
    (lambda: binding.bind_cpu_input("z", x), RuntimeError),
    (lambda: options.get_session_config_entry("no such entry"), RuntimeError),
    (lambda: value.update_inplace(np.zeros(3, np.float32)), RuntimeError),
]
for call, kind in wrong:
    try:
        call()
        print("no error")
    except kind as error:
        print(kind.__name__, bool(str(error)))
run_options.terminate = True
try:
    session.run(None, {"x": x, "past": past}, run_options)
except Fail as error:
    print("terminated:", "terminate" in str(error))

# -- free dimensions ---------------------------------------------------------

fixed = ort.SessionOptions()
fixed.log_severity_level = 3
fixed.add_free_dimension_override_by_name("batch", 2)
fixed.optimized_model_filepath = "optimized.onnx"
other = ort.InferenceSession("model.onnx", fixed, providers=["CPUExecutionProvider"])
print([node.shape for node in other.get_inputs()], [node.shape for node in other.get_outputs()])
print(Path("optimized.onnx").stat().st_size > 0)

# -- profiling ---------------------------------------------------------------

file = session.end_profiling()
print(file.startswith("example"), file.endswith(".json"))
print(session.get_profiling_start_time_ns() > 0)
with Path(file).open() as opened:
    events = json.load(opened)
nodes = [event for event in events if event["cat"] == "Node"]
print(len(nodes) > 10, all(event["dur"] >= 0 and event["ph"] == "X" for event in nodes),
      "Softmax" in {event["args"]["op_name"] for event in nodes})
print({"model_run"} <= {event["name"] for event in events if event["cat"] == "Session"})
