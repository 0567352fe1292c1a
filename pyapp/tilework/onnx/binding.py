"""IOBinding: inputs and outputs tied to values once, for any number of runs.

What is bound stays where it is: a value on the device is read and written there. Checks names; the
session checks dtypes and shapes when it runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tilework.core.errors import Fail
from tilework.onnx.value import Array, OrtValue, check_device, element_dtype, value_at

if TYPE_CHECKING:
    from tilework.onnx.session import InferenceSession


class IOBinding:
    """Made by `InferenceSession.io_binding()`; run it with `run_with_iobinding`."""

    def __init__(self, session: InferenceSession) -> None:
        known = (*session.get_inputs(), *session.get_overridable_initializers())
        self._known = frozenset(one.name for one in known)
        self.inputs: dict[str, OrtValue] = {}
        self.outputs: dict[str, OrtValue | None] = {}  # None: a new value is made
        self.made: dict[str, OrtValue] = {}  # by the last run

    # -- inputs --------------------------------------------------------------------------------

    def _bind(self, name: str, value: OrtValue) -> None:
        if name not in self._known:
            raise Fail(f"the model has no input {name!r}; its inputs: {sorted(self._known)}")
        self.inputs[name] = value

    def bind_cpu_input(self, name: str, arr_on_cpu: Array) -> None:
        """An array; what it holds when the session runs is what the run sees."""
        if not isinstance(arr_on_cpu, np.ndarray):
            raise Fail(f"input {name!r} is bound to a {type(arr_on_cpu).__name__}, not an array")
        self._bind(name, OrtValue.ortvalue_from_numpy(arr_on_cpu))

    def bind_ortvalue_input(self, name: str, ortvalue: OrtValue) -> None:
        """A value, read where it lies."""
        self._bind(name, ortvalue)

    def bind_input(
        self,
        name: str,
        device_type: str,
        device_id: int,
        element_type: object,
        shape: Sequence[int],
        buffer_ptr: int,
    ) -> None:
        """The memory at `buffer_ptr`: an OrtValue's `data_ptr()`, or an array's address."""
        check_device(device_type)
        self._bind(name, value_at(buffer_ptr, element_dtype(element_type), shape))

    def clear_binding_inputs(self) -> None:
        self.inputs.clear()

    def synchronize_inputs(self) -> None:
        """Nothing to wait for: a run sees what was written before it."""

    # -- outputs -------------------------------------------------------------------------------

    def bind_output(
        self,
        name: str,
        device_type: str = "cpu",
        device_id: int = 0,
        element_type: object = None,
        shape: Sequence[int] | None = None,
        buffer_ptr: int | None = None,
    ) -> None:
        """Has the output written to the memory at `buffer_ptr`, or, without one, to a new value
        on the device at each run."""
        check_device(device_type)
        if buffer_ptr is None:
            self.outputs[name] = None
        elif element_type is None or shape is None:
            raise Fail(f"output {name!r}: a buffer_ptr needs element_type and shape as well")
        else:
            self.outputs[name] = value_at(buffer_ptr, element_dtype(element_type), shape)
        self.made.pop(name, None)

    def bind_ortvalue_output(self, name: str, ortvalue: OrtValue) -> None:
        """Has the output written to the value."""
        self.outputs[name] = ortvalue
        self.made.pop(name, None)

    def clear_binding_outputs(self) -> None:
        self.outputs.clear()
        self.made.clear()

    def synchronize_outputs(self) -> None:
        """Nothing to wait for: a run is over when it returns."""

    def get_outputs(self) -> list[OrtValue]:
        """The outputs of the last run, in the order in which they were bound."""
        return [self.made[name] for name in self.outputs if name in self.made]

    def get_outputs_as_ortvaluevector(self) -> list[OrtValue]:
        """The same."""
        return self.get_outputs()

    def copy_outputs_to_cpu(self) -> list[Any]:
        """The outputs of the last run as arrays; what is no tensor, as it is."""
        return [v.numpy() if v.is_tensor() else v.held() for v in self.get_outputs()]
