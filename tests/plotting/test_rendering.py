"""The rendered check sees what it must."""

from matplotlib import pyplot as plt
from rendering import close_figures, colors_near, overlapping_texts, rendered, shows  # noqa: F401


def test_texts_that_cover_one_another_are_found():
    figure, ax = plt.subplots()
    ax.text(0.5, 0.5, "one")
    ax.text(0.5, 0.5, "two")
    assert overlapping_texts(figure) == [("one", "two")]


def test_texts_outside_the_figure_are_found():
    figure, ax = plt.subplots()
    ax.text(0.95, 0.5, "a text far too long for the little room that is left to it")
    assert [where for _, where in overlapping_texts(figure)] == ["outside"]


def test_an_ordinary_figure_passes():
    figure, ax = plt.subplots()
    ax.set(title="title", xlabel="x", ylabel="y")
    assert overlapping_texts(figure) == []


def test_pixels_are_found_at_their_place():
    figure, ax = plt.subplots()
    ax.plot([0, 1], [0, 1], "s", color="#0072B2", markersize=10)
    ax.plot(0.25, 0.75, "s", color="#D55E00", markersize=10)
    pixels = rendered(figure)
    assert shows(colors_near(pixels, ax, 1, 1), "#0072B2")
    assert shows(colors_near(pixels, ax, 0.25, 0.75), "#D55E00")
    assert not shows(colors_near(pixels, ax, 0.25, 0.75), "#0072B2")
    assert not shows(colors_near(pixels, ax, 0.75, 0.25), "#D55E00"), "up is not down"
