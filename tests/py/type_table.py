"""What each default-domain operator is fed with in the check of every type of its schema.

A line: names of operators, then their inputs as type_values.py writes them, then attributes. An
attribute "@T" is the number of the element type that T has in the case. `link`: a type parameter
that follows another one; `base`: what a type parameter is while another one varies (float, or the
first that is allowed, when nothing is said).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass
class Recipe:
    """How an operator is called."""

    inputs: list[str]
    attributes: dict[str, Any] = field(default_factory=dict)
    base: dict[str, str] = field(default_factory=dict)
    link: dict[str, str] = field(default_factory=dict)
    outputs: int = 0  # 0: all of the schema, one of a variadic
    only: tuple[str, ...] = ()  # type parameters that are varied; all when empty
    moves: str = ""  # the type parameter whose elements are only moved
    in_float: bool = False  # float inside, for double too
    cut: bool = False  # results of integers are real numbers, cut off
    old_form: int = 0  # opset in which onnxruntime knows the operator, in the same form
    exact: tuple[str, ...] = ()  # type parameters that may not be widened for a reference
    loose: float = 1.0  # factor of the tolerance
    check: Callable[[list[Any]], str] | None = None  # instead of a reference (random numbers)


RECIPES: dict[str, Recipe] = {}


def rows(names: str, inputs: str, attributes: dict[str, Any] | None = None, **more: Any) -> None:
    """The same recipe for several operators."""
    for name in names.split():
        RECIPES[name] = Recipe(inputs.split(), attributes or {}, **more)


# ---------------------------------------------------------------- element by element
rows("Abs Asinh Atan Ceil Celu Cos Cosh Elu Exp Floor HardSigmoid Hardmax "
     "LeakyRelu LogSoftmax LpNormalization Mish Neg Relu Round Selu Shrink Sigmoid Sign Sin Sinh "
     "Softmax Softplus Softsign Swish Tan Tanh ThresholdedRelu Identity Size Shape NonZero Not "
     "BitwiseNot IsNaN IsInf", "2x3x4")  # fmt: skip
rows("Erf Gelu HardSwish", "2x3x4", in_float=True)
rows("Acos Asin", "2x3:u")
rows("Atanh", "2x3:u", loose=4)
rows("Acosh Log Sqrt Reciprocal", "2x3:p")
rows("Add Sub Mul And Or Xor Equal Greater GreaterOrEqual Less LessOrEqual BitwiseAnd BitwiseOr "
     "BitwiseXor", "2x3x4 3x1")  # fmt: skip
rows("Div", "2x3x4 3x1:p")
rows("Mod", "2x3x4:z 3x1:w", {"fmod": "for floats"})
rows("Pow", "2x3x4:p 3x1:p", loose=4)
rows("BitShift", "2x3:w 3:w", {"direction": "LEFT"})
rows("Max Min Mean Sum", "2x3x4 3x1 4")
rows("PRelu", "2x3x4 3x1")
rows("Clip", "2x3x4 =1 =3")
rows("Where", "2x3x4 3x1 4")
rows("Dropout", "2x3x4 =0.5")
CAST_TYPES = """bfloat16 bool double float float16 float4e2m1 float8e4m3fn float8e4m3fnuz float8e5m2
float8e5m2fnuz float8e8m0 int16 int2 int32 int4 int64 int8 string uint16 uint2 uint32 uint4 uint64
uint8""".split()
for _to in CAST_TYPES:  # numbers that the result has: what others become is not defined
    _span = {"float8e8m0": "t", "int2": "q"}.get(_to, "m" if _to.startswith("uint") else "n")
    rows(f"Cast/{_to} CastLike/{_to}", f"2x3x4:{_span}", {"to": "@T2"}, base={"T2": _to},
         only=("T1",), exact=("T2",))  # fmt: skip
    RECIPES[f"CastLike/{_to}"].inputs.append("1:t")
    RECIPES[f"CastLike/{_to}"].attributes = {}
rows("BitCast", "2x4", {"to": "@T2"}, exact=("T1", "T2"))
rows("StringConcat", "2x3 3")
rows("StringNormalizer", "4:a", {"case_change_action": "UPPER", "stopwords": ["BC"]})
rows("StringSplit", "2x3", {"delimiter": " "})
rows("RegexFullMatch", "2x3", {"pattern": "[a-d ]+"})
rows("TfIdfVectorizer", "6:w", {
    "mode": "TF", "min_gram_length": 1, "max_gram_length": 2, "max_skip_count": 0,
    "ngram_counts": [0, 2], "ngram_indexes": [0, 1, 2], "pool": [1, 2, 2, 3]},
    base={"T": "int64"})  # fmt: skip

# ---------------------------------------------------------------- reductions
rows("ReduceL1 ReduceL2 ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare",
     "2x3x4 =1,")  # fmt: skip
rows("ReduceLogSum ReduceLogSumExp", "2x3x4:p =1,")
rows("ArgMax ArgMin", "2x3x4", {"axis": 1})
rows("CumProd CumSum", "2x3 =1")
rows("TopK", "2x5 =2,")
rows("Unique", "3x4")
rows("Det", "2x3x3", loose=4)
rows("Einsum", "2x3 3x4", {"equation": "ij,jk->ik"})
rows("MatMul", "2x3 3x4")
rows("Gemm", "2x3 3x4 4", {"alpha": 2.0, "beta": 3.0})

# ---------------------------------------------------------------- moves
rows("Compress", "2x3x4 =1,0,1", {"axis": 1})
rows("Concat", "2x3 2x4", {"axis": 1})
rows("ConcatFromSequence", "2x3", {"axis": 1})
rows("CenterCropPad", "3x4 =5,2")
rows("Expand", "3x1 =2,3,4")
rows("Flatten", "2x3x4", {"axis": 2})
rows("Gather", "3x4 2x2:i3")
rows("GatherElements", "3x4 2x4:i3")
rows("GatherND", "3x4 2x1:i3")
rows("Pad", "2x3 =1,0,0,2 s")
rows("Reshape", "2x6 =3,-1")
rows("ReverseSequence", "4x3 =4,2,1", {"batch_axis": 1, "time_axis": 0})
rows("ScatterElements", "3x4 1x4:i3 1x4")
rows("ScatterND", "3x4 1x1:i3 1x4")
rows("Slice", "3x5 =1,0 =3,5 =0,1 =1,2")
rows("SpaceToDepth", "1x2x4x4", {"blocksize": 2})
rows("DepthToSpace", "1x8x2x2", {"blocksize": 2})
rows("Split", "4x3", {"num_outputs": 2}, outputs=2)
rows("SplitToSequence", "4x3 =1,3", link={"S": "T"})
rows("Squeeze", "2x1x3 =1,")
rows("Unsqueeze", "2x3 =1,")
rows("TensorScatter", "2x4x3 2x2x3 =0,1")
rows("Tile", "2x3 =2,1")
rows("Transpose", "2x3x4", {"perm": [2, 0, 1]})
rows("Trilu", "3x4 =1")
rows("OneHot", "2x3:i4 =4 =1,2", base={"T1": "int64", "T2": "int64"})
rows("EyeLike", "3x4", {"dtype": "@T2"})
rows("Constant", "", {"value": "tensor"})
rows("ConstantOfShape", "=2,3", {"value": "one"})
rows("Range", "=1 =9 =3")

for _name in ("Compress Concat ConcatFromSequence CenterCropPad Expand Flatten Gather "
              "GatherElements GatherND Pad Reshape ReverseSequence ScatterElements ScatterND Slice "
              "SpaceToDepth DepthToSpace Split SplitToSequence Squeeze Unsqueeze TensorScatter "
              "Tile Transpose Trilu Identity").split():  # fmt: skip
    RECIPES[_name].moves = "T"
RECIPES["Identity"].moves = "V"
RECIPES["OneHot"].moves = "T3"
for _how in ("add", "mul", "max", "min"):
    rows(f"ScatterElements/{_how}", "3x4 2x4:i3 2x4", {"reduction": _how}, only=("T",))
    rows(f"ScatterND/{_how}", "3x4 2x1:i3 2x4", {"reduction": _how}, only=("T",))
for _mode in ("edge", "reflect", "wrap"):
    rows(f"Pad/{_mode}", "3x4 =1,0,0,2", {"mode": _mode}, only=("T",), moves="T")

# ---------------------------------------------------------------- sequences and optionals
rows("SequenceAt", "2x3 =1", base={"I": "int64"})
rows("SequenceConstruct", "2x3 2x3")
rows("SequenceEmpty", "", {"dtype": "@S"})
rows("SequenceErase", "2x3 =0", base={"I": "int64"})
rows("SequenceInsert", "2x3 2x3 =1", base={"I": "int64"})
rows("SequenceLength", "2x3")
rows("SequenceMap", "2x3 2x3", {"body": "identity2"})
rows("Optional", "2x3", moves="V")
rows("OptionalGetElement", "2x3", moves="O")
rows("OptionalHasElement", "2x3")
rows("If", "=1", {"then_branch": "constant", "else_branch": "constant"})
rows("Loop", "=3 =1 2x3", {"body": "loop"}, outputs=1)
rows("Scan", "2x3", {"body": "identity", "num_scan_inputs": 1}, outputs=1)

# ---------------------------------------------------------------- images and windows
rows("AveragePool LpPool", "1x2x5x5", {"kernel_shape": [2, 3]})
rows("MaxPool", "1x2x5x5", {"kernel_shape": [2, 3]})
rows("GlobalAveragePool GlobalLpPool GlobalMaxPool", "1x2x3x4", old_form=21)
rows("MaxRoiPool", "1x2x6x6 rois", {"pooled_shape": [2, 2]}, old_form=21)
rows("RoiAlign", "1x2x6x6 boxes =0,", {"output_height": 2, "output_width": 2,
     "sampling_ratio": 2})  # fmt: skip
rows("MaxUnpool", "1x1x2x2 unpool", {"kernel_shape": [2, 2], "strides": [2, 2]})
rows("LRN", "4x4x3x2", {"size": 3}, in_float=True)
rows("InstanceNormalization", "2x3x4 3 3", loose=4)
rows("MeanVarianceNormalization", "2x3x4x2", loose=4)
rows("GroupNormalization", "2x4x3 4 4", {"num_groups": 2}, loose=4, in_float=True)
rows("LayerNormalization", "2x3x4 4 4", {"stash_type": "@U"}, loose=4)
rows("RMSNormalization", "2x3x4 4", loose=4, in_float=True)
rows("BatchNormalization", "2x3x4 3 3 3 3:p", outputs=1, loose=4, in_float=True)
rows("Conv", "1x2x4x4 3x2x2x2 3")
rows("ConvTranspose", "1x2x3x3 2x3x2x2 3")
rows("DeformConv", "1x2x4x4 3x2x2x2 1x8x3x3:h 3 1x4x3x3:h", loose=4)
rows("CausalConvWithState", "1x2x5 2x1x3 2 1x2x2")
rows("Col2Im", "1x4x4 =3,3 =2,2")
rows("AffineGrid", "1x2x3 =1,1,2,3", loose=2)
rows("GridSample", "1x1x3x3 1x2x2x2:u", loose=2, cut=True)
rows("GridSample/nearest", "1x1x3x3 1x2x2x2:u", {"mode": "nearest"}, only=("T1",), moves="T1")
rows("Resize", "1x1x2x2 _ =1,1,2,2", {"mode": "nearest"}, moves="T1")
rows("Resize/linear", "1x1x3x2 _ =1,1,2,3", {"mode": "linear"}, only=("T1",), cut=True,
     in_float=True)  # fmt: skip
rows("Resize/cubic", "1x1x4x4 _ =1,1,2,2", {"mode": "cubic"}, only=("T1",), cut=True, loose=4)
rows("NonMaxSuppression", "nms 1x1x3:h =2, =0.5, =0.1,")
rows("ImageDecoder", "10", {})

# ---------------------------------------------------------------- signals
for _window in ("BlackmanWindow", "HammingWindow", "HannWindow"):
    rows(_window, "=8", {"output_datatype": "@T2"}, base={"T1": "int64"}, loose=4, in_float=True)
rows("MelWeightMatrix", "=4 =16 =8000 =100 =4000", {"output_datatype": "@T3"},
     base={"T1": "int64"}, loose=4)  # fmt: skip
rows("DFT", "1x8x1 =8 =1", base={"T2": "int64"}, loose=4)
rows("STFT", "1x16x1 =4 8:h =8", base={"T2": "int64"}, loose=4)

# ---------------------------------------------------------------- networks
rows("RNN", "3x2x4:u 1x3x4:u 1x3x3:u 1x6:u", {"hidden_size": 3}, loose=4)
rows("GRU", "3x2x4:u 1x9x4:u 1x9x3:u 1x18:u", {"hidden_size": 3}, loose=4)
rows("LSTM", "3x2x4:u 1x12x4:u 1x12x3:u 1x24:u", {"hidden_size": 3}, loose=4)
rows("Attention", "1x2x3x4:u 1x2x5x4:u 1x2x5x4 3x5", outputs=1, link={"T2": "T1"},
     loose=4, in_float=True)  # fmt: skip
rows("RotaryEmbedding", "1x2x3x4 5x2:u 5x2:u 1x3:i5")
rows("LinearAttention", "1x3x8:u 1x3x8:u 1x3x8:u 1x2x4x4:u 1x3x8:u 1x3x2:h",
     {"q_num_heads": 2, "kv_num_heads": 2}, link={"S": "T"}, loose=4)  # fmt: skip
rows("NegativeLogLikelihoodLoss", "3x4 3:i4 4:p", base={"Tind": "int64"}, loose=2)
rows("SoftmaxCrossEntropyLoss", "3x4 3:i4 4:p", base={"Tind": "int64"}, loose=4)

# ---------------------------------------------------------------- quantised numbers
rows("QuantizeLinear", "2x4 =0.5 zp", base={"T3": "uint8"}, exact=("T3",))
rows("DequantizeLinear", "2x4:z =0.5 zp", {"output_dtype": "@T3"}, base={"T1": "uint8"})
rows("DynamicQuantizeLinear", "2x4")
rows("ConvInteger", "1x2x4x4:w 3x2x2x2:w =1 =1", base={"T1": "uint8", "T2": "uint8"})
rows("MatMulInteger", "2x3:w 3x4:w =1 =1", base={"T1": "uint8", "T2": "uint8"})
rows("QLinearConv", "1x2x4x4:w =0.5 =1 3x2x2x2:w =0.5 =1 =0.25 =1 3:w",
     base={"T1": "uint8", "T2": "uint8", "T3": "uint8"})  # fmt: skip
rows(
    "QLinearMatMul",
    "2x3:w =0.5 zp 3x4:w =0.5 zp =0.25 zp",
    base={"T1": "uint8", "T2": "uint8", "T3": "uint8"},
    link={"T3": "T1", "T2": "T1"},
)


# ---------------------------------------------------------------- random numbers
def _within(low: float, high: float) -> Callable[[list[Any]], str]:
    """All numbers of the only output lie in a range, and are not all the same."""

    def check(outputs: list[Any]) -> str:
        y = np.asarray(outputs[0]).astype(np.float64)
        if not ((y >= low) & (y <= high)).all():
            return f"not within {low}, {high}: {y.ravel()[:5]}"
        return "all the same" if y.min() == y.max() else ""

    return check


rows("RandomNormal", "", {"dtype": "@T", "shape": [40], "seed": 1.0}, check=_within(-6, 6))
rows("RandomUniform", "", {"dtype": "@T", "shape": [40], "high": 2.0}, check=_within(0, 2))
rows("RandomNormalLike", "40", {"dtype": "@T2"}, check=_within(-6, 6))
rows("RandomUniformLike", "40", {"dtype": "@T2", "high": 2.0}, check=_within(0, 2))
rows("Bernoulli", "40:h", {"dtype": "@T2"}, check=_within(0, 1))
rows("Multinomial", "1x4", {"dtype": "@T2", "sample_size": 40}, check=_within(0, 3))
