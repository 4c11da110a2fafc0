"""The networks that export_models.py writes: transformers configs and modules of our own.

Weights are random. Transformers keep their own initialisation; batch norms get the statistics
that random images give them, so that activations keep their scale through any depth; biases and
gains are moved off 0 and 1, so that an engine which forgets one is seen. Needs torch and
transformers; the tests do not import this file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import nn


@dataclass
class Export:
    """A module with example feeds and what the exporter is told."""

    module: nn.Module
    feeds: tuple[torch.Tensor, ...]
    inputs: list[str]
    outputs: list[str]
    dynamic: dict[str, dict[int, str]]
    options: dict[str, object] = field(default_factory=dict)


class FirstOutput(nn.Module):
    """Calls a transformers model with named inputs and returns plain tensors."""

    def __init__(self, model: nn.Module, names: list[str], wanted: list[str]) -> None:
        super().__init__()
        self.model, self.names, self.wanted = model, names, wanted

    def forward(self, *feeds: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Outputs in the order in which they were asked for."""
        result = self.model(**dict(zip(self.names, feeds, strict=True)))
        return tuple(getattr(result, name) for name in self.wanted)


class ImageOutput(nn.Module):
    """One picture in, logits out; a plain signature, which torch.export prefers."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Logits of the classes."""
        return self.model(pixel_values=pixel_values).logits


@torch.no_grad()
def roughen(module: nn.Module) -> None:
    """Moves every bias and gain off its neutral value."""
    for parameter in module.parameters():
        if parameter.dim() <= 1:
            parameter.add_(0.1 * torch.randn_like(parameter))


