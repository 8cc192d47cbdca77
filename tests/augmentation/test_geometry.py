import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates

from tests.augmentation.pixels import noise, pictures
from vitreous.augmentation import Augmentation
from vitreous.augmentation.counter import Stream, uniform
from vitreous.augmentation.geometry import affine, mirrored, reflect, replaced, resampled, shifted


def one(**options):
    """The map of one image, by names without their axis."""
    plain = {"right": 0, "down": 0, "degrees": 0, "slope_right": 0, "slope_down": 0, "factor": 1} | options
    return affine(**{f"{name}_N": torch.tensor([value], dtype=torch.float64) for name, value in plain.items()})


def drawn(image, map_N33):
    """``image`` (H,W,C) resampled through one map."""
    rows, columns = (torch.arange(length).double()[None] for length in image.shape[:2])
    return resampled(image[None], rows, columns, map_N33)[0]


def test_reflection_is_torchs():
    row = torch.arange(6.0)
    padded = torch.nn.functional.pad(row[None, None], (5, 5), mode="reflect")[0, 0]
    assert torch.equal(row[reflect(torch.arange(-5, 11), 6)], padded)


@settings(deadline=None, max_examples=60)
@given(
    size=st.tuples(st.integers(1, 9), st.integers(1, 9), st.sampled_from([1, 3])),
    most=st.integers(1, 20),
    data=st.data(),
)
def test_a_shift_is_numpys_padding_and_a_window(size, most, data):
    """Also where it is longer than the image: then it is reflected more than once."""
    images = noise(3, *size)
    steps = st.lists(st.integers(-most, most), min_size=3, max_size=3).map(torch.tensor)
    down, right = data.draw(steps), data.draw(steps)
    moved = shifted(images, down, right, most)
    assert moved.is_contiguous()
    for number in range(3):
        padded = np.pad(images[number].numpy(), ((most, most), (most, most), (0, 0)), mode="reflect")
        top, left = most + int(down[number]), most + int(right[number])
        assert np.array_equal(moved[number].numpy(), padded[top : top + size[0], left : left + size[1]])


@pytest.mark.parametrize("which", [[], [0], [4], [1, 2], [0, 1, 2, 3, 4]])
def test_only_the_named_images_are_mirrored_or_replaced(which):
    images = noise(5)
    is_mirrored = torch.tensor([number in which for number in range(5)])
    wanted = np.stack([image[:, ::-1] if number in which else image for number, image in enumerate(images.numpy())])
    assert np.array_equal(mirrored(images, is_mirrored).numpy(), wanted)
    others = noise(5, seed=1)
    exchanged = replaced(images, torch.tensor(which, dtype=torch.long), others[which])
    assert torch.equal(exchanged, torch.where(is_mirrored[:, None, None, None], others, images))


@pytest.mark.parametrize("quarters", [-2, -1, 0, 1, 2, 3])
def test_quarter_turns_are_numpys(quarters):
    """Clockwise, so against numpy's sense."""
    image = noise(1, 12, 12)[0]
    assert np.array_equal(drawn(image, one(degrees=90 * quarters)), np.rot90(image, -quarters))


def test_moves_of_whole_pixels_are_numpys_rolls_inside():
    image = noise(1, 10, 14)[0].numpy()
    moved = drawn(torch.from_numpy(image), one(right=3, down=-2)).numpy()
    assert np.array_equal(moved[:8, 3:], np.roll(image, (-2, 3), (0, 1))[:8, 3:])


def test_twice_as_large_halves_the_distances():
    ramp = torch.arange(0, 201, 20, dtype=torch.uint8)[None, :, None].expand(5, 11, 1)
    assert drawn(ramp, one(factor=2))[0, :, 0].tolist() == list(range(50, 151, 10))


def test_a_shear_slants_the_columns_about_the_centre():
    image = torch.zeros(9, 17, 1, dtype=torch.uint8)
    image[:, 8] = 255
    slanted = torch.zeros(9, 17, 1, dtype=torch.uint8)
    slanted[torch.arange(9), torch.arange(4, 13)] = 255  # what is below the centre goes to the right
    assert torch.equal(drawn(image, one(slope_right=1)), slanted)
    assert torch.equal(drawn(image.transpose(0, 1), one(slope_down=1)), slanted.transpose(0, 1))


