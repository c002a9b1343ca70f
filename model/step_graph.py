"""One step of the network as an ONNX graph, in fp32 or with int8 products, for all three cells.

A hidden state lies in (-1, 1): an LSTM's by o ⊙ tanh(c), a simple RNN's by tanh, a GRU's because it is a weighted
mean of a tanh and its own past. So its int8 scale is 1/127 without calibration, and weights are rounded with one scale
per output column. Integer sums are exact: a row's logits do not depend on the rows beside it. The input half of the
first layer is a product with a one-hot vector, so it is a table looked up: embedding × W_ih + biases, (V, G·H).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from model.config import GATES, NetworkConfig

OPSET, IR_VERSION = 19, 9
SCALE = 127  # an int8 hidden state is round(127 h) + 128, stored unsigned as the fast kernels want it

Array = NDArray[np.float32]


class GraphBuilder:
    """Nodes and constants of an ONNX graph, named as they come.

    unsigned: store int8 weights with an offset of 128, for processors whose signed kernels are not exact.
    """

    def __init__(self, int8: bool, unsigned: bool = False) -> None:
        self.int8, self.unsigned = int8, unsigned
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, value: NDArray[Any] | np.generic) -> str:
        """A constant of the graph; returns its name."""
        name = f"constant{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def op(self, kind: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        """An operator of one output; returns the output's name, `output` where one is wanted."""
        name = output or f"value{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def split(self, x: str, count: int, width: int) -> list[str]:
        """The `count` blocks of `width` columns of x."""
        names = [f"value{len(self.nodes)}_{block}" for block in range(count)]
        self.nodes.append(helper.make_node("Split", [x, self.constant(np.full(count, width))], names, axis=1))
        return names

    def hidden(self, h: str) -> str:
        """A hidden state as the products take it: uint8 where they are int8, as it is in fp32."""
        if not self.int8:
            return h
        return self.op("QuantizeLinear", h, self.constant(np.float32(1 / SCALE)), self.constant(np.uint8(128)))

    def product(self, h: str, matrix: Array) -> str:
        """h (B, K) from `hidden` times matrix (N, K) transposed: (B, N) in fp32."""
        if not self.int8:
            return self.op("MatMul", h, self.constant(matrix.T))
        scale = np.maximum(np.abs(matrix).max(axis=1), np.float32(1e-12)) / 127
        rounded = np.clip(np.rint(matrix / scale[:, None]), -127, 127).astype(np.int8)
        sums = self.integer_product(h, rounded)
        return self.op("Mul", self.op("Cast", sums, to=TensorProto.FLOAT), self.constant(scale / np.float32(SCALE)))

    def integer_product(self, h: str, rounded: NDArray[np.int8], output: str | None = None) -> str:
        """The exact int32 sums of (h - 128) times weights (N, K) transposed: (B, N)."""
        zero = self.constant(np.uint8(128))
        if not self.unsigned:
            return self.op("MatMulInteger", h, self.constant(rounded.T), zero, output=output)
        shifted = (rounded.T.astype(np.int16) + 128).astype(np.uint8)
        return self.op("MatMulInteger", h, self.constant(shifted), zero, zero, output=output)


def step_graph(
    config: NetworkConfig, tensors: Mapping[str, Array], ids: NDArray[np.int64], int8: bool, unsigned: bool = False
) -> onnx.ModelProto:
    """The graph of one step.

    Inputs: `ids` int64 (B,), and (B, H) for each of `config.state_names()`.
    Outputs: `logits` (B, S), a column for each of the given `ids` (S,), and `new_` + each state name, (B, H).
    """
    graph = GraphBuilder(int8, unsigned)
    below = ""
    for layer in range(config.layers):
        weights = LayerWeights(config, tensors, layer)
        cell = {"lstm": _lstm, "gru": _gru, "rnn": _rnn}[config.cell]
        cell(graph, weights, f"h{layer}", below)
        below = graph.hidden(f"new_h{layer}")
    bias = graph.constant(tensors["out.bias"][ids])
    graph.op("Add", graph.product(below, tensors["out.weight"][ids]), bias, output="logits")
    return _model(graph, config, len(ids))


