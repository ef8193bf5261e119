"""Light and dark, directions of edges, texture and symmetry."""

from __future__ import annotations

from typing import Final

import numpy as np

from pixel_llm.encoder.features import EDGE, FEATURES
from pixel_llm.encoder.places import locate
from pixel_llm.encoder.view import FloatArray, Mask, View

#: L* from which on an area counts as light, and up to which as dark.
_LIGHT, _DARK = 70.0, 30.0
#: Areas below this share of the picture are not mentioned.
_MENTIONED = 0.05

_DIRECTIONS: Final = ("horizontally", "along falling diagonals (\\)", "vertically", "along rising diagonals (/)")

#: From this grain on, in ΔE*ab, a patch has detail that is lost in the scaled picture.
GRAINY: Final = 6.0


def patch_feature(view: View, name: str) -> FloatArray:
    """One feature of every patch, rows × columns."""
    return view.patches[..., tuple(FEATURES).index(name)]


def describe_light(view: View) -> str:
    """Say how light the picture is, and where its light (L* ≥ 70) and dark (L* ≤ 30) areas are."""
    lightness = view.samples[..., 0]
    mean = float(lightness.mean())
    tone = "light" if mean >= 65 else "dark" if mean <= 35 else "of medium lightness"
    areas = [
        f"{name} areas {round(float(mask.mean()) * 100)} % ({locate(mask)})"
        for name, mask in (("light", lightness >= _LIGHT), ("dark", lightness <= _DARK))
        if mask.mean() >= _MENTIONED
    ]
    overall = f"Overall it is {tone} (mean L* {mean:.0f} of 100)"
    return f"{overall}: {', '.join(areas)}." if areas else f"{overall}."


def describe_gradient(view: View) -> str:
    """
    Say if the picture gets steadily lighter in one direction.

    It does if a plane fitted to L* by least squares explains 90 % of its variance, rises by 15 or more and
    there are hardly any edges.
    """
    lightness = view.lab[..., 0].astype(np.float64)
    total = float(lightness.var())
    if total == 0 or (view.strength >= EDGE).mean() >= 0.02:
        return ""
    rises, explained = [], 0.0
    for axis in (0, 1):
        places = (np.arange(lightness.shape[axis]) + 0.5) / lightness.shape[axis] - 0.5
        variance = float(places.var())
        profile = lightness.mean(axis=1 - axis)
        slope = float((places * profile).mean()) / variance if variance else 0.0
        rises.append(slope)
        explained += slope**2 * variance / total
    down, right = rises
    if explained < 0.9 or max(abs(down), abs(right)) < 15:
        return ""
    return f"It gets steadily lighter {_direction(down, right)}."


def _direction(down: float, right: float) -> str:
    vertical = ("upper", "lower") if down > 0 else ("lower", "upper")
    sideways = ("left", "right") if right > 0 else ("right", "left")
    steep, flat = abs(down) > 2 * abs(right), abs(right) > 2 * abs(down)
    if steep:
        return "from top to bottom" if down > 0 else "from bottom to top"
    if flat:
        return f"from {sideways[0]} to {sideways[1]}"
    return f"from the {vertical[0]} {sideways[0]} to the {vertical[1]} {sideways[1]}"


def describe_lines(view: View) -> str:
    """
    Say which way edges run, weighing each pixel on an edge by its strength.

    A direction within 22.5° is named alone from 60 % of the weight on, two from 85 % if each has 30 %.
    """
    on_edge = view.strength >= EDGE
    if on_edge.mean() < 0.002:
        fine = (patch_feature(view, "grain") >= GRAINY).mean() >= _MENTIONED
        return "Its edges are too fine to follow." if fine else "There are hardly any edges."
    shares = direction_shares(view, on_edge)
    first, second = (int(place) for place in np.argsort(-shares, kind="stable")[:2])
    if shares[first] >= 0.6:
        return f"Edges run mostly {_DIRECTIONS[first]} ({round(shares[first] * 100)} %)."
    if shares[first] + shares[second] >= 0.85 and shares[second] >= 0.3:
        one, other = sorted((first, second))
        return f"Edges run mostly {_DIRECTIONS[one]} and {_DIRECTIONS[other]}."
    return "Edges run in no single direction."


def direction_shares(view: View, on_edge: Mask) -> FloatArray:
    """Share of edge weight that runs horizontally, falling, vertically and rising, each within 22.5°."""
    places = np.flatnonzero(on_edge)
    jxx, jyy, jxy = (layer.ravel().take(places) for layer in view.slopes)
    # The gradient's doubled angle has the cosine `along` and the sine `aslant`, times something; edges are at right
    # angles to gradients. Within 45° of an axis it is within 22.5° of a direction.
    along, aslant = jxx - jyy, 2 * jxy
    straight, slanting = np.where(along > 0, 2, 0), np.where(aslant > 0, 3, 1)
    directions = np.where(np.abs(along) >= np.abs(aslant), straight, slanting)
    weight = np.bincount(directions, weights=view.strength.ravel().take(places), minlength=4)
    return np.asarray(weight / weight.sum(), dtype=np.float32)


def describe_texture(view: View) -> str:
    """
    Say how much of the picture is smooth, fine-grained or busy, and where.

    Per patch: busy has 35 % or more of its pixels on edges; fine-grained has fewer than 10 % there, but fine
    detail of 0.7 L* or more, or detail that scaling took away (GRAINY); smooth fewer than 3 %, and neither.
    """
    density = patch_feature(view, "edge_density")
    fine = (patch_feature(view, "fine_detail") >= 0.7) | (patch_feature(view, "grain") >= GRAINY)
    masks = {"smooth": (density < 0.03) & ~fine, "fine-grained": (density < 0.1) & fine, "busy": density >= 0.35}
    parts = [
        f"{name} {round(float(mask.mean()) * 100)} % ({locate(mask)})"
        for name, mask in masks.items()
        if mask.mean() >= _MENTIONED
    ]
    return f"Texture: {', '.join(parts)}." if parts else "Texture: moderately detailed."


def describe_symmetry(view: View) -> str:
    """
    Say whether the picture is its own mirror image: correlation of its Lab values with the flipped ones.

    From 0.95 on it is "nearly", below 0.5 "not"; between them nothing is said, nor about an even picture.
    """
    correlations = mirror_correlations(view)
    if correlations is None:
        return ""
    sideways, upside = correlations
    found = {"left to right": sideways, "top to bottom": upside}
    near = [f"{name} ({value:.2f})" for name, value in found.items() if value >= 0.95]
    if near:
        return f"It is nearly mirror-symmetric {' and '.join(near)}."
    return "It is not mirror-symmetric." if max(sideways, upside) < 0.5 else ""


def mirror_correlations(view: View) -> tuple[float, float] | None:
    """
    Pearson's correlation of the picture with its mirror images, left to right and top to bottom, -1 to 1.

    None if it is even (ΔE*ab below 1).
    """
    values = view.lab - view.lab.mean(axis=(0, 1), dtype=np.float64).astype(np.float32)
    layers = np.ascontiguousarray(np.moveaxis(values, -1, 0))
    energy = _product(layers, layers)
    if energy < view.labels.size:
        return None
    return _product(layers, layers[..., ::-1]) / energy, _product(layers, layers[:, ::-1]) / energy


def _product(one: FloatArray, other: FloatArray) -> float:
    """The sum over all products, layer by layer: short sums lose less in float32."""
    return float(np.einsum("crk,crk->cr", one, other).sum(dtype=np.float64))
