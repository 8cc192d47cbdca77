"""Figures: what is drawn where, and on which scale; that something is drawn at all is seen in ``test_overview.py``."""

import numpy as np
import pytest
import torch
from matplotlib._pylab_helpers import Gcf
from matplotlib.collections import FillBetweenPolyCollection
from matplotlib.image import AxesImage
from matplotlib.patches import Ellipse, Rectangle
from torch import nn

from vitreous.explanation import pictures
from vitreous.explanation.attribution import Attribution
from vitreous.explanation.equivariance import shift_consistency
from vitreous.explanation.faithfulness import Curves, Faithfulness
from vitreous.explanation.influence import influence
from vitreous.explanation.residual import residual_shares
from vitreous.explanation.routing import routes
from vitreous.models import build_network
from vitreous.trace import trace
from vitreous.trace.values import record_values

PIXELS = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)
IMAGE = torch.from_numpy(PIXELS / 255).float().permute(2, 0, 1)[None]


@pytest.fixture(autouse=True)
def _without_pyplot():
    yield
    assert not Gcf.figs


def images(place):
    return [each for each in place.get_children() if isinstance(each, AxesImage)]


def patches(place, kind):
    return [each for each in place.patches if isinstance(each, kind)]


# --- what speaks for the answer ---------------------------------------------------------------------------------------


def judged(map_HW, method="by hand"):
    shares = torch.tensor([0.0, 0.5, 1])
    own = Curves(shares, torch.tensor([0.9, 0.2, 0.1]), torch.tensor([0.1, 0.8, 0.9]))
    others = [Curves(shares, torch.tensor([0.9, 0.5 + x, 0.1]), torch.tensor([0.1, 0.5 - x, 0.9])) for x in (0.1, -0.1)]
    return Faithfulness(Attribution(method, map_HW, None, "", is_signed=True), own, 1, tuple(others))


def over(map_HW):
    """What lies over the image: numbers from -1 to 1, and how much of the image they hide."""
    place = pictures.attribution_figure(PIXELS, [judged(map_HW)], "cat").axes[1]
    drawn = images(place)[1]
    assert drawn.get_clim() == (-1, 1)
    return np.asarray(drawn.get_array()), drawn.get_alpha()


def test_where_a_map_is_0_the_image_is_seen():
    map_HW = torch.zeros(16, 24)
    map_HW[:, 12:] = -2.0
    shares, alpha = over(map_HW)
    assert (alpha[:, :12] == 0).all()
    assert (alpha[:, 12:] > 0.8).all()
    assert (shares[:, 12:] == -1).all()


def test_one_outlier_does_not_hide_the_rest():
    map_HW = torch.ones(16, 24)
    map_HW[3, 3] = 1e6
    assert (over(map_HW)[0] == 1).all()


def test_a_map_of_a_single_pixel_is_drawn():
    map_HW = torch.zeros(16, 24)
    map_HW[3, 4] = 0.01
    assert np.argwhere(over(map_HW)[1]).tolist() == [[3, 4]]


def test_an_empty_map_is_no_division_by_0():
    assert (over(torch.zeros(16, 24))[1] == 0).all()


def test_a_caption_says_whether_to_believe_the_map():
    figure = pictures.attribution_figure(PIXELS, [judged(torch.ones(16, 24))], "cat")
    assert figure.axes[1].get_title() == "by hand: better than chance\n(+0.3, chance up to 0.2)"


def test_every_method_has_its_curves_beside_chance():
    figure = pictures.faithfulness_figure([judged(torch.ones(2, 2), "one"), judged(torch.ones(2, 2), "two")], "cat")
    deletion, _, insertion, _ = figure.axes
    assert len({place.get_ylim() for place in figure.axes}) == 1
    for place, own in ((deletion, [0.9, 0.2, 0.1]), (insertion, [0.1, 0.8, 0.9])):
        mean, curve = (line.get_ydata().tolist() for line in place.lines)
        assert curve == pytest.approx(own)
        assert mean[1] == pytest.approx(0.5)
        (band,) = [each for each in place.collections if isinstance(each, FillBetweenPolyCollection)]
        heights = [y for x, y in band.get_paths()[0].vertices if x == 0.5]
        assert (min(heights), max(heights)) == pytest.approx((0.3, 0.7))  # 0.1 is the deviation of 0.4 and 0.6


# --- maps and filters -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shift", "limits"), [(0.0, (0, 7.0)), (-4.0, (-4.0, 4.0))])
def test_channels_are_on_one_scale_which_is_symmetric_where_there_are_signs(shift, limits):
    maps_CHW = torch.arange(8.0)[:, None, None].expand(8, 2, 3) + shift
    figure = pictures.maps_figure(maps_CHW, [7, 0, 3], "title", PIXELS, [range(4, 9), range(2, 12)])
    first, *others = figure.axes
    scales = {images(place)[0].get_clim() for place in others[:3]}
    assert scales == {limits}
    assert [place.get_title() for place in others[:3]] == ["channel 7", "channel 0", "channel 3"]
    (frame,) = patches(first, Rectangle)
    assert (frame.get_xy(), frame.get_width(), frame.get_height()) == ((1.5, 3.5), 10, 5)


