"""Pictures whose content is known, drawn for the tests and for the page of the docs."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw


def halves(left="red", right="blue", size=(320, 240)):
    image = Image.new("RGB", size, right)
    ImageDraw.Draw(image).rectangle((0, 0, size[0] // 2 - 1, size[1]), fill=left)
    return np.array(image)


def disc():
    """A red disc of 4.9 % of the area on white, at the upper right."""
    image = Image.new("RGB", (400, 400), "white")
    ImageDraw.Draw(image).ellipse((260, 40, 360, 140), fill="red")
    return np.array(image)


def landscape():
    """Sky, grass, a sun at the upper left and a brown house at the lower right."""
    image = Image.new("RGB", (640, 480), "skyblue")
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 320, 640, 480), fill="forestgreen")
    draw.ellipse((60, 40, 180, 160), fill="gold")
    draw.rectangle((420, 220, 560, 380), fill="saddlebrown")
    return np.array(image)


def stripes(kind, thickness=10, size=(300, 200)):
    """Black and white; *kind* is horizontal, vertical, rising (/) or falling."""
    x, y = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    along = {"horizontal": y, "vertical": x, "rising": x + y, "falling": x - y}[kind]
    return grey(along // thickness % 2 * 255)


def checkerboard(side=8, size=(300, 200)):
    x, y = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    return grey((x // side + y // side) % 2 * 255)


def gradient(size=(300, 200)):
    return grey(np.broadcast_to(np.linspace(0, 255, size[0]), (size[1], size[0])))


def butterfly():
    """Its own mirror image left to right, but not top to bottom."""
    image = Image.new("RGB", (300, 300), "beige")
    draw = ImageDraw.Draw(image)
    for left in (30, 169):
        draw.ellipse((left, 30, left + 100, 150), fill="purple")
        draw.ellipse((left + 20, 160, left + 80, 220), fill="orange")
    draw.rectangle((140, 20, 159, 240), fill="black")
    return np.array(image)


def square(side=60, at=(20, 200), size=(300, 300)):
    image = np.full((size[1], size[0], 3), 255, np.uint8)
    image[at[1] : at[1] + side, at[0] : at[0] + side] = (0, 0, 255)
    return image


def grey(values):
    return np.repeat(np.asarray(values).astype(np.uint8)[..., None], 3, axis=2)
