from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("skimage")

from cutset.demo import ocr


def test_the_page_suits_the_detector() -> None:
    page = ocr.page()
    assert page.dtype == np.uint8
    assert page.shape == (384, 768, 3)


def test_boxes_grow_around_regions_and_skip_specks() -> None:
    probability = np.zeros((100, 200), np.float32)
    probability[20:30, 10:150] = 0.9
    probability[60:70, 10:150] = 0.8
    probability[90:92, 190:192] = 0.9  # too small to be text
    boxes = ocr.text_boxes(probability)
    grow = round(1.6 * 10 * 140 / 300)
    assert [(b.top, b.bottom) for b in boxes] == [(20 - grow, 30 + grow), (60 - grow, 70 + grow)]
    assert all((b.left, b.right) == (10 - grow, 150 + grow) for b in boxes)


def test_a_line_keeps_its_proportions_and_is_padded() -> None:
    image = np.zeros((100, 400, 3), np.uint8)
    box = ocr.Box(0, 24, 0, 96)
    assert ocr.line_width((box,)) == 192
    line = ocr.line_image(image, box, 256)
    assert line.shape == (48, 256, 3)
    assert (line[:, :192] == 0).all()
    assert (line[:, 192:] == 127).all()


def test_decoding_drops_blanks_and_repeats() -> None:
    # classes: blank, a, b, space
    scores = np.eye(4, dtype=np.float32)[[0, 1, 1, 0, 1, 3, 2, 2]]
    assert ocr.decode(scores, "a\nb") == "aa b"


def test_network_inputs_are_planes_of_floats() -> None:
    image = np.full((32, 64, 3), 255, np.uint8)
    assert ocr.detector_input(image).shape == (1, 3, 32, 64)
    assert np.allclose(
        ocr.detector_input(image)[0, :, 0, 0],
        [(1 - m) / s for m, s in [(0.485, 0.229), (0.456, 0.224), (0.406, 0.225)]],
    )
    assert np.allclose(ocr.recogniser_input(image), 1.0)
