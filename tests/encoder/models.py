"""Models for the tests: tiny, of random numbers, made and saved where a test wants them."""

from __future__ import annotations

import json

import torch
from torch import nn

from pixel_llm.encoder.vit import ViT, ViTShape

TINY = ViTShape(width=32, depth=2, heads=4, hidden=48, patch=8, side=4)

WORDS = ["a", "photo", "of", "dog", "cat", "tree"]


def vit(shape=TINY, seed=0):
    """A ViT whose every parameter says something."""
    model = ViT(shape)
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2, generator=generator)
    return model.eval().requires_grad_(False)


def torchvision_names(tensors):
    """The same tensors by torchvision's names, with a head."""
    names = {
        "cls_token": "class_token",
        "pos_embed": "encoder.pos_embedding",
        "patch_embed.proj.": "conv_proj.",
        "norm.": "encoder.ln.",
        ".norm1.": ".ln_1.",
        ".norm2.": ".ln_2.",
        ".attn.qkv.": ".self_attention.in_proj_",
        ".attn.proj.": ".self_attention.out_proj.",
        ".mlp.fc1.": ".mlp.0.",
        ".mlp.fc2.": ".mlp.3.",
    }
    found = {"heads.head.weight": torch.zeros(3, TINY.width)}
    for name, tensor in tensors.items():
        theirs = name
        for ours, other in names.items():
            if (
                theirs == ours
                or (ours.startswith(".") and ours in theirs)
                or (ours[0] != "." and theirs.startswith(ours))
            ):
                theirs = theirs.replace(ours, other, 1)
        found[theirs.replace("blocks.", "encoder.layers.encoder_layer_", 1)] = tensor
    return found


def _tower(kind):
    return {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4} | kind


def tokenizer():
    """Knows WORDS; ends with an end-of-text token, as CLIP's does."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ["<|startoftext|>", "<|endoftext|>", "[UNK]"]
    vocabulary = {word: number for number, word in enumerate([*special, *WORDS])}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="<|startoftext|> $A <|endoftext|>", special_tokens=[("<|startoftext|>", 0), ("<|endoftext|>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token=special[0], eos_token=special[1], pad_token=special[1], unk_token=special[2]
    )


def save_folder(folder, kind, seed=0):
    """A folder as save_pretrained() writes it, of a tiny ``clip``, ``siglip`` or ``dinov2``. Returns the model."""
    import transformers

    torch.manual_seed(seed)
    text = _tower(
        {
            "vocab_size": 3 + len(WORDS),
            "max_position_embeddings": 16,
            "bos_token_id": 0,
            "eos_token_id": 1,
            "pad_token_id": 1,
        }
    )
    vision = _tower({"image_size": 32, "patch_size": 8})
    prepared = {
        "resample": 3,
        "image_mean": [0.48, 0.46, 0.41],
        "image_std": [0.27, 0.26, 0.28],
        "do_center_crop": True,
    }
    if kind == "clip":
        config = transformers.CLIPConfig(
            text_config=text | {"projection_dim": 16}, vision_config=vision | {"projection_dim": 16}, projection_dim=16
        )
        model = transformers.CLIPModel(config)
        prepared |= {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    elif kind == "siglip":
        model = transformers.SiglipModel(transformers.SiglipConfig(text_config=text, vision_config=vision))
        prepared |= {"size": {"height": 32, "width": 32}, "do_center_crop": False}
    else:
        sizes = _tower({"image_size": 56, "patch_size": 8, "mlp_ratio": 2})
        del sizes["intermediate_size"]
        model = transformers.Dinov2Model(transformers.Dinov2Config(**sizes))
        prepared |= {"size": {"shortest_edge": 36}, "crop_size": {"height": 32, "width": 32}}
    for name, parameter in model.named_parameters():
        if "logit" not in name:
            nn.init.normal_(parameter, std=0.2)
    model = model.eval().requires_grad_(False)
    model.save_pretrained(folder)
    if kind != "dinov2":
        tokenizer().save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(prepared), encoding="utf-8")
    return model
