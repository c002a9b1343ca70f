"""What ONNX Runtime makes of the same work, on one thread: the step of an int8 LSTM, and one large integer product."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from model.checkpoint import Checkpoint

OPSET, IR_VERSION = 19, 9
SCALE = 127  # an int8 hidden state is round(127 h) + 128, stored unsigned as the fast kernels want it

Array = NDArray[np.float32]


class Graph:
    """Nodes and constants of an ONNX graph, named as they come."""

    def __init__(self) -> None:
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

    def levels(self, h: str) -> str:
        """A hidden state in (-1, 1) as uint8."""
        return self.op("QuantizeLinear", h, self.constant(np.float32(1 / SCALE)), self.constant(np.uint8(128)))

    def product(self, levels: str, matrix: Array, add: str, output: str | None = None) -> str:
        """What levels (B, K) stand for times matrix (N, K) transposed, plus `add`: (B, N) in fp32."""
        scale = np.maximum(np.abs(matrix).max(axis=1), np.float32(1e-12)) / 127
        rounded = np.clip(np.rint(matrix / scale[:, None]), -127, 127).astype(np.int8)
        sums = self.op("MatMulInteger", levels, self.constant(rounded.T), self.constant(np.uint8(128)))
        worth = self.constant((scale / np.float32(SCALE)).astype(np.float32))
        return self.op("Add", self.op("Mul", self.op("Cast", sums, to=TensorProto.FLOAT), worth), add, output=output)

    def session(self, inputs: list[onnx.ValueInfoProto], outputs: list[onnx.ValueInfoProto]) -> ort.InferenceSession:
        """The graph, ready to run on one thread."""
        graph = helper.make_graph(self.nodes, "graph", inputs, outputs, self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
        model.ir_version = IR_VERSION
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def onnx_step(checkpoint: Checkpoint, rows: int) -> Callable[[], object]:
    """One step of an LSTM of `rows` rows with int8 products: logits and the next state, no sampling."""
    session, names = _step_session(checkpoint), list(checkpoint.config.state_layout().widths)
    feed: dict[str, NDArray[Any]] = {name: np.zeros((rows, checkpoint.config.hidden), np.float32) for name in names}
    feed["ids"] = np.full(rows, checkpoint.seen()[-1])
    outputs = ["logits", *(f"new_{name}" for name in names)]

    def step() -> object:
        logits, *after = session.run(outputs, feed)
        feed.update(zip(names, after, strict=True))
        return logits

    return step


def _step_session(checkpoint: Checkpoint) -> ort.InferenceSession:
    config, tensors, ids = checkpoint.config, checkpoint.tensors, checkpoint.seen()
    if config.cell != "lstm":
        raise ValueError(f"this graph is of an LSTM, not of a {config.cell}")
    graph, below = Graph(), ""
    every = []  # the hidden state of each layer
    for layer in range(config.layers):
        w_ih, w_hh, b_ih, b_hh = (
            tensors[f"layers.{layer}.{name}_l0"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        levels = graph.levels(f"h{layer}")
        if layer == 0:  # the input half is a product with a one-hot vector: a table looked up
            table = (tensors["embedding.weight"].astype(np.float64) @ w_ih.T + b_ih + b_hh).astype(np.float32)
            gates = graph.product(levels, w_hh, graph.op("Gather", graph.constant(table), "ids"))
        else:
            joined = graph.op("Concat", below, levels, axis=1)
            gates = graph.product(joined, np.concatenate([w_ih, w_hh], axis=1), graph.constant(b_ih + b_hh))
        i, f, g, o = graph.split(gates, 4, config.hidden)
        kept = graph.op("Mul", graph.op("Sigmoid", f), f"c{layer}")
        written = graph.op("Mul", graph.op("Sigmoid", i), graph.op("Tanh", g))
        cell = graph.op("Tanh", graph.op("Add", kept, written, output=f"new_c{layer}"))
        below = graph.levels(graph.op("Mul", graph.op("Sigmoid", o), cell, output=f"new_h{layer}"))
        every.append(below)
    heard = graph.op("Concat", *every, axis=1) if config.skip else below
    graph.product(heard, tensors["out.weight"][ids], graph.constant(tensors["out.bias"][ids]), output="logits")
    names, float32 = list(config.state_layout().widths), TensorProto.FLOAT
    inputs = [helper.make_tensor_value_info("ids", TensorProto.INT64, ["B"])]
    inputs += [helper.make_tensor_value_info(name, float32, ["B", config.hidden]) for name in names]
    outputs = [helper.make_tensor_value_info("logits", float32, ["B", len(ids)])]
    outputs += [helper.make_tensor_value_info(f"new_{name}", float32, ["B", config.hidden]) for name in names]
    return graph.session(inputs, outputs)


def integer_product(rows: int, inputs: int, outputs: int) -> Callable[[], object]:
    """One uint8 × int8 product (rows, inputs) × (inputs, outputs), its right half constant."""
    random, graph = np.random.default_rng(), Graph()
    weights = graph.constant(random.integers(-127, 128, (inputs, outputs), np.int8))
    graph.op("MatMulInteger", "x", weights, graph.constant(np.uint8(128)), output="sums")
    x = helper.make_tensor_value_info("x", TensorProto.UINT8, ["B", inputs])
    session = graph.session([x], [helper.make_tensor_value_info("sums", TensorProto.INT32, ["B", outputs])])
    levels = random.integers(0, 256, (rows, inputs), np.uint8)
    return lambda: session.run(None, {"x": levels})
