"""A network's weights as the compiled kernel reads them, and the structures that say where they lie."""

from ctypes import POINTER, Structure, c_int32, c_void_p, pointer
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.cells.attention import FOLLOWED, KEYS, NEWEST
from model.cells.spec import CELLS
from model.config import NetworkConfig
from model.decoding.kernel_library import PROCESSORS, processors
from model.decoding.step_weights import AttentionWeights, Layer, Product, StepWeights

MOST_PARTS = 4  # of the state of a layer
PANEL, COLUMNS, GROUP = 64, 16, 4  # columns packed together; columns and rows are padded to whole multiples


class ProductStruct(Structure):
    """`product` of kernel.h."""

    _fields_ = (
        ("outputs", c_int32),
        ("groups", c_int32),
        ("weights", c_void_p),
        ("scale", c_void_p),
        ("bias", c_void_p),
        ("start", c_void_p),
    )


class LayerStruct(Structure):
    """`layer` of kernel.h."""

    _fields_ = (
        ("joined", c_int32),
        ("state", c_int32 * MOST_PARTS),
        ("input", ProductStruct),
        ("recurrent", ProductStruct),
    )


class AttentionStruct(Structure):
    """`attention` of kernel.h."""

    _fields_ = (
        ("window", c_int32),
        ("vocabulary", c_int32),
        ("keys", c_int32),
        ("followed", c_int32),
        ("newest", c_int32),
        ("recency", c_void_p),
        ("project", ProductStruct),
    )


class NetworkStruct(Structure):
    """`network` of kernel.h."""

    _fields_ = (
        ("cell", c_int32),
        ("layers", c_int32),
        ("hidden", c_int32),
        ("vocabulary", c_int32),
        ("columns", c_int32),
        ("floats", c_int32),
        ("whole", c_int32),
        ("table", c_void_p),
        ("layer", POINTER(LayerStruct)),
        ("ids", c_void_p),
        ("out", ProductStruct),
        ("every", ProductStruct),
        ("skip", c_int32),
        ("attention", POINTER(AttentionStruct)),
    )


class KernelWeights:
    """A network's weights in the kernel's layout, and the structure that says where they lie.

    The kernel owns no memory: it may be called only while this object lives.
    """

    def __init__(self, config: NetworkConfig, weights: StepWeights, ids: NDArray[np.int64], processor: str) -> None:
        if processor not in processors():  # asking that also asks Linux for what the kernel may use
            raise ValueError(f"no kernel for {processor} here; choose one of {', '.join(processors()) or 'none'}")
        self.processor = processor
        self.ids, self.units = ids, config.units()
        self._offset = PROCESSORS[processor]
        self._kept: list[Any] = []
        whole = weights.out.scale is not None
        layout = config.state_layout()
        layers = (LayerStruct * config.layers)(
            *(
                self._layer(layer, [layout[name].start for name in config.layer_state(at)], config.hidden)
                for at, layer in enumerate(weights.layers)
            )
        )
        out = self._product(weights.out, config.hidden)
        self.struct = NetworkStruct(
            cell=list(CELLS).index(config.cell),
            layers=config.layers,
            hidden=config.hidden,
            vocabulary=config.vocabulary,
            columns=len(ids),
            floats=layout.floats,
            whole=whole,
            table=self._keep(weights.table),
            layer=layers,
            ids=self._keep(ids.astype(np.int32)),
            out=out,
            every=out if weights.every is weights.out else self._product(weights.every, config.hidden),
            skip=weights.skip,
            attention=self._attention(config, weights.attention),
        )

    @property
    def nbytes(self) -> int:
        """Memory of the arrays."""
        return sum(array.nbytes for array in self._kept)

    def _layer(self, layer: Layer, state: list[int], hidden: int) -> LayerStruct:
        """state: where each part of the layer's state begins."""
        below = ProductStruct() if layer.input is None else self._product(layer.input, hidden)
        return LayerStruct(layer.joined, (c_int32 * MOST_PARTS)(*state), below, self._product(layer.recurrent, hidden))

    def _attention(self, config: NetworkConfig, weights: AttentionWeights | None) -> Any:
        """The address of the attention's structure; none without any."""
        if weights is None:
            return None
        layout, window = config.state_layout(), config.attention
        recency = np.append(weights.recency, np.float32(0))  # of distances 1 … window - 1, and of 0
        distances = (window - 1 - np.arange(2 * window - 1)) % window
        struct = AttentionStruct(
            window=window,
            vocabulary=config.vocabulary,
            keys=layout[KEYS].start,
            followed=layout[FOLLOWED].start,
            newest=layout[NEWEST].start,
            recency=self._keep(recency[distances - 1]),
            project=self._product(weights.project, config.hidden),
        )
        return pointer(struct)  # the network's structure keeps it

    def _product(self, product: Product, hidden: int) -> ProductStruct:
        """Pad each `hidden` inputs to whole groups and the outputs to whole vectors, and lay them in panels."""
        outputs, inputs = product.matrix.shape
        halves = product.matrix.reshape(outputs, inputs // hidden, hidden)
        halves = np.pad(halves, ((0, -outputs % COLUMNS), (0, 0), (0, -hidden % GROUP)))
        matrix = halves.reshape(len(halves), -1)
        start = None
        if product.scale is not None:
            start = self._keep(-self._offset * matrix.sum(axis=1, dtype=np.int32))
        return ProductStruct(
            outputs=len(matrix),
            groups=matrix.shape[1] // GROUP,
            weights=self._keep(pack(matrix)),
            scale=self._pad(product.scale, len(matrix)),
            bias=self._pad(product.bias, len(matrix)),
            start=start,
        )

    def _pad(self, values: NDArray[np.float32] | None, length: int) -> int | None:
        return None if values is None else self._keep(np.pad(values, (0, length - len(values))))

    def _keep(self, array: NDArray[Any]) -> int:
        """The address of an array that lives as long as this object."""
        array = np.ascontiguousarray(array)
        self._kept.append(array)
        return array.ctypes.data


def pack(matrix: NDArray[Any]) -> NDArray[Any]:
    """A matrix (N, K) in panels of 64 columns, the last one narrower: 8-bit as [K / 4][N][4], floats as [K][N]."""
    outputs, inputs = matrix.shape
    group = GROUP if matrix.dtype == np.int8 else 1
    packed = np.empty(outputs * inputs, matrix.dtype)
    for at in range(0, outputs, PANEL):
        panel = matrix[at : at + PANEL].reshape(-1, inputs // group, group).swapaxes(0, 1)
        packed[at * inputs :][: panel.size] = panel.ravel()
    return packed