def test_filters_on_colours_are_drawn_in_colours_around_grey():
    filters_KCHW = torch.zeros(2, 3, 3, 3)
    filters_KCHW[0, 0] = -0.5
    drawn = np.asarray(images(pictures.filters_figure(filters_KCHW, "conv").axes[0])[0].get_array())
    assert (drawn[..., 0] == 0).all()
    assert (drawn[..., 1:] == 0.5).all()


def test_filters_on_other_channels_say_that_they_are_means():
    figure = pictures.filters_figure(torch.ones(70, 5, 3, 3), "conv")
    assert "64 of 70 filters of 3 x 3 (white is 0, the mean over 5 channels)" in figure.get_suptitle()


# --- what a unit looks at ---------------------------------------------------------------------------------------------


def test_the_frame_is_the_field_and_the_ellipse_two_deviations():
    network = nn.Conv2d(3, 4, 5, bias=False)
    nn.init.ones_(network.weight)
    found = influence(network, IMAGE)
    figure = pictures.influence_figure(PIXELS, [("before training", found), ("after training", found)])
    on_image, before, after, _ = figure.axes
    rows, columns = found.box
    for place in (on_image, before, after):
        (frame,) = patches(place, Rectangle)
        assert frame.get_xy() == (columns.start - 0.5, rows.start - 0.5)
    assert images(before)[0].get_clim() == images(after)[0].get_clim()
    for ellipse in patches(on_image, Ellipse):
        assert ellipse.get_center() == pytest.approx((columns.start + 2, rows.start + 2))
        assert ellipse.get_width() == pytest.approx(4 * 2**0.5)  # five alike: a variance of (25 - 1) / 12
    assert "96% of the frame, sigma 1.4 x 1.4 px" in after.get_title()  # 24 of 25 pixels hold 95 %


def test_no_influence_is_said():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    nn.init.constant_(network[0].bias, -1000)
    figure = pictures.influence_figure(PIXELS, [("after training", influence(network, IMAGE))])
    assert "no pixel" in figure.axes[1].get_title()


# --- skips, pools, shifts ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def network():
    line = "conv4 pool res[conv8bn conv8bn] pool conv8 gap fc"
    return build_network(line, num_classes=3, in_channels=3, image_size=(16, 24), seed=0)


def test_bars_are_projections_and_the_legend_covers_none(network):
    shares = residual_shares(record_values(network, IMAGE))
    figure = pictures.residual_figure(shares)
    figure.draw_without_rendering()
    (place,) = figure.axes
    lengths = [bar.get_width() for bar in place.patches]
    assert lengths == pytest.approx([shares[0].skip.projection, shares[0].branch.projection])
    assert not figure.legends[0].get_window_extent().overlaps(place.get_window_extent())


def test_a_pool_s_units_are_drawn_at_their_places(network):
    seen = trace(network, IMAGE.shape[1:])
    found = routes(record_values(network, IMAGE, with_gradients=True), 0)
    figure = pictures.routing_figure(PIXELS, [(each, seen.fields[each.source_operation]) for each in found[:2]])
    _, first, second, _ = figure.axes
    for place, route, jump in ((first, found[0], 1), (second, found[1], 2)):
        drawn = images(place)[1]
        left, right, bottom, top = drawn.get_extent()
        rows, columns = route.gradient_map.shape
        field_y, field_x = (each.field for each in seen.fields[route.source_operation])
        unit = (right - left) / columns
        assert ((right - left) / columns, (bottom - top) / rows) == (jump, jump)
        assert (left + unit / 2, top + unit / 2) == (field_x.centre(0), field_y.centre(0))
        assert (place.get_xlim(), place.get_ylim()) == ((-0.5, 23.5), (15.5, -0.5))


def test_units_without_places_are_drawn_without_the_image(network):
    found = routes(record_values(network, IMAGE, with_gradients=True), 0)
    lost = trace(nn.Flatten(), (3, 16, 24)).fields[-1]
    figure = pictures.routing_figure(PIXELS, [(found[0], lost)])
    assert len(images(figure.axes[1])) == 1


def test_the_curves_of_a_shift_start_at_the_image_as_it_is(network):
    found = shift_consistency(network, IMAGE, 2, border="edge")
    (place,) = pictures.consistency_figure(found, "cat").axes
    starts = {float(line.get_ydata()[0]) for line in place.lines}
    assert starts == {float(found.confidences_SN[0, 0])}
    assert [list(line.get_xdata()) for line in place.lines] == [[0, 1, 2]] * 3


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_images_of_any_number_of_channels_are_shown(channels):
    pixels = np.full((16, 24, channels), 100, np.uint8)
    figure = pictures.attribution_figure(pixels, [judged(torch.ones(16, 24))], "cat")
    figure.draw_without_rendering()
    assert (np.asarray(images(figure.axes[0])[0].get_array()) == 100).all()
