"""onnxruntime's RotaryEmbedding (ONNX opset 23) on the CPU.

    rope-ref check examples.ort:implementation --variant default --head-dim 64

The operator takes tables of cos and sin, whose rows positions pick; a position outside them is an error. x is
(batch, heads, seq, head_dim), or flat (batch, seq, heads head_dim). The CPU has no kernel for bfloat16, and in
float16 pairs are turned in float16.
"""

import numpy as np
import onnxruntime
from onnx import TensorProto, helper

import rope_ref as rr
from rope_ref.conformance import Implementation

ROWS = 4096
TYPES = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16}


def session(dtype, rank, **attributes):
    kind, x = TYPES[dtype], [f"x{axis}" for axis in range(rank)]
    node = helper.make_node("RotaryEmbedding", ["x", "cos", "sin", "position_ids"], ["y"], **attributes)
    inputs = [helper.make_tensor_value_info("x", kind, x)]
    inputs += [helper.make_tensor_value_info(name, kind, ["rows", "pairs"]) for name in ("cos", "sin")]
    inputs += [helper.make_tensor_value_info("position_ids", TensorProto.INT64, ["batch", "seq"])]
    graph = helper.make_graph([node], "rope", inputs, [helper.make_tensor_value_info("y", kind, x)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # positions out of range are asked on purpose
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def operator(rope, layout="bhsd", heads=None):
    rank = 4 if layout == "bhsd" else 3
    attributes = {"interleaved": int(rope.pairing == "interleaved")}
    if rank == 3:
        attributes["num_heads"] = heads
    if 2 * rope.pairs < rope.head_dim:
        attributes |= {"rotary_embedding_dim": 2 * rope.pairs, "num_heads": heads}
    sessions = {dtype: session(dtype, rank, **attributes) for dtype in TYPES}
    tables = {dtype: rr.tables(rope, np.arange(ROWS), dtype) for dtype in TYPES}

    def apply(x, positions):
        cos, sin = tables[str(x.dtype)]
        seq = x.shape[2 if rank == 4 else 1]
        ids = np.broadcast_to(positions, (len(x), seq)).astype(np.int64)
        return sessions[str(x.dtype)].run(None, {"x": x, "cos": cos, "sin": sin, "position_ids": ids})[0]

    return Implementation(
        apply=apply, arrays="numpy", layout=layout, heads=heads, dtypes=tuple(TYPES), rows=True, negative=False,
        fractional=False, strided=True, max_position=ROWS,
    )  # fmt: skip


rope = rr.variants.default(64)
implementation = operator(rope)
INTERLEAVED = rr.variants.default(64, pairing="interleaved")
PARTIAL = rr.variants.partial(64, 0.5)

CHECKS = {
    "half-split": (implementation, rope),
    "interleaved": (operator(INTERLEAVED), INTERLEAVED),
    "partial": (operator(PARTIAL, heads=2), PARTIAL),
    "flat": (operator(rope, "bs(hd)", heads=2), rope),
}
