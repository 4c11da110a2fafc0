"""Nodes of networks and of signal processing for test_ops_nn.py: padding modes, strides, groups,
empty batches, odd axes; by operator family, with who judges them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass
class Node:
    """One node: shapes (or arrays) of its inputs by position, None for an absent one."""

    name: str
    op: str
    inputs: list[Any]
    attrs: dict[str, Any] = field(default_factory=dict)
    opset: int = 22
    outputs: int = 1
    judge: str = "onnxruntime"
    types: tuple[str, ...] = ("float32", "float64", "float16", "bfloat16")
    tol: float = 1.0


def conv_transpose() -> list[Node]:
    """Strides, dilations, groups, output_padding, output_shape, auto_pad in 1, 2 and 3 dims."""
    op = "ConvTranspose"
    return [
        Node("ct plain", op, [(2, 3, 5, 4), (3, 2, 3, 3), (2,)]),
        Node("ct stride", op, [(1, 3, 5, 4), (3, 2, 2, 2)], {"strides": [2, 3]}),
        Node(
            "ct pads", op, [(1, 3, 5, 4), (3, 2, 3, 3)], {"pads": [1, 0, 2, 1], "strides": [2, 2]}
        ),
        Node(
            "ct output_padding",
            op,
            [(1, 4, 5, 4), (4, 2, 3, 3), (2,)],
            {"strides": [3, 2], "output_padding": [2, 1], "pads": [1, 1, 1, 1]},
        ),
        Node("ct dilation", op, [(1, 2, 5, 4), (2, 2, 3, 2)], {"dilations": [2, 3]}),
        Node("ct group", op, [(2, 6, 4, 4), (6, 2, 3, 3), (6,)], {"group": 3, "strides": [2, 2]}),
        Node("ct depthwise", op, [(1, 4, 4, 4), (4, 1, 4, 4)], {"group": 4, "strides": [2, 2]}),
        Node(
            "ct output_shape",
            op,
            [(1, 2, 4, 4), (2, 3, 3, 3)],
            {"output_shape": [9, 10], "strides": [3, 3], "output_padding": [1, 1]},
        ),
        Node(
            "ct same_upper",
            op,
            [(1, 2, 4, 5), (2, 3, 3, 3)],
            {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
        ),
        Node(
            "ct same_lower",
            op,
            [(1, 2, 4, 5), (2, 3, 3, 3)],
            {"auto_pad": "SAME_LOWER", "strides": [2, 2]},
        ),
        Node("ct 1d", op, [(2, 3, 7), (3, 4, 3), (4,)], {"strides": [2], "pads": [1, 1]}),
        Node("ct 3d", op, [(1, 2, 3, 4, 3), (2, 2, 2, 2, 3)], {"strides": [1, 2, 2]}),
        Node("ct empty", op, [(0, 3, 5, 4), (3, 2, 3, 3)]),
    ]


def conv() -> list[Node]:
    """Conv where the fast kernels do not look: 1-D, 3-D, empty batches, uneven padding."""
    return [
        Node("conv 1d", "Conv", [(2, 4, 9), (6, 2, 3), (6,)], {"group": 2, "pads": [2, 1]}),
        Node("conv 3d", "Conv", [(1, 2, 4, 5, 3), (3, 2, 2, 3, 2)], {"strides": [1, 2, 1]}),
        Node("conv dilated", "Conv", [(1, 3, 9, 8), (4, 3, 3, 2)], {"dilations": [3, 2]}),
        Node("conv uneven", "Conv", [(1, 3, 6, 7), (4, 3, 3, 3), (4,)], {"pads": [0, 2, 1, 0]}),
        Node("conv lower", "Conv", [(1, 3, 6, 7), (4, 3, 4, 2)], {"auto_pad": "SAME_LOWER"}),
        Node(
            "conv upper",
            "Conv",
            [(1, 3, 7, 6), (4, 3, 4, 2)],
            {"auto_pad": "SAME_UPPER", "strides": [3, 2]},
        ),
        Node("conv empty", "Conv", [(0, 3, 6, 7), (4, 3, 3, 3)]),
    ]


def pools() -> list[Node]:
    """ceil_mode, dilations, indices, count_include_pad, p-norms."""
    two = [2, 2]
    return [
        Node(
            "max ceil",
            "MaxPool",
            [(1, 2, 7, 6)],
            {"kernel_shape": [3, 3], "strides": two, "ceil_mode": 1, "pads": [1, 1, 0, 1]},
        ),
        Node(
            "max indices",
            "MaxPool",
            [(2, 2, 5, 6)],
            {"kernel_shape": two},
            outputs=2,
            types=("float32", "float64", "float16"),
        ),
        Node(
            "max column major",
            "MaxPool",
            [(2, 2, 5, 6)],
            {"kernel_shape": two, "strides": two, "storage_order": 1},
            outputs=2,
            types=("float32", "float64"),
        ),
        Node(
            "max dilated 3d",
            "MaxPool",
            [(1, 2, 6, 5, 7)],
            {"kernel_shape": [2, 2, 2], "dilations": [2, 1, 3]},
        ),
        Node(
            "mean pad",
            "AveragePool",
            [(1, 2, 7, 6)],
            {"kernel_shape": [3, 3], "strides": two, "pads": [1, 1, 1, 1], "count_include_pad": 1},
        ),
        Node(
            "mean ceil",
            "AveragePool",
            [(1, 2, 7, 6)],
            {"kernel_shape": [3, 2], "strides": two, "ceil_mode": 1, "pads": [1, 0, 1, 0]},
        ),
        Node(
            "mean dilated",
            "AveragePool",
            [(1, 2, 9, 8)],
            {"kernel_shape": [3, 2], "dilations": [2, 3]},
        ),
        Node("lp 1", "LpPool", [(1, 2, 7, 6)], {"kernel_shape": [3, 2], "p": 1, "strides": two}),
        Node(
            "lp 3", "LpPool", [(1, 2, 7, 6)], {"kernel_shape": [3, 2], "p": 3, "pads": [1, 0, 1, 0]}
        ),
        Node("global lp", "GlobalLpPool", [(2, 3, 4, 5)], {"p": 3}, 21),
        Node("global max", "GlobalMaxPool", [(2, 3, 4, 5, 2)]),
    ]


def norms() -> list[Node]:
    """Normalizations of odd ranks, one group, one channel, large epsilon."""
    ln = ["float32", "float64", "float16"]
    return [
        Node("instance 3d", "InstanceNormalization", [(2, 3, 8), (3,), (3,)]),
        Node(
            "instance 5d", "InstanceNormalization", [(1, 2, 3, 2, 4), (2,), (2,)], {"epsilon": 0.5}
        ),
        Node("group", "GroupNormalization", [(2, 6, 3, 4), (6,), (6,)], {"num_groups": 3}, 21),
        Node("group one", "GroupNormalization", [(2, 6, 5), (6,), (6,)], {"num_groups": 1}, 21),
        Node(
            "group 18",
            "GroupNormalization",
            [(2, 6, 5), (3,), (3,)],
            {"num_groups": 3},
            18,
            types=("float32", "float64", "float16"),
            judge="numpy_group",
        ),
        Node("rms", "RMSNormalization", [(2, 3, 8), (8,)], {}, 23),
        Node(
            "rms axis 1", "RMSNormalization", [(2, 3, 8), (3, 8)], {"axis": 1, "epsilon": 0.1}, 23
        ),
        Node("lp norm 1", "LpNormalization", [(3, 4, 5)], {"p": 1, "axis": 1}),
        Node("lp norm 2", "LpNormalization", [(3, 4, 5)], {"p": 2, "axis": 0}),
        Node("lp norm zero", "LpNormalization", [np.zeros((2, 3))], {"p": 2}),
        Node("lrn", "LRN", [(2, 7, 3, 2)], {"size": 5, "alpha": 0.3, "beta": 0.6, "bias": 1.5}, 13),
        Node("lrn even", "LRN", [(5, 5, 4, 2)], {"size": 4, "alpha": 0.5}, 13, judge="reference"),
        Node("mvn", "MeanVarianceNormalization", [(2, 3, 4, 5)], {}, 13, tol=5),
        Node("mvn axes", "MeanVarianceNormalization", [(2, 3, 4, 5)], {"axes": [1]}, 13, tol=5),
        Node("bn", "BatchNormalization", [(2, 3, 4), (3,), (3,), (3,), np.ones(3)], {}, 15),
        Node("gelu", "Gelu", [(4, 5)], {}, 20),
        Node("gelu tanh", "Gelu", [(4, 5)], {"approximate": "tanh"}, 20),
    ] + [Node(f"rms {t}", "RMSNormalization", [(4, 6), (1,)], {}, 23, types=(t,)) for t in ln]


def recurrent() -> list[Node]:
    """Activations, directions, lengths, layouts, coupled gates, peepholes, clipping."""
    lens = np.array([4, 2], np.int32)
    x, w = (4, 2, 3), "float32 float64 float16 bfloat16".split()
    out = []
    for op, gates in (("RNN", 1), ("GRU", 3), ("LSTM", 4)):
        acts = {
            "RNN": ["Affine"],
            "GRU": ["HardSigmoid", "ScaledTanh"],
            "LSTM": ["HardSigmoid", "Softsign", "Tanh"],
        }[op]
        for direction in ("forward", "reverse", "bidirectional"):
            d = 2 if direction == "bidirectional" else 1
            ins = [x, (d, gates * 5, 3), (d, gates * 5, 5), (d, 2 * gates * 5), lens, (d, 2, 5)]
            n_out = 2
            if op == "LSTM":
                ins += [(d, 2, 5), (d, 15)]
                n_out = 3
            base = {"hidden_size": 5, "direction": direction}
            extra: dict[str, Any] = {"activations": acts * d, "clip": 0.8}
            if op == "GRU":
                extra |= {"activation_alpha": [0.3, 1.2] * d, "activation_beta": [0.4, 0.7] * d}
            if op == "RNN":
                extra |= {"activation_alpha": [0.5] * d, "activation_beta": [0.1] * d}
            if op == "LSTM":
                extra |= {"activation_alpha": [0.3] * d, "activation_beta": [0.4] * d}
            name = f"{op} {direction}"
            out.append(Node(name, op, ins, base, 14, n_out, types=tuple(w), tol=2))
            out.append(Node(f"{name} odd", op, ins, base | extra, 14, n_out, types=("float32",)))
    out.append(
        Node(
            "GRU before reset",
            "GRU",
            [x, (1, 15, 3), (1, 15, 5), (1, 30)],
            {"hidden_size": 5, "linear_before_reset": 1},
            14,
            2,
        )
    )
    out.append(
        Node(
            "LSTM coupled",
            "LSTM",
            [x, (1, 20, 3), (1, 20, 5), (1, 40)],
            {"hidden_size": 5, "input_forget": 1},
            14,
            3,
        )
    )
    return out


def vision() -> list[Node]:
    """GridSample, RoiAlign, MaxRoiPool, Col2Im, MaxUnpool, DeformConv, AffineGrid."""
    rng = np.random.default_rng(5)
    grid = rng.uniform(-1.4, 1.4, (2, 3, 4, 2))
    out = [
        Node(
            f"grid {mode} {pad} {align}",
            "GridSample",
            [(2, 2, 5, 6), grid],
            {"mode": mode, "padding_mode": pad, "align_corners": align},
            20,
            types=("float32", "float64"),
            tol=3,
        )
        for mode in ("linear", "nearest", "cubic")
        for pad in ("zeros", "border", "reflection")
        for align in (0, 1)
    ]
    out += [
        Node(
            f"grid 3d {mode} {pad}",
            "GridSample",
            [(1, 2, 3, 4, 5), rng.uniform(-1.3, 1.3, (1, 2, 3, 2, 3))],
            {"mode": mode, "padding_mode": pad},
            20,
            types=("float32",),
            tol=3,
        )
        for mode in ("linear", "nearest")
        for pad in ("zeros", "border", "reflection")
    ]
    rois = np.array([[0.5, 0.4, 6.2, 5.1], [1, 2, 3, 9], [4, 4, 4.2, 4.1]])
    batch = np.array([0, 1, 1], np.int64)
    for half in ("half_pixel", "output_half_pixel"):
        for mode in ("avg", "max"):
            for ratio in (0, 2):
                out.append(
                    Node(
                        f"roi {half} {mode} {ratio}",
                        "RoiAlign",
                        [(2, 3, 9, 8), rois, batch],
                        {
                            "coordinate_transformation_mode": half,
                            "mode": mode,
                            "sampling_ratio": ratio,
                            "output_height": 3,
                            "output_width": 2,
                            "spatial_scale": 0.9,
                        },
                        16,
                        types=("float32", "float64"),
                    )
                )
    boxes = np.array([[0, 0, 0, 5, 6], [1, 2, 3, 9, 9], [1, 7, 7, 3, 3]], np.float64)
    theta = rng.uniform(-1, 1, (2, 2, 3))
    out += [
        Node(
            "max roi",
            "MaxRoiPool",
            [(2, 3, 9, 8), boxes],
            {"pooled_shape": [2, 3], "spatial_scale": 0.7},
            21,
            types=("float32",),
        ),
        Node(
            "col2im",
            "Col2Im",
            [(2, 12, 12), np.array([5, 5]), np.array([2, 2])],
            {"strides": [1, 2], "pads": [0, 1, 0, 1]},
            18,
            types=("float32", "float64"),
        ),
        Node(
            "unpool",
            "MaxUnpool",
            [(1, 1, 2, 3), np.array([[[[1, 3, 5], [14, 16, 23]]]])],
            {"kernel_shape": [2, 2], "strides": [2, 2]},
            types=("float32",),
        ),
        Node(
            "affine",
            "AffineGrid",
            [theta, np.array([2, 3, 4, 5])],
            {},
            20,
            types=("float32", "float64"),
        ),
        Node(
            "affine corners",
            "AffineGrid",
            [theta, np.array([2, 3, 4, 5])],
            {"align_corners": 1},
            20,
            types=("float32", "float64"),
        ),
        Node(
            "deform",
            "DeformConv",
            [
                (1, 4, 6, 5),
                (4, 2, 2, 3),
                0.7 * rng.standard_normal((1, 24, 3, 2)),
                (4,),
                rng.uniform(0, 1, (1, 12, 3, 2)),
            ],
            {
                "group": 2,
                "offset_group": 2,
                "strides": [2, 2],
                "dilations": [1, 1],
                "pads": [0, 0, 1, 0],
                "kernel_shape": [2, 3],
            },
            19,
            types=("float32", "float64"),
            judge="reference",
        ),
        Node("det", "Det", [(2, 3, 4, 4)], {}, 11, types=("float32", "float64"), tol=3),
    ]
    return out


def signal() -> list[Node]:
    """Lengths that are no power of two, every axis, one side, both ways."""
    f = ("float32", "float64")
    length, axis = np.array(12, np.int64), np.array(1, np.int64)
    return [
        Node("dft prime", "DFT", [(2, 11, 1), None, axis], {}, 20, types=f, tol=5),
        Node("dft 8", "DFT", [(2, 8, 3, 2), None, axis], {}, 20, types=f, tol=5),
        Node("dft pad", "DFT", [(2, 7, 2), length, axis], {}, 20, types=f, tol=5),
        Node("dft cut", "DFT", [(2, 17, 2), length, axis], {}, 20, types=f, tol=5),
        Node("dft onesided", "DFT", [(2, 9, 1), None, axis], {"onesided": 1}, 20, types=f, tol=5),
        Node("dft inverse", "DFT", [(3, 10, 2), None, axis], {"inverse": 1}, 20, types=f, tol=5),
        Node(
            "dft irfft odd",
            "DFT",
            [(3, 6, 2), np.array(11), axis],
            {"inverse": 1, "onesided": 1},
            20,
            types=f,
            tol=5,
            judge="reference",
        ),
        Node("dft 17", "DFT", [(2, 5, 6, 1)], {"axis": 2}, 17, types=f, tol=5),
        Node(
            "stft", "STFT", [(2, 50, 1), np.array(7), (10,), np.array(10)], {}, 17, types=f, tol=5
        ),
        Node(
            "stft complex",
            "STFT",
            [(2, 40, 2), np.array(8), None, np.array(12)],
            {"onesided": 0},
            17,
            types=f,
            tol=5,
        ),
        Node("hann", "HannWindow", [np.array(11)], {}, 17, types=("float32",)),
        Node("hamming", "HammingWindow", [np.array(8)], {"periodic": 0}, 17, types=("float32",)),
        Node(
            "blackman",
            "BlackmanWindow",
            [np.array(9)],
            {"output_datatype": 11},
            17,
            types=("float64",),
        ),
        Node(
            "mel",
            "MelWeightMatrix",
            [np.array(8), np.array(64), np.array(16000), np.float32(20), np.float32(7000)],
            {},
            17,
            types=("float32",),
        ),
    ]


def attention() -> list[Node]:
    """Heads, masks of every rank, caches, caps; rows that are masked everywhere give 0."""
    rng = np.random.default_rng(9)
    q, k, v = (2, 4, 3, 8), (2, 2, 5, 8), (2, 2, 5, 6)
    some = rng.random((3, 5)) > 0.4
    some[1] = False
    past = [(2, 2, 4, 8), (2, 2, 4, 6)]
    f = ("float32", "float16")
    op = "Attention"
    return [
        Node("att gqa", op, [q, k, v], {}, 23, types=f),
        Node("att causal", op, [q, k, v], {"is_causal": 1, "scale": 0.3}, 23, types=f),
        Node("att bool", op, [q, k, v, some], {}, 23, types=("float32",)),
        Node("att mask 3d", op, [q, k, v, (4, 3, 5)], {"softcap": 2.0}, 23, types=f),
        Node("att mask 4d", op, [q, k, v, (2, 1, 3, 5)], {}, 23, types=f),
        Node("att past", op, [q, k, v, None, *past], {"is_causal": 1}, 23, 3, types=f),
        Node(
            "att 3d",
            op,
            [(2, 3, 32), (2, 5, 16), (2, 5, 12)],
            {"q_num_heads": 4, "kv_num_heads": 2},
            23,
            types=f,
        ),
        Node(
            "att valid",
            op,
            [q, k, v, None, None, None, np.array([5, 2])],
            {},
            24,
            types=("float32",),
        ),
        Node(
            "rope",
            "RotaryEmbedding",
            [(2, 3, 4, 8), (9, 4), (9, 4), np.array([[0, 3, 8, 1], [2, 2, 0, 7]])],
            {},
            23,
            types=f,
        ),
        Node(
            "rope partial",
            "RotaryEmbedding",
            [(2, 4, 24), (9, 2), (9, 2), np.array([[0, 3, 8, 1], [2, 2, 0, 7]])],
            {"num_heads": 3, "rotary_embedding_dim": 4, "interleaved": 1},
            23,
            types=f,
        ),
    ]


def losses() -> list[Node]:
    """Reductions, weights, ignored labels."""
    labels = np.array([[1, 0, 4], [2, 2, 3]])
    return [
        Node(
            f"{op} {how} {ignore}",
            op,
            [(2, 5, 3), labels, (5,)],
            {"reduction": how} | ({"ignore_index": 2} if ignore else {}),
            13,
            types=("float32", "float64"),
        )
        for op in ("NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss")
        for how in ("none", "mean", "sum")
        for ignore in (False, True)
    ]


def einsum() -> list[Node]:
    """Batches, diagonals, ellipses, broadcasting, sums of one operand, three operands."""
    cases = {
        "ij,jk": [(3, 4), (4, 5)],
        "ij,jk->ki": [(3, 4), (4, 5)],
        "bhqd,bhkd->bhqk": [(2, 3, 4, 5), (2, 3, 6, 5)],
        "b...d,bd->b...": [(2, 3, 4, 5), (2, 5)],
        "...ij,...jk->...ik": [(2, 1, 3, 4), (3, 4, 5)],
        "ii->i": [(4, 4)],
        "iij->j": [(4, 4, 3)],
        "ij->": [(3, 4)],
        "ba": [(3, 4)],
        "ij,kl->": [(3, 4), (2, 5)],
        "i,i->": [(7,), (7,)],
        "ij,jk,kl->il": [(3, 4), (4, 5), (5, 2)],
        "i,j->ij": [(3,), (4,)],
        " i j , j k -> i k ": [(3, 4), (4, 5)],
        "ijk,ilm,njm,nlk,abc->": [(2, 3, 4), (2, 5, 3), (2, 3, 3), (2, 5, 4), (1, 2, 2)],
    }
    return [
        Node(
            f"einsum {eq}",
            "Einsum",
            list(ins),
            {"equation": eq},
            12,
            types=("float32", "float64", "int32", "int64"),
            tol=10,
            judge="reference" if eq.startswith("...ij") else "onnxruntime",
        )
        for eq, ins in cases.items()
    ]


CASES = [
    *conv_transpose(),
    *conv(),
    *pools(),
    *norms(),
    *recurrent(),
    *vision(),
    *signal(),
    *attention(),
    *losses(),
    *einsum(),
]
