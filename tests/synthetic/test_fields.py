"""Smooth fields and drawn ellipses."""

import numpy as np
import pytest

from cellnet_sd.synthetic.fields import Ellipses, draw, fractal_noise, smooth_noise


def one(x, y, length, width, angle):
    return Ellipses(*(np.array(value, dtype=float) for value in ([[x, y]], [length], [width], [angle])))


@pytest.mark.parametrize("scale", [1.0, 5.0, 80.0])
def test_noise_is_standardised_and_smooth(scale):
    field = smooth_noise(np.random.default_rng(0), (90, 120), scale)
    assert field.shape == (90, 120)
    assert field.dtype == np.float32
    assert field.mean() == pytest.approx(0, abs=1e-4)
    assert field.std() == pytest.approx(1, rel=1e-3)
    assert np.abs(np.diff(field, axis=1)).mean() < 4 / scale


def test_fractal_noise_is_standardised():
    field = fractal_noise(np.random.default_rng(0), (64, 64), 16, 3)
    assert field.std() == pytest.approx(1, rel=1e-3)


def test_an_ellipse_covers_its_area_at_its_place():
    canvas = np.zeros((80, 100), np.float32)
    draw(one(60, 30, 16, 6, 0.7), 1.0, (canvas, np.array([2.0])))
    rows, columns = np.indices(canvas.shape)
    assert canvas.sum() / 2 == pytest.approx(np.pi * 16 * 6, rel=0.04)
    assert (canvas * columns).sum() / canvas.sum() == pytest.approx(60, abs=0.01)
    assert (canvas * rows).sum() / canvas.sum() == pytest.approx(30, abs=0.01)
    dx, dy = columns - 60, rows - 30
    direction = 0.5 * np.arctan2(2 * (canvas * dx * dy).sum(), (canvas * (dx**2 - dy**2)).sum())
    assert direction == pytest.approx(0.7, abs=0.02)


def test_the_greater_value_stays_and_edges_are_clipped():
    canvas = np.full((10, 10), 0.5, np.float32)
    draw(one(0, 0, 4, 4, 0), 1.0, (canvas, np.array([0.2])))
    assert (canvas == 0.5).all()
    draw(one(-30, 5, 4, 4, 0), 1.0, (canvas, np.array([9.0])))
    assert (canvas == 0.5).all()
    draw(one(9, 9, 3, 3, 0), 1.0, (canvas, np.array([9.0])))
    assert canvas[9, 9] == 9
    assert canvas[0, 0] == 0.5
