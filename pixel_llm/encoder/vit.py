"""
A plain vision transformer: patches in, one vector a patch out.

A. Dosovitskiy et al., "An Image is Worth 16x16 Words", 2021; layer norm first, as in timm's `VisionTransformer`,
whose names the parameters have. The head that names classes is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

#: Of layer norm, in timm and torchvision alike.
_EPSILON: Final = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class ViTShape:
    """
    The sizes that make a ViT.

    Attributes:
        width: Numbers a patch.
        depth: Blocks.
        heads: Heads of attention; they divide *width*.
        hidden: Numbers inside the MLP of a block.
        patch: Side of a patch in pixels.
        side: Patches along each side of the square picture.
    """

    width: int
    depth: int
    heads: int
    hidden: int
    patch: int
    side: int

    @property
    def pixels(self) -> int:
        """Side of the picture in pixels."""
        return self.patch * self.side

    @property
    def tokens(self) -> int:
        """Patches, and the token for the whole picture."""
        return self.side**2 + 1


class ViT(nn.Module):
    """The model. Its parameters are as they come: load a checkpoint before you believe what it says."""

    def __init__(self, shape: ViTShape) -> None:
        super().__init__()
        self.shape = shape
        self.cls_token = nn.Parameter(torch.zeros(1, 1, shape.width))
        self.pos_embed = nn.Parameter(torch.zeros(1, shape.tokens, shape.width))
        self.patch_embed = _PatchEmbed(shape)
        self.blocks = nn.ModuleList(_Block(shape) for _ in range(shape.depth))
        self.norm = nn.LayerNorm(shape.width, eps=_EPSILON)

    def forward(self, pixels: Tensor) -> Tensor:
        """``[n, 3, H, W]``, normalised, to ``[n, 1 + patches, width]``; the first is the whole picture's."""
        patches = self.patch_embed(pixels)
        tokens = torch.cat((self.cls_token.expand(len(patches), -1, -1), patches), dim=1) + self.pos_embed
        for block in self.blocks:
            tokens = block(tokens)
        return cast("Tensor", self.norm(tokens))


class _PatchEmbed(nn.Module):
    def __init__(self, shape: ViTShape) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, shape.width, shape.patch, shape.patch)

    def forward(self, pixels: Tensor) -> Tensor:
        return cast("Tensor", self.proj(pixels)).flatten(2).transpose(1, 2)


class _Block(nn.Module):
    def __init__(self, shape: ViTShape) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(shape.width, eps=_EPSILON)
        self.attn = _Attention(shape)
        self.norm2 = nn.LayerNorm(shape.width, eps=_EPSILON)
        self.mlp = _MLP(shape)

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.attn(self.norm1(tokens))
        return cast("Tensor", tokens + self.mlp(self.norm2(tokens)))


class _Attention(nn.Module):
    def __init__(self, shape: ViTShape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.qkv = nn.Linear(shape.width, 3 * shape.width)
        self.proj = nn.Linear(shape.width, shape.width)

    def forward(self, tokens: Tensor) -> Tensor:
        batch, count, width = tokens.shape
        query, key, value = self.qkv(tokens).view(batch, count, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = scaled_dot_product_attention(query, key, value)
        return cast("Tensor", self.proj(mixed.transpose(1, 2).reshape(batch, count, width)))


class _MLP(nn.Module):
    def __init__(self, shape: ViTShape) -> None:
        super().__init__()
        self.fc1 = nn.Linear(shape.width, shape.hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(shape.hidden, shape.width)

    def forward(self, tokens: Tensor) -> Tensor:
        return cast("Tensor", self.fc2(self.act(self.fc1(tokens))))
