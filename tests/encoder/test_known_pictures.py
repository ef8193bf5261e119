"""
The description against pictures whose content is known: 14 drawn, 22 photographic or scanned.

For each of them the numbers are measured again, with scikit-image, on the original's pixels; and what people see
in it must be said, what it has not must not.
"""

import re

import numpy as np
import pytest
from drawings import butterfly, checkerboard, disc, gradient, grey, halves, landscape, square, stripes
from skimage import color, data

from pixel_llm.encoder import PatchEncoder, load_image
from pixel_llm.encoder.colours import COLOURS

#: Name: the picture, what its description must say, and what it must not. All are regular expressions.
DRAWN = {
    "red and blue halves": (
        halves,
        ["red 50 % \\(in the left half\\)", "blue full-height vertical band in the right half"],
        "green|grey|irregular|diagonal",
    ),
    "disc": (
        disc,
        ["white 9[45] % \\(over most", "red round area in the upper right"],
        "red square|rectangle|blue|lower",
    ),
    "square": (square, ["blue square in the lower left \\(4 %\\)", "white 96 %"], "round|red|upper left"),
    "landscape": (
        landscape,
        [
            "brown square mostly in the lower right",
            "yellow round area in the upper left",
            "green full-width",
        ],
        "navy|purple|nearly",
    ),
    "horizontal stripes": (
        lambda: stripes("horizontal"),
        ["mostly horizontally", "black 50 %"],
        "red|smooth",
    ),
    "vertical stripes": (
        lambda: stripes("vertical"),
        ["mostly vertically", "white 50 %"],
        "grey \\d|smooth",
    ),
    "rising stripes": (lambda: stripes("rising"), ["mostly along rising diagonals"], "falling|vertically"),
    "falling stripes": (lambda: stripes("falling"), ["mostly along falling diagonals"], "rising|vertically"),
    "stripes of a pixel": (
        lambda: stripes("vertical", 1, (1344, 1344)),
        ["black \\d\\d %", "white \\d\\d %", "fine-grained 100 %"],
        "main colours: grey|smooth",
    ),
    "checkerboard": (checkerboard, ["horizontally and vertically", "busy 100 %"], "smooth|steadily|Even"),
    "gradient": (gradient, ["steadily lighter from left to right", "smooth 100 %", "shades of grey"], "Even|busy"),
    "gradient downwards": (
        lambda: np.rot90(gradient(), 3),
        ["steadily lighter from top to bottom", "hardly any edges"],
        "bottom to top|from left|busy",
    ),
    "butterfly": (butterfly, ["mirror-symmetric left to right \\(1.00\\)", "purple 2\\d %"], "top to bottom \\("),
    "frame": (
        lambda: np.pad(np.full((50, 50), 255, np.uint8), 50),
        ["left to right \\(1.00\\) and top to bottom \\(1.00\\)", "white square in the centre"],
        ", in colour|irregular area in the centre",
    ),
}

SEEN = {
    "astronaut": (["orange .*lower left", "black .*lower right", "light grey .*upper"], "green|steadily"),
    "coffee": (["Main colours: brown", "dark red"], "green|blue|purple"),
    "cat": (["Main colours: brown", "grey .*right"], "blue|purple|\\bred"),
    "rocket": (["Main colours: navy", "it is dark"], "green|pink|steadily"),
    "camera": (["shades of grey", "black .*left", "light grey .*upper"], ", in colour|white \\d"),
    "coins": (["shades of grey", "light grey 1\\d %"], ", in colour|smooth [5-9]\\d"),
    "moon": (["Main colours: grey 8\\d", "smooth [67]\\d"], ", in colour|busy|white"),
    "page": (
        ["it is light", "light grey .*right", "busy .*middle height"],
        ", in colour|steadily|mostly vert",
    ),
    "text": (["Main colours: grey 8\\d", "mostly horizontally"], ", in colour|smooth [5-9]\\d"),
    "clock": (
        ["Main colours: grey 9\\d", "light grey .*in the centre", "smooth 9\\d"],
        ", in colour|busy",
    ),
    "colorwheel": (["in colour", "black 2\\d", "green .*lower right", "navy .*lower left"], "shades of grey|busy"),
    "hubble_deep_field": (["Main colours: black 9\\d", "it is dark"], "light areas|smooth|Even areas: (?!black)"),
    "immunohistochemistry": (["brown .*upper", "it is light", "busy [78]\\d"], "green|red|smooth"),
    "retina": (["orange", "black 2\\d %", "symmetric top to bottom"], "green|blue|left to right"),
    "logo": (["green 3\\d %", "orange [23]\\d %", "white 30 %"], "blue|red|purple|nearly"),
    "horse": (["white 67 %", "black 33 %"], ", in colour|grey \\d|left to right"),
    "brick": (["mostly vertically", "dark grey 7\\d %", "dark grey tall rectangles"], ", in colour|smooth|round"),
    "grass": (["busy 100 %", "no single direction"], ", in colour|smooth|bands|rectangle"),
    "gravel": (["busy 100 %", "no single direction"], ", in colour|smooth|bands|rectangle"),
    "microaneurysms": (["mostly horizontally", "dark grey 7\\d"], ", in colour|busy|white"),
    "cell": (["Main colours: dark grey 9\\d", "it is dark", "smooth 9\\d", "black .*middle right"], ", in colour|busy"),
    "shepp_logan_phantom": (
        ["symmetric left to right", "it is dark", "Main colours: black"],
        ", in colour|top to bottom",
    ),
}

PICTURES = {name: (make, says, never) for name, (make, says, never) in DRAWN.items()} | {
    name: (lambda name=name: pixels_of(getattr(data, name)()), says, never) for name, (says, never) in SEEN.items()
}