def forward(seed, epoch, index, number, asked, height, width):
    """What happens to the points (x, y, 1) about the centre, by the documented draws, one step after the other."""

    def draw(stream):
        return float(uniform(seed, epoch, index, stream)[number])

    def about(stream, most):
        return most * (2 * draw(stream) - 1)

    steps = 2 * asked["shift_px"] + 1
    shift = [int(draw(stream) * steps) - asked["shift_px"] for stream in (Stream.SHIFT_RIGHT, Stream.SHIFT_DOWN)]
    turn = np.deg2rad(about(Stream.ROTATE, asked["rotate"]))
    grown, is_smaller = 1 + abs(about(Stream.SCALE, asked["scale"])), about(Stream.SCALE, asked["scale"]) < 0
    factor = 1 / grown if is_smaller else grown
    share, signed = 1 - asked["zoom"] * draw(Stream.ZOOM_SHARE), 2 * draw(Stream.ZOOM_STRETCH) - 1
    stretch = 1 + abs(signed) * (min((4 / 3) ** 0.5, 1 / share) - 1)
    tall, wide = (share * stretch, share / stretch) if signed >= 0 else (share / stretch, share * stretch)
    left = draw(Stream.ZOOM_LEFT) * (1 - wide) * width - (1 - wide) * width / 2  # from the part in the middle
    top = draw(Stream.ZOOM_TOP) * (1 - tall) * height - (1 - tall) * height / 2
    mirror = -1 if asked["flip"] and draw(Stream.FLIP) < 0.5 else 1
    return [
        [[1, 0, -shift[0]], [0, 1, -shift[1]], [0, 0, 1]],
        [[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]],
        [
            [1, about(Stream.SHEAR_RIGHT, asked["shear"]), 0],
            [about(Stream.SHEAR_DOWN, asked["shear"]), 1, 0],
            [0, 0, 1],
        ],
        [[factor, 0, 0], [0, factor, 0], [0, 0, 1]],
        [[1 / wide, 0, -left / wide], [0, 1 / tall, -top / tall], [0, 0, 1]],
        [[mirror, 0, 0], [0, 1, 0], [0, 0, 1]],
    ]


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 99),
    flip=st.booleans(),
    shift_px=st.integers(0, 3),
    rotate=st.sampled_from([0.0, 10.0, 180.0]),
    shear=st.sampled_from([0.0, 0.3]),
    scale=st.sampled_from([0.0, 0.5]),
    zoom=st.sampled_from([0.0, 0.4]),
    channels=st.sampled_from([1, 3]),
)
def test_all_that_moves_pixels_is_one_resampling_through_the_composed_map(seed, channels, **asked):
    """Against SciPy's bilinear resampling, image by image, through the inverse of the steps' product."""
    images, index = pictures(3, 24, 31, channels), torch.tensor([5, 0, 77])
    height, width = images.shape[1:3]
    pixels = torch.zeros(78, *images.shape[1:], dtype=torch.uint8)
    pixels[index] = images
    varied = Augmentation(**asked)(pixels, index, seed=seed, epoch=4).numpy()
    y, x = np.mgrid[:height, :width].reshape(2, -1)
    centred = np.stack([x - (width - 1) / 2, y - (height - 1) / 2, np.ones_like(x)])
    for number in range(3):
        total = np.eye(3)
        steps = forward(seed, 4, index, number, asked, height, width)
        for step in steps:
            total = np.array(step) @ total
        from_x, from_y, _ = np.linalg.inv(total) @ centred + [[(width - 1) / 2], [(height - 1) / 2], [0]]
        wanted = [
            map_coordinates(
                images[number, ..., channel].numpy().astype(float), (from_y, from_x), order=1, mode="mirror"
            )
            for channel in range(channels)
        ]
        wanted = np.stack(wanted, axis=1).reshape(height, width, channels)
        difference = np.abs(varied[number] - wanted)
        inside = (
            slice(2, -2) if asked["zoom"] else slice(None)
        )  # a part ends at the edge: its outermost are not mirrored
        assert difference[inside, inside].max() <= 0.51 + 1e-3
