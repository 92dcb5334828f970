"""Enc, Dec and Dis as ONNX graphs, in evaluation mode: images NCHW, any number of them, weights in PyTorch's layouts.

Made node by node with the onnx package; PyTorch has no part in it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from models.blocks import EPS_CONV, EPS_LINEAR
from models.networks import NetworkSpec

OPSET, IR_VERSION = 17, 8


class Graph:
    """A graph under construction. Methods add nodes and return the name of their output."""

    def __init__(self, tensors: Mapping[str, np.ndarray]):
        self.tensors, self.nodes, self.used, self.count = tensors, [], {}, 0  # type: ignore[var-annotated]

    def node(self, kind: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        """A node with one output."""
        from onnx import helper

        self.count += 1
        name = name or f"{kind.lower()}{self.count}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def weight(self, name: str, array: np.ndarray | None = None) -> str:
        """An array of the state_dict, or ``array``, as an input of nodes."""
        self.used[name] = self.tensors[name] if array is None else array
        return name

    def norm_relu(self, x: str, module: str, eps: float) -> str:
        """Batch norm by running statistics, then ReLU."""
        parts = [self.weight(f"{module}.{name}") for name in ("weight", "bias", "running_mean", "running_var")]
        return self.node("Relu", self.node("BatchNormalization", x, *parts, epsilon=eps))

    def conv(self, x: str, module: str, stride: int, *, bias: bool = False, name: str = "") -> str:
        """A 5x5 convolution."""
        inputs = [self.weight(f"{module}.weight")] + ([self.weight(f"{module}.bias")] if bias else [])
        return self.node("Conv", x, *inputs, name=name, kernel_shape=[5, 5], strides=[stride, stride], pads=[2, 2, 2, 2])

    def upconv(self, x: str, module: str) -> str:
        """A fractional-strided convolution to twice the size."""
        options: dict[str, Any] = {"kernel_shape": [5, 5], "strides": [2, 2], "pads": [2, 2, 2, 2], "output_padding": [1, 1]}
        return self.node("ConvTranspose", x, self.weight(f"{module}.weight"), **options)

    def linear(self, x: str, module: str, *, bias: bool = False, name: str = "") -> str:
        """x · Wᵀ (+ bias)."""
        inputs = [self.weight(f"{module}.weight")] + ([self.weight(f"{module}.bias")] if bias else [])
        return self.node("Gemm", x, *inputs, name=name, transB=1)

    def fc(self, x: str, module: str, attributes: bool) -> str:
        """The FC block, with the attributes behind its input."""
        x = self.node("Concat", x, "attributes", axis=1) if attributes else x
        return self.norm_relu(self.linear(x, f"{module}.0"), f"{module}.1", EPS_LINEAR)


def _encoder(g: Graph, spec: NetworkSpec) -> None:
    x = "images"
    for i in range(len(spec.encoder)):
        x = g.norm_relu(g.conv(x, f"encoder.convs.{i}.0", 2), f"encoder.convs.{i}.1", EPS_CONV)
    h = g.fc(g.node("Flatten", x, axis=1), "encoder.fc", spec.attributes > 0)
    g.linear(h, "encoder.mu", bias=True, name="mu")
    g.linear(h, "encoder.logvar", bias=True, name="logvar")


def _decoder(g: Graph, spec: NetworkSpec) -> None:
    h = g.fc("z", "decoder.fc", spec.attributes > 0)
    start = np.array([0, spec.decoder[0], spec.grid, spec.grid], np.int64)  # 0: as it is
    h = g.node("Reshape", h, g.weight("decoder.start", start))
    for i in range(len(spec.decoder) - 1):
        h = g.norm_relu(g.upconv(h, f"decoder.ups.{i}.0"), f"decoder.ups.{i}.1", EPS_CONV)
    g.node("Tanh", g.conv(h, "decoder.image", 1, bias=True), name="images")


def _discriminator(g: Graph, spec: NetworkSpec) -> None:
    h = g.node("Relu", g.conv("images", "discriminator.first.0", 1, bias=True))
    for i in range(1, len(spec.discriminator)):
        module = f"discriminator.convs.{i - 1}"
        h = g.conv(h, f"{module}.0", 2, name="features" if i + 1 == spec.metric else "")
        h = g.norm_relu(h, f"{module}.1", EPS_CONV)
    h = g.fc(g.node("Flatten", h, axis=1), "discriminator.fc", spec.attributes > 0)
    logit = g.linear(h, "discriminator.output", bias=True)
    g.node("Squeeze", g.node("Sigmoid", logit), g.weight("discriminator.axis", np.array([1], np.int64)), name="probability")


def _shapes(spec: NetworkSpec) -> dict[str, list[Any]]:
    size, rows = spec.image_size, spec.image_size >> (spec.metric - 1)
    return {
        "images": ["N", spec.channels, size, size], "z": ["N", spec.latent], "attributes": ["N", spec.attributes],
        "mu": ["N", spec.latent], "logvar": ["N", spec.latent], "probability": ["N"],
        "features": ["N", spec.discriminator[spec.metric - 1], rows, rows],
    }  # fmt: skip


NETWORKS = {  # name: (what adds its nodes, inputs, outputs)
    "encoder": (_encoder, ["images"], ["mu", "logvar"]),
    "decoder": (_decoder, ["z"], ["images"]),
    "discriminator": (_discriminator, ["images"], ["probability", "features"]),
}


def onnx_bytes(network: str, tensors: Mapping[str, np.ndarray], spec: NetworkSpec, about: Mapping[str, Any]) -> bytes:
    """The file of ``network`` ("encoder", "decoder", "discriminator").

    Inputs and outputs, all float32, N any number: Enc images → mu, logvar; Dec z → images; Dis images → probability, features (Dis_l).
    A conditional network has the input ``attributes`` [N, A] too.

    Args:
        tensors: the state_dict of `portable.state_dict`. about: `portable.description`, kept in the file's metadata.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    build, inputs, outputs = NETWORKS[network]
    graph, shapes = Graph(tensors), _shapes(spec)
    build(graph, spec)
    inputs = [*inputs, *(["attributes"] if spec.attributes else [])]
    given, made = ([helper.make_tensor_value_info(name, TensorProto.FLOAT, shapes[name]) for name in group] for group in (inputs, outputs))
    weights = [numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in graph.used.items()]
    whole = helper.make_graph(graph.nodes, f"vaegan {network}", given, made, weights)
    model = helper.make_model(whole, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="vaegan-kernels")
    helper.set_model_props(
        model,
        {
            "pixels": str(about["pixels"]) + ", NCHW",
            "attributes": json.dumps(about["sizes"]["attributes"]),
            "sizes": json.dumps(about["sizes"]),
            "step": str(about["step"]),
        },
    )
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())