class LayerWeights:
    """The weights of one layer, its first-layer input table folded."""

    def __init__(self, config: NetworkConfig, tensors: Mapping[str, Array], layer: int) -> None:
        self.layer, self.width, self.gates = layer, config.hidden, GATES[config.cell]
        self.input, self.recurrent, self.input_bias, self.recurrent_bias = (
            tensors[f"layers.{layer}.{name}_l0"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        self.embedding = tensors["embedding.weight"]

    def from_below(self, graph: GraphBuilder, below: str, bias: Array) -> str:
        """The input half of the gates plus a bias: a table looked up in the first layer, a product above."""
        if self.layer == 0:
            table = (self.embedding.astype(np.float64) @ self.input.T + bias).astype(np.float32)
            return graph.op("Gather", graph.constant(table), "ids")
        return graph.op("Add", graph.product(below, self.input), graph.constant(bias))

    def gates_of(self, graph: GraphBuilder, h: str, below: str) -> str:
        """W_ih x + W_hh h + both biases (B, G·H); above the first layer one product of the joined inputs."""
        bias = self.input_bias + self.recurrent_bias
        if self.layer == 0:
            return graph.op("Add", graph.product(graph.hidden(h), self.recurrent), self.from_below(graph, "", bias))
        joined = graph.op("Concat", below, graph.hidden(h), axis=1)
        both = np.concatenate([self.input, self.recurrent], axis=1)
        return graph.op("Add", graph.product(joined, both), graph.constant(bias))


def _lstm(graph: GraphBuilder, weights: LayerWeights, h: str, below: str) -> None:
    i, f, g, o = graph.split(weights.gates_of(graph, h, below), 4, weights.width)
    kept = graph.op("Mul", graph.op("Sigmoid", f), f"c{weights.layer}")
    written = graph.op("Mul", graph.op("Sigmoid", i), graph.op("Tanh", g))
    cell = graph.op("Add", kept, written, output=f"new_c{weights.layer}")
    graph.op("Mul", graph.op("Sigmoid", o), graph.op("Tanh", cell), output=f"new_{h}")


def _gru(graph: GraphBuilder, weights: LayerWeights, h: str, below: str) -> None:
    x = weights.from_below(graph, below, weights.input_bias)
    past = graph.op("Add", graph.product(graph.hidden(h), weights.recurrent), graph.constant(weights.recurrent_bias))
    x_r, x_z, x_n = graph.split(x, 3, weights.width)
    h_r, h_z, h_n = graph.split(past, 3, weights.width)
    r = graph.op("Sigmoid", graph.op("Add", x_r, h_r))
    z = graph.op("Sigmoid", graph.op("Add", x_z, h_z))
    n = graph.op("Tanh", graph.op("Add", x_n, graph.op("Mul", r, h_n)))
    # (1 - z) n + z h, with one product less
    graph.op("Add", n, graph.op("Mul", z, graph.op("Sub", h, n)), output=f"new_{h}")


def _rnn(graph: GraphBuilder, weights: LayerWeights, h: str, below: str) -> None:
    graph.op("Tanh", weights.gates_of(graph, h, below), output=f"new_{h}")


def product_graph(rounded: NDArray[np.int8]) -> onnx.ModelProto:
    """One signed product alone, `h` uint8 (B, K) -> `sums` int32 (B, N): to find out whether a processor's is exact."""
    graph = GraphBuilder(int8=True)
    graph.integer_product("h", rounded, output="sums")
    inputs = [helper.make_tensor_value_info("h", TensorProto.UINT8, ["B", rounded.shape[1]])]
    outputs = [helper.make_tensor_value_info("sums", TensorProto.INT32, ["B", rounded.shape[0]])]
    return _finish(graph, inputs, outputs)


def _model(graph: GraphBuilder, config: NetworkConfig, columns: int) -> onnx.ModelProto:
    names = config.state_names()
    inputs = [helper.make_tensor_value_info("ids", TensorProto.INT64, ["B"])]
    inputs += [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["B", config.hidden]) for name in names]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["B", columns])]
    outputs += [helper.make_tensor_value_info(f"new_{name}", TensorProto.FLOAT, ["B", config.hidden]) for name in names]
    return _finish(graph, inputs, outputs)


def _finish(
    graph: GraphBuilder, inputs: list[onnx.ValueInfoProto], outputs: list[onnx.ValueInfoProto]
) -> onnx.ModelProto:
    model = helper.make_model(
        helper.make_graph(graph.nodes, "step", inputs, outputs, graph.constants),
        opset_imports=[helper.make_opsetid("", OPSET)],
    )
    model.ir_version = IR_VERSION
    return model