def pixels_of(array):
    """What load_image takes: scikit-image also has truth values and numbers from 0 to 1."""
    array = np.asarray(array)
    return grey(array * 255) if array.dtype == bool else array


def samples_of(codes):
    """The samples of a colour name in L*a*b*."""
    return color.rgb2lab(np.array([[list(bytes.fromhex(code)) for code in codes.split()]], np.uint8))[0]


@pytest.fixture(scope="module", params=PICTURES)
def known(request):
    """A picture of the table: its pixels, its description, what it must say and must not."""
    make, says, never = PICTURES[request.param]
    picture = load_image(make())
    return picture.pixels, PatchEncoder("cpu").encode(picture).description, says, never


@pytest.fixture(scope="module")
def lab(known):
    """Up to 90,000 of its pixels in L*a*b*, evenly drawn, with their places as shares of height and width."""
    pixels = known[0]
    chance = np.random.default_rng(5).random((2, 90_000))
    down, across = (np.sort(chance[axis] * pixels.shape[axis]).astype(int) for axis in (0, 1))
    np.random.default_rng(6).shuffle(across)
    places = np.stack(((down + 0.5) / pixels.shape[0], (across + 0.5) / pixels.shape[1]), axis=1)
    return color.rgb2lab(pixels[down, across]), places


class TestKnownPictures:
    def test_there_are_thirty(self):
        assert 14 == len(DRAWN)
        assert 22 == len(SEEN)

    def test_what_people_see_is_said(self, known):
        _, text, says, never = known

        for statement in says:
            assert re.search(statement, text), statement
        assert not re.search(never, text)

    def test_size_and_palette(self, known):
        pixels, text, _, _ = known
        height, width = pixels.shape[:2]

        assert f" {width}×{height} pixels" in text
        assert ("square" if width == height else "landscape" if width > height else "portrait") in text.split(" pic")[0]
        if "shades of grey" in text:
            assert np.ptp(pixels.astype(int), axis=2).max() < 40

    def test_lightness(self, known, lab):
        """The mean, and the shares of light and dark areas, are those of the original's pixels."""
        lightness, text = lab[0][:, 0], known[1]

        assert lightness.mean() == pytest.approx(float(re.search(r"mean L\* (\d+)", text)[1]), abs=1.5)
        for name, mask in (("light", lightness >= 70), ("dark", lightness <= 30)):
            told = re.search(rf"[:,] {name} areas (\d+) %", text)
            assert 100 * mask.mean() == pytest.approx(int(told[1]) if told else 3, abs=2 if told else 4)

    def test_colours(self, known, lab):
        """
        Each share is that of the pixels nearest to the name's samples; what has 8 % is named, five at most.

        Pixels about as near to another name may count for either: colours are rounded by 1.7 ΔE*ab at most.
        """
        some, text = lab[0][::9], known[1]
        distances = {
            name: np.sqrt(((some[:, None] - samples_of(codes)) ** 2).sum(axis=2)).min(axis=1)
            for name, codes in COLOURS.items()
        }
        sentence = re.search(r"Main colours: (.*?\))\.", text)
        told = dict(re.findall(r"([a-z ]+?) (\d+) %", sentence[1])) if sentence else {}
        told = {name.strip(): int(share) for name, share in told.items()}

        for name, own in distances.items():
            others = np.min([distance for other, distance in distances.items() if other != name], axis=0)
            least, most = (100 * float((own + margin < others).mean()) for margin in (3.4, -3.4))
            if name in told:
                assert least - 3 <= told[name] <= most + 3
            elif len(told) < 5:
                assert least < 8

    def test_places_of_light_and_dark(self, known, lab):
        """What is said to lie on a side lies there, three quarters of it at least."""
        (values, places), text = lab, known[1]
        for name, mask in (("light", values[:, 0] >= 70), ("dark", values[:, 0] <= 30)):
            told = re.search(rf"[:,] {name} areas \d+ % \(([^)]*)\)", text)
            sides = {
                "upper": places[:, 0] < 0.5,
                "lower": places[:, 0] > 0.5,
                "left": places[:, 1] < 0.5,
                "right": places[:, 1] > 0.5,
                "middle height": abs(places[:, 0] - 0.5) < 0.25,
                "vertical middle": abs(places[:, 1] - 0.5) < 0.25,
            }
            for side, there in sides.items():
                if told and side in told[1]:
                    assert there[mask].mean() >= 0.73

    def test_symmetry(self, known):
        """The correlation with the mirror image, of the original's pixels."""
        pixels, text, _, _ = known
        step = max(1, max(pixels.shape) // 250)
        whole = pixels[: pixels.shape[0] // step * step, : pixels.shape[1] // step * step]
        blocks = whole.reshape(whole.shape[0] // step, step, whole.shape[1] // step, step, 3).mean(axis=(1, 3))
        values = color.rgb2lab(blocks / 255)
        values = values - values.mean(axis=(0, 1))
        found = {
            "left to right": float((values * values[:, ::-1]).sum() / max((values**2).sum(), 1e-9)),
            "top to bottom": float((values * values[::-1]).sum() / max((values**2).sum(), 1e-9)),
        }
        nearly = dict(re.findall(r"(left to right|top to bottom) \(([\d.]+)\)", text))
        if step == 1 or max(pixels.shape) < 1000:  # stripes of a pixel have no mirror image at less than full size
            for name, value in nearly.items():
                assert found[name] == pytest.approx(float(value), abs=0.03)
            if "not mirror-symmetric" in text:
                assert max(found.values()) < 0.55
