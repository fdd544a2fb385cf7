"""An ONNX graph that is written node by node, with Python's operators on its tensors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from mstkit.errors import UsageError

OPSET, IR_VERSION = 17, 8  # of 2022, with LayerNormalization; older runtimes and other tools read it too
REQUIREMENTS = ('onnx>=1.17', 'onnxruntime>=1.20')  # tests keep them equal to requirements/convert.txt
Shape = Sequence['int | str']


class OnnxPackages(NamedTuple):
    """The two optional packages, imported where ONNX files are made and nowhere else."""

    onnx: Any
    runtime: Any


def onnx_packages() -> OnnxPackages:
    """Imports onnx and onnxruntime.

    Raises:
        UsageError: one of them is not installed.
    """
    try:
        import onnx  # optional: only for ONNX files
        import onnxruntime
    except ImportError as error:
        needed = ' '.join(f"'{one}'" for one in REQUIREMENTS)
        raise UsageError(f'ONNX files need the package {error.name or "onnx"}: pip install {needed}') from None
    return OnnxPackages(onnx, onnxruntime)


class Value:
    """A tensor of a graph. Operators with other tensors or numbers add a node and give its output.

    An int stands for an int64 constant and a float for a float32 one; ``//`` rounds down for numbers from 0 on, and the
    result of ``%`` has the sign of the divisor, as in Python.
    """

    def __init__(self, graph: OnnxGraph, name: str) -> None:
        self.graph, self.name = graph, name

    def __add__(self, other: Operand) -> Value:
        return self.graph.node('Add', self, other)

    def __sub__(self, other: Operand) -> Value:
        return self.graph.node('Sub', self, other)

    def __mul__(self, other: Operand) -> Value:
        return self.graph.node('Mul', self, other)

    def __floordiv__(self, other: Operand) -> Value:
        return self.graph.node('Div', self, other)

    __truediv__ = __floordiv__

    def __mod__(self, other: Operand) -> Value:
        return self.graph.node('Mod', self, other)

    def __matmul__(self, other: Value) -> Value:
        return self.graph.node('MatMul', self, other)

    def __and__(self, other: Value) -> Value:
        return self.graph.node('And', self, other)

    def __ge__(self, other: Operand) -> Value:
        return self.graph.node('GreaterOrEqual', self, other)

    def __gt__(self, other: Operand) -> Value:
        return self.graph.node('Greater', self, other)

    def equals(self, other: Operand) -> Value:
        """Where both are equal, bool (``==`` would make values unhashable)."""
        return self.graph.node('Equal', self, other)

    def to_int(self) -> Value:
        """As int64."""
        return self.graph.node('Cast', self, to=_ONNX_TYPES['int64'])

    def to_float(self) -> Value:
        """As float32."""
        return self.graph.node('Cast', self, to=_ONNX_TYPES['float32'])

    def reshape(self, *shape: Value | int) -> Value:
        """With another shape: numbers, 0 for the length of the same axis and -1 for the rest, and lengths (1,)."""
        return self.graph.node('Reshape', self, self.graph.lengths(*shape))

    def transpose(self, *axes: int) -> Value:
        """With the axes in another order."""
        return self.graph.node('Transpose', self, perm=list(axes))

    def take(self, index: Value | int, axis: int) -> Value:
        """The entries of some indices along an axis; an int takes the axis away."""
        return self.graph.node('Gather', self, index, axis=axis)

    def cut(self, axis: int, start: Value | int, end: Value | int) -> Value:
        """The entries from ``start`` up to ``end`` along an axis; an end behind the last entry is the last."""
        lengths = self.graph.lengths
        return self.graph.node('Slice', self, lengths(start), lengths(end), lengths(axis))

    def insert_axes(self, *axes: int) -> Value:
        """With axes of length 1 at these places of the result."""
        return self.graph.node('Unsqueeze', self, self.graph.lengths(*axes))

    def mean(self, axis: int) -> Value:
        """The mean along an axis, which goes away."""
        return self.graph.node('ReduceMean', self, axes=[axis], keepdims=0)

    def softmax(self) -> Value:
        """Of the last axis."""
        return self.graph.node('Softmax', self, axis=-1)

    def length(self, axis: int) -> Value:
        """The length of an axis (from 0), int64 (1,)."""
        return self.graph.node('Shape', self, start=axis, end=axis + 1)


Operand = Value | int | float
# The numbers of onnx.TensorProto, which are part of the format.
_ONNX_TYPES = {'float32': 1, 'int64': 7}


class OnnxGraph:
    """Collects inputs, constants and nodes; :meth:`to_model` makes the model of them.

    Lengths of axes that depend on the input are int64 tensors (1,), so that they can be put together to shapes.
    """

    def __init__(self) -> None:
        self._scopes: list[str] = []
        self._nodes: list[tuple[str, str, list[str], str, dict[str, Any]]] = []
        self._constants: dict[str, np.ndarray] = {}
        self._numbers: dict[tuple[Any, ...], Value] = {}
        self._inputs: list[tuple[str, Shape]] = []
        self._outputs: list[tuple[str, Shape]] = []

    @contextmanager
    def scope(self, name: str) -> Iterator[None]:
        """Nodes that are added inside are named behind the name, as the modules of a network are."""
        self._scopes.append(name)
        try:
            yield
        finally:
            self._scopes.pop()

    def input(self, name: str, shape: Shape) -> Value:
        """An input, float32; a length is a number or a name."""
        self._inputs.append((name, shape))
        return Value(self, name)

    def output(self, name: str, value: Value, shape: Shape) -> None:
        """Makes a tensor an output, float32."""
        self._nodes.append(('Identity', name, [value.name], name, {}))
        self._outputs.append((name, shape))

    def constant(self, name: str, array: np.ndarray) -> Value:
        """A named constant; one that is there already under the name is not stored again."""
        self._constants.setdefault(name, np.asarray(array, order='C'))
        return Value(self, name)

    def node(self, kind: str, *inputs: Operand | None, **attributes: Any) -> Value:
        """Adds a node with one output.

        Args:
            kind: the operator of ONNX.
            inputs: tensors, numbers, or None for an input that is left out.
            attributes: of the operator.
        """
        names = ['' if one is None else self._value(one).name for one in inputs]
        while names and not names[-1]:  # onnxruntime 1.32 crashes on a LayerNormalization whose last input has no name
            names.pop()
        name = '/'.join([*self._scopes, f'{kind}_{len(self._nodes)}'])
        self._nodes.append((kind, name, names, name, attributes))
        return Value(self, name)

    def lengths(self, *parts: Value | int) -> Value:
        """Several lengths, numbers or tensors (1,), as one tensor."""
        if all(isinstance(part, int) for part in parts):
            return self._number(np.array(parts, np.int64))
        each = [self._number(np.array([part], np.int64)) if isinstance(part, int) else part for part in parts]
        return each[0] if len(each) == 1 else self.concat(each, axis=0)

    def concat(self, parts: Sequence[Value], axis: int) -> Value:
        """Tensors one behind the other."""
        return self.node('Concat', *parts, axis=axis)

    def where(self, condition: Value, yes: Operand, no: Operand) -> Value:
        """``yes`` where the condition is true, else ``no``."""
        return self.node('Where', condition, yes, no)

    def arange(self, count: Value) -> Value:
        """0 to ``count`` - 1, int64; ``count`` is a length (1,)."""
        return self.node('Range', 0, self.node('Squeeze', count, self.lengths(0)), 1)

    def pad(self, value: Value, before: Sequence[Value | int], after: Sequence[Value | int]) -> Value:
        """Zeros before and after the entries of each axis."""
        return self.node('Pad', value, self.lengths(*before, *after))

    @property
    def constant_bytes(self) -> int:
        """Size of all constants, in bytes."""
        return sum(array.nbytes for array in self._constants.values())

    def to_model(self, onnx: Any, name: str, version: str, metadata: Mapping[str, str]) -> Any:
        """The model.

        Args:
            onnx: the package.
            name: of the graph.
            version: of mstkit.
            metadata: texts by name.

        Returns:
            An ``onnx.ModelProto``.
        """
        helper, numpy_helper = onnx.helper, onnx.numpy_helper

        def infos(tensors: list[tuple[str, Shape]]) -> list[Any]:
            return [helper.make_tensor_value_info(one, onnx.TensorProto.FLOAT, list(shape)) for one, shape in tensors]

        graph = helper.make_graph(
            [
                helper.make_node(kind, inputs, [output], name=label, **attributes)
                for kind, label, inputs, output, attributes in self._nodes
            ],
            name,
            infos(self._inputs),
            infos(self._outputs),
            [numpy_helper.from_array(array, label) for label, array in self._constants.items()],
        )
        model = helper.make_model(
            graph,
            producer_name='mstkit',
            producer_version=version,
            ir_version=IR_VERSION,
            opset_imports=[helper.make_opsetid('', OPSET)],
        )
        helper.set_model_props(model, dict(metadata))
        return model

    def _value(self, operand: Operand) -> Value:
        if isinstance(operand, Value):
            return operand
        return self._number(np.array(operand, np.int64 if isinstance(operand, int) else np.float32))

    def _number(self, array: np.ndarray) -> Value:
        """An unnamed constant; equal ones are stored once."""
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._numbers:
            self._numbers[key] = self.constant(f'number_{len(self._numbers)}', array)
        return self._numbers[key]
