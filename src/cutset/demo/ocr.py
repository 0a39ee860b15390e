"""Reading a page with PP-OCRv4: what surrounds its two networks (detector, recogniser).

Both networks take pixels as float32, planes of rows, channels in the order blue, green, red.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from numpy import float32, uint8

# The preprocessing of each network, as `cutset attach --pre` takes it.
DETECTOR_PRE = "uint8,hwc,scale=1/255,mean=0.485;0.456;0.406,std=0.229;0.224;0.225"
RECOGNISER_PRE = "uint8,hwc,scale=1/255,mean=0.5;0.5;0.5,std=0.5;0.5;0.5"

LINE_HEIGHT = 48


@dataclass(frozen=True)
class Box:
    """A text line in pixels of the page: half-open rows and columns."""

    top: int
    bottom: int
    left: int
    right: int


def page() -> NDArray[uint8]:
    """A scanned page, doubled in size and padded to multiples of 32: (384, 768, 3)."""
    from PIL import Image
    from skimage import data

    grey = Image.fromarray(data.page())
    doubled = np.asarray(grey.resize((2 * grey.width, 2 * grey.height), Image.Resampling.BICUBIC))
    rows, columns = (-(-n // 32) * 32 for n in doubled.shape)
    padded = np.pad(
        doubled, ((0, rows - doubled.shape[0]), (0, columns - doubled.shape[1])), mode="edge"
    )
    return np.repeat(padded[:, :, None], 3, axis=2)


def detector_input(image: NDArray[uint8]) -> NDArray[float32]:
    """(1, 3, rows, columns), as the attached preprocessing computes it."""
    mean = np.array([0.485, 0.456, 0.406], np.float32)
    std = np.array([0.229, 0.224, 0.225], np.float32)
    scaled = (image.astype(np.float32) * np.float32(1 / 255) - mean) / std
    return np.ascontiguousarray(scaled.transpose(2, 0, 1)[None])


def text_boxes(probability: NDArray[float32], threshold: float = 0.3) -> tuple[Box, ...]:
    """Text lines of the detector's map (rows, columns), top to bottom.

    Regions over the threshold, grown by 1.6·area/perimeter (DB, Liao et al., AAAI 2020), as the
    network is trained to mark a line's shrunken core.
    """
    from skimage.measure import label, regionprops

    boxes = []
    for region in regionprops(label(probability > threshold)):
        top, left, bottom, right = region.bbox
        height, width = bottom - top, right - left
        if height < 4 or width < 8 or probability[region.slice].mean() < threshold:
            continue
        grow = round(1.6 * height * width / (2 * (height + width)))
        boxes.append(
            Box(
                max(top - grow, 0),
                min(bottom + grow, probability.shape[0]),
                max(left - grow, 0),
                min(right + grow, probability.shape[1]),
            )
        )
    return tuple(sorted(boxes, key=lambda box: (box.top, box.left)))


def line_width(boxes: tuple[Box, ...]) -> int:
    """The recogniser's input width that holds every line at its height, a multiple of 32."""
    widest = max(
        ((box.right - box.left) / (box.bottom - box.top) for box in boxes), default=LINE_HEIGHT
    )
    return -(-round(widest * LINE_HEIGHT) // 32) * 32


def line_image(image: NDArray[uint8], box: Box, width: int) -> NDArray[uint8]:
    """The line scaled to (48, width, 3), padded on the right with mid-grey."""
    from PIL import Image

    crop = Image.fromarray(image[box.top : box.bottom, box.left : box.right])
    scaled = min(width, max(1, round(crop.width * LINE_HEIGHT / crop.height)))
    line = np.full((LINE_HEIGHT, width, 3), 127, np.uint8)
    line[:, :scaled] = np.asarray(crop.resize((scaled, LINE_HEIGHT), Image.Resampling.BILINEAR))
    return line


def recogniser_input(line: NDArray[uint8]) -> NDArray[float32]:
    """(1, 3, 48, width), as the attached preprocessing computes it."""
    scaled = (line.astype(np.float32) * np.float32(1 / 255) - np.float32(0.5)) / np.float32(0.5)
    return np.ascontiguousarray(scaled.transpose(2, 0, 1)[None])


def decode(scores: NDArray[float32], characters: str) -> str:
    """The text of the recogniser's scores (steps, classes): CTC, best path.

    `characters` is the model's metadata of that key: one a line; class 0 is the blank, and a space
    follows the listed ones.
    """
    classes = ["", *characters.split("\n")[: scores.shape[1] - 2], " "]
    best = scores.argmax(axis=1)
    keep = np.r_[True, best[1:] != best[:-1]]
    return "".join(classes[i] for i in best[keep])