@torch.no_grad()
def start_filters(module: nn.Module) -> None:
    """He's scale, and each filter sums to 0, so that the mean after a Relu does not pile up."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)
            layer.weight.sub_(layer.weight.mean(dim=(1, 2, 3), keepdim=True))


@torch.no_grad()
def settle_batch_norms(module: nn.Module, feed: torch.Tensor) -> None:
    """Gives each batch norm the statistics of its inputs, layer after layer, in one pass."""
    for layer in module.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            layer.momentum = 1.0
            layer.train()
    module(feed)
    module.eval()


def _image_net(model: nn.Module, options: dict[str, object], batch: int = 4) -> Export:
    wrapped = ImageOutput(model.eval())
    roughen(wrapped)
    start_filters(wrapped)
    settle_batch_norms(wrapped, torch.randn(batch, 3, 224, 224))
    dynamic = {"pixel_values": {0: "batch"}, "logits": {0: "batch"}}
    feed = torch.randn(1, 3, 224, 224)
    return Export(wrapped, (feed,), ["pixel_values"], ["logits"], dynamic, options)


def resnet50() -> Export:
    """Batch norms folded by the exporter, as torch.onnx.export does for evaluation."""
    from transformers import ResNetConfig, ResNetForImageClassification

    return _image_net(ResNetForImageClassification(ResNetConfig(num_labels=1000)), {})


def mobilenet_v2() -> Export:
    """Through torch.export (dynamo=True), whose graphs are of another style."""
    from transformers import MobileNetV2Config, MobileNetV2ForImageClassification

    config = MobileNetV2Config(num_labels=1001)
    return _image_net(MobileNetV2ForImageClassification(config), {"dynamo": True})


def efficientnet_b0() -> Export:
    """Batch norms kept as nodes (TrainingMode.PRESERVE), nothing folded."""
    from transformers import EfficientNetConfig, EfficientNetForImageClassification

    config = EfficientNetConfig(
        image_size=224,
        width_coefficient=1.0,
        depth_coefficient=1.0,
        hidden_dim=1280,
        num_labels=1000,
    )
    model = EfficientNetForImageClassification(config)
    model.efficientnet.pooler = nn.AdaptiveAvgPool2d(1)
    keep = {"training": torch.onnx.TrainingMode.PRESERVE, "do_constant_folding": False}
    return _image_net(model, keep)


def vit_b16() -> Export:
    """Vision transformer, 197 tokens."""
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(num_labels=1000, initializer_range=0.04, attn_implementation="eager")
    return _image_net(ViTForImageClassification(config), {}, batch=1)


def bert_base() -> Export:
    """BERT-base encoder with free batch and length."""
    from transformers import BertConfig, BertModel

    config = BertConfig(initializer_range=0.04, attn_implementation="eager")
    names = ["input_ids", "attention_mask", "token_type_ids"]
    wanted = ["last_hidden_state", "pooler_output"]
    module = FirstOutput(BertModel(config).eval(), names, wanted)
    roughen(module)
    ids = torch.randint(1, 30000, (2, 16))
    feeds = (ids, torch.ones_like(ids), torch.zeros_like(ids))
    free = {0: "batch", 1: "sequence"}
    dynamic = {name: dict(free) for name in [*names, wanted[0]]} | {wanted[1]: {0: "batch"}}
    return Export(module, feeds, names, wanted, dynamic, {"opset_version": 17})


class Conv1d(nn.Module):
    """GPT-2's linear layer: addmm over flattened rows, weights [in, out]."""

    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__()
        self.width_out = width_out
        self.weight = nn.Parameter(torch.randn(width_in, width_out) * 0.03)
        self.bias = nn.Parameter(torch.zeros(width_out))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: [..., in] -> [..., out]."""
        shape = (*x.size()[:-1], self.width_out)
        return torch.addmm(self.bias, x.view(-1, x.size(-1)), self.weight).view(shape)


class GptBlock(nn.Module):
    """One pre-norm block with 12 heads of 64 and a key-value cache."""

    def __init__(self, width: int = 768, heads: int = 12) -> None:
        super().__init__()
        self.heads = heads
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.c_attn, self.c_proj = Conv1d(width, 3 * width), Conv1d(width, width)
        self.c_fc, self.mlp_proj = Conv1d(width, 4 * width), Conv1d(4 * width, width)

    def forward(
        self, x: torch.Tensor, mask: torch.Tensor, past_key: torch.Tensor, past_value: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """x: [batch, new, width]; past: [batch, heads, past, 64]; mask: added to the scores."""
        query, key, value = self.c_attn(self.ln_1(x)).split(x.size(-1), dim=2)
        query, key, value = (self._split(t) for t in (query, key, value))
        key = torch.cat((past_key, key), dim=-2)
        value = torch.cat((past_value, value), dim=-2)
        scores = torch.matmul(query, key.transpose(-1, -2)) / (query.size(-1) ** 0.5)
        mixed = torch.matmul(torch.softmax(scores + mask, dim=-1), value)
        mixed = mixed.permute(0, 2, 1, 3).contiguous()
        x = x + self.c_proj(mixed.view(*mixed.size()[:-2], -1))
        hidden = self.c_fc(self.ln_2(x))
        inner = 0.7978845608 * (hidden + 0.044715 * torch.pow(hidden, 3.0))
        return x + self.mlp_proj(0.5 * hidden * (1.0 + torch.tanh(inner))), key, value

    def _split(self, x: torch.Tensor) -> torch.Tensor:
        x = x.view(*x.size()[:-1], self.heads, x.size(-1) // self.heads)
        return x.permute(0, 2, 1, 3)


class Gpt2(nn.Module):
    """GPT-2 small as a decoder step: new tokens and the cache in, logits and the cache out."""

    def __init__(self, layers: int = 12, width: int = 768, words: int = 50257) -> None:
        super().__init__()
        self.wte, self.wpe = nn.Embedding(words, width), nn.Embedding(1024, width)
        nn.init.normal_(self.wte.weight, std=0.04)
        nn.init.normal_(self.wpe.weight, std=0.02)
        self.blocks = nn.ModuleList(GptBlock(width) for _ in range(layers))
        self.ln_f = nn.LayerNorm(width)

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, *past: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        """attention_mask covers past and new tokens, as exported decoders want it."""
        known, new = past[0].size(-2), input_ids.size(-1)
        positions = (attention_mask.cumsum(-1) - 1).clamp(min=0)[:, known:]
        rows = torch.arange(known, known + new, device=input_ids.device).unsqueeze(-1)
        columns = torch.arange(known + new, device=input_ids.device).unsqueeze(0)
        allowed = (columns <= rows) & attention_mask.to(torch.bool)[:, None, None, :]
        mask = torch.zeros(1).masked_fill(~allowed, torch.finfo(torch.float32).min)
        x = self.wte(input_ids) + self.wpe(positions)
        present: list[torch.Tensor] = []
        for i, block in enumerate(self.blocks):
            x, key, value = block(x, mask, past[2 * i], past[2 * i + 1])
            present += [key, value]
        logits = torch.matmul(self.ln_f(x), self.wte.weight.transpose(0, 1))
        return (logits, *present)


def gpt2() -> Export:
    """12 layers, free batch, past and new length."""
    module = Gpt2().eval()
    roughen(module)
    layers = len(module.blocks)
    cache = [
        f"{side}.{i}.{kind}"
        for side in ("past", "present")
        for i in range(layers)
        for kind in ("key", "value")
    ]
    feeds = (torch.randint(0, 50257, (2, 3)), torch.ones(2, 8, dtype=torch.int64))
    feeds += tuple(torch.randn(2, 12, 5, 64) for _ in range(2 * layers))
    dynamic = {
        "input_ids": {0: "batch", 1: "sequence"},
        "attention_mask": {0: "batch", 1: "total"},
        "logits": {0: "batch", 1: "sequence"},
    }
    dynamic |= {name: {0: "batch", 2: "past" if name < "pr" else "total"} for name in cache}
    return Export(
        module,
        feeds,
        ["input_ids", "attention_mask", *cache[: 2 * layers]],
        ["logits", *cache[2 * layers :]],
        dynamic,
        {"opset_version": 17},
    )


class Lstm(nn.Module):
    """Two LSTM layers of 512 and a linear head; states go in and come out."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(80, 512, num_layers=2, batch_first=True)
        self.head = nn.Linear(512, 29)

    def forward(
        self, x: torch.Tensor, h: torch.Tensor, c: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """x: [batch, time, 80]; h, c: [2, batch, 512]."""
        y, (h, c) = self.lstm(x, (h, c))
        return torch.log_softmax(self.head(y), dim=-1), h, c


def lstm() -> Export:
    """Free batch and time."""
    module = Lstm().eval()
    feeds = (torch.randn(2, 7, 80), torch.randn(2, 2, 512), torch.randn(2, 2, 512))
    state = {1: "batch"}
    dynamic = {
        "x": {0: "batch", 1: "time"},
        "h": state,
        "c": state,
        "hn": state,
        "cn": state,
        "y": {0: "batch", 1: "time"},
    }
    return Export(module, feeds, ["x", "h", "c"], ["y", "hn", "cn"], dynamic)


NETWORKS: dict[str, Callable[[], Export]] = {
    network.__name__: network
    for network in (resnet50, mobilenet_v2, efficientnet_b0, vit_b16, bert_base, gpt2, lstm)
}
