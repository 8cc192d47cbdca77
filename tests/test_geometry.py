"""Geometry against torch, against published figures, and against the article's worked examples."""

from fractions import Fraction

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import assume, given, settings
from hypothesis.strategies import composite, integers, lists, sampled_from

from vitreous.errors import ShapeError
from vitreous.geometry import (
    Merged,
    ReceptiveField,
    batch_norm_cost,
    conv_cost,
    conv_output_size,
    kernel_span,
    leftover_pixels,
    linear_cost,
    merge,
    pool_output_size,
    same_padding,
    smallest_input_size,
)

fast = settings(deadline=None, max_examples=100)
sizes, kernels, strides, paddings, dilations = (
    integers(1, 64),
    integers(1, 11),
    integers(1, 4),
    integers(0, 5),
    integers(1, 3),
)


# --- sizes ---


@fast
@given(size=sizes, kernel=kernels, stride=strides, padding=paddings, dilation=dilations)
def test_output_size_agrees_with_torch(size, kernel, stride, padding, dilation):
    def by_torch():
        x, weight = torch.zeros(1, 1, size), torch.zeros(1, 1, kernel)
        return F.conv1d(x, weight, stride=stride, padding=padding, dilation=dilation).shape[-1]

    if kernel_span(kernel, dilation) > size + 2 * padding:
        with pytest.raises(ShapeError, match="larger input"):
            conv_output_size(size, kernel, stride, padding, dilation)
        with pytest.raises(RuntimeError):
            by_torch()
    else:
        assert conv_output_size(size, kernel, stride, padding, dilation) == by_torch()


@fast
@given(size=sizes, kernel=kernels, stride=strides, near=integers(0, 3), far=integers(0, 3))
def test_the_two_ends_may_be_padded_differently(size, kernel, stride, near, far):
    assume(kernel <= size + near + far)
    y = F.conv1d(F.pad(torch.zeros(1, 1, size), (near, far)), torch.zeros(1, 1, kernel), stride=stride)
    assert conv_output_size(size, kernel, stride, (near, far)) == y.shape[-1]


@fast
@given(size=sizes, kernel=kernels, stride=strides, padding=paddings)
def test_leftover_pixels_have_no_gradient(size, kernel, stride, padding):
    assume(padding < kernel <= size + 2 * padding)
    x = torch.zeros(1, 1, size, requires_grad=True)
    F.conv1d(x, torch.ones(1, 1, kernel), stride=stride, padding=padding).sum().backward()
    last_pixel_reached = x.grad[0, 0].nonzero().max().item()
    assert leftover_pixels(size, kernel, stride, padding) == size - 1 - last_pixel_reached


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@fast
@given(kernel=kernels, dilation=dilations, size=sizes)
def test_same_padding_is_torchs(kernel, dilation, size):
    pulse = torch.zeros(1, 1, size)
    pulse[..., size // 2] = 1
    weight = torch.arange(1.0, kernel + 1).view(1, 1, -1)
    padded = F.pad(pulse, same_padding(kernel, dilation))
    assert F.conv1d(padded, weight, dilation=dilation).equal(F.conv1d(pulse, weight, padding="same", dilation=dilation))


@fast
@given(size=sizes, kernel=kernels, stride=strides, dilation=dilations)
def test_same_padding_gives_the_size_over_the_stride_rounded_up(size, kernel, stride, dilation):
    assert conv_output_size(size, kernel, stride, same_padding(kernel, dilation), dilation) == -(-size // stride)


def test_half_the_kernel_is_not_same_padding_for_even_kernels():
    """Correction 7 of the article: P = floor(F/2) gives one pixel too many."""
    assert conv_output_size(32, kernel=4, padding=4 // 2) == 33
    assert conv_output_size(32, kernel=4, padding=same_padding(4)) == 32


@fast
@given(output=integers(1, 20), kernel=kernels, stride=strides, padding=paddings, dilation=dilations)
def test_smallest_input_size_is_enough_and_one_less_is_not(output, kernel, stride, padding, dilation):
    smallest = smallest_input_size(output, kernel, stride, padding, dilation)
    assert conv_output_size(smallest, kernel, stride, padding, dilation) >= output
    if smallest > 1:
        try:
            assert conv_output_size(smallest - 1, kernel, stride, padding, dilation) < output
        except ShapeError:
            assert output == 1


@fast
@given(
    size=sizes,
    kernel=kernels,
    stride=strides,
    padding=paddings,
    dilation=dilations,
    ceil_mode=sampled_from([False, True]),
)
def test_pool_output_size_agrees_with_torch(size, kernel, stride, padding, dilation, ceil_mode):
    try:
        expected = F.max_pool2d(torch.zeros(1, size, size), kernel, stride, padding, dilation, ceil_mode).shape[-1]
    except RuntimeError:
        with pytest.raises(ShapeError):
            pool_output_size(size, kernel, stride, padding, dilation, ceil_mode=ceil_mode)
    else:
        assert pool_output_size(size, kernel, stride, padding, dilation, ceil_mode=ceil_mode) == expected


# --- receptive fields ---


@composite
def stacks(draw):
    layer = lambda: (draw(integers(1, 4)), draw(integers(1, 3)), draw(integers(0, 2)), draw(integers(1, 2)))  # noqa: E731
    return [layer() for _ in range(draw(integers(1, 4)))]


@fast
@given(stack=stacks(), data=integers(0, 10**6))
def test_receptive_field_is_the_support_of_the_gradient(stack, data):
    x = torch.zeros(1, 1, 160, requires_grad=True, dtype=torch.float64)
    y, field = x, ReceptiveField()
    for kernel, stride, padding, dilation in stack:
        weight = torch.ones(1, 1, kernel, dtype=torch.float64)
        y = F.conv1d(y, weight, stride=stride, padding=padding, dilation=dilation)
        field = field.through(kernel, stride, padding, dilation)
    inside = [unit for unit in range(y.shape[-1]) if field.clipped(unit, 160) == field.window(unit)]
    assume(inside)
    unit = inside[data % len(inside)]
    y[0, 0, unit].backward()
    support = x.grad[0, 0].nonzero()
    assert (support.min().item(), support.max().item()) == (field.window(unit)[0], field.window(unit)[-1])


@fast
@given(kernels=lists(sampled_from([1, 3, 5]), min_size=1, max_size=4), unit=integers(0, 19))
def test_clipped_is_what_a_unit_at_the_border_really_sees(kernels, unit):
    x = torch.zeros(1, 1, 20, requires_grad=True, dtype=torch.float64)
    y, field = x, ReceptiveField()
    for kernel in kernels:
        y = F.conv1d(y, torch.ones(1, 1, kernel, dtype=torch.float64), padding=kernel // 2)
        field = field.through(kernel, padding=kernel // 2)
    y[0, 0, unit].backward()
    assert x.grad[0, 0].nonzero().flatten().tolist() == list(field.clipped(unit, 20))


def through(field, *layers):
    for layer in layers:
        field = field.through(*layer)
    return field


def test_receptive_fields_of_lenet5():
    walked = [field := ReceptiveField()]
    walked = [field := field.through(*layer) for layer in [(5,), (2, 2), (5,), (2, 2), (5,)]]
    assert [field.size for field in walked] == [5, 6, 14, 16, 32]


def test_receptive_field_of_alexnet():
    field = through(ReceptiveField(), (11, 4, 2), (3, 2), (5, 1, 2), (3, 2), (3, 1, 1), (3, 1, 1), (3, 1, 1), (3, 2))
    assert (field.size, field.jump) == (195, 32)


def test_receptive_field_of_vgg16():
    blocks = [[(3, 1, 1)] * num_convs + [(2, 2)] for num_convs in (2, 2, 3, 3, 3)]
    field = through(ReceptiveField(), *(layer for block in blocks for layer in block))
    assert (field.size, field.jump) == (212, 32)


@pytest.mark.parametrize(
    ("num_blocks", "is_bottleneck", "strided", "expected"),
    [
        ((2, 2, 2, 2), False, 0, 435),
        ((3, 4, 6, 3), False, 0, 899),
        ((3, 4, 6, 3), True, 1, 427),
        ((3, 4, 6, 3), True, 0, 483),  # stride on the first 1x1, as in the paper
        ((3, 4, 23, 3), True, 1, 971),
        ((3, 8, 36, 3), True, 1, 1451),
    ],
)
def test_receptive_fields_of_resnets(num_blocks, is_bottleneck, strided, expected):
    field = through(ReceptiveField(), (7, 2, 3), (3, 2, 1))
    kernels = (1, 3, 1) if is_bottleneck else (3, 3)
    for stage, num in enumerate(num_blocks):
        for block in range(num):
            stride = 2 if stage > 0 and block == 0 else 1
            branch = [(k, stride if i == strided else 1, k // 2) for i, k in enumerate(kernels)]
            field, is_aligned = merge([through(field, *branch), field.through(1, stride)])
            assert is_aligned
    assert (field.size, field.jump) == (expected, 32)


def test_pooling_doubles_the_jump_not_the_receptive_field():
    """Correction 1 of the article: 8x8, not 14x14."""
    before = through(ReceptiveField(), (3,), (3,), (3,))
    after = before.through(2, 2)
    assert (before.size, after.size) == (7, 8)
    assert (before.jump, after.jump) == (1, 2)


def test_centres_are_exact():
    assert ReceptiveField().through(2, 2).centre(3) == Fraction(13, 2)
    assert ReceptiveField().through(3, 2, padding=1).centre(3) == 6


def test_branches_that_are_shifted_are_not_aligned():
    near, far = same_padding(2)
    assert merge([ReceptiveField(), ReceptiveField().through(2, padding=(near, far))]) == Merged(
        ReceptiveField(size=2, jump=1, start=0), is_aligned=False
    )


def test_branches_with_different_jumps_do_not_join():
    with pytest.raises(ShapeError, match=r"\[1, 2\].*same total stride"):
        merge([ReceptiveField(), ReceptiveField().through(3, 2)])


# --- costs ---


@fast
@given(
    groups=integers(1, 4), a=integers(1, 4), b=integers(1, 4), kernel=integers(1, 4), bias=sampled_from([True, False])
)
def test_conv_cost_counts_torchs_parameters(groups, a, b, kernel, bias):
    conv = torch.nn.Conv2d(a * groups, b * groups, (kernel, 2), groups=groups, bias=bias, device="meta")
    cost = conv_cost(a * groups, b * groups, (kernel, 2), (5, 7), groups=groups, bias=bias)
    assert cost.params == sum(p.numel() for p in conv.parameters())
    assert cost.macs == conv.weight.numel() * 5 * 7


def test_cost_of_the_other_layers():
    assert linear_cost(120, 84) == (10_164, 10_080)
    assert linear_cost(120, 84, bias=False) == (10_080, 10_080)
    assert batch_norm_cost(64) == (128, 0)


def test_groups_must_divide_the_channels():
    with pytest.raises(ShapeError, match="3 groups do not divide 4"):
        conv_cost(4, 6, (1, 1), (1, 1), groups=3)


# --- the article's examples ---


def test_example_1_convolution_by_hand():
    image = [[1, 0, 2, 1, 0], [0, 1, 0, 1, 1], [1, 0, 1, 0, 0], [0, 0, 1, 1, 0], [1, 1, 0, 0, 1]]
    kernel = [[1, 0, 1], [0, 1, 0], [1, 0, 1]]
    side = conv_output_size(5, kernel=3)
    by_hand = [
        [sum(image[row + i][col + j] * kernel[i][j] for i in range(3) for j in range(3)) for col in range(side)]
        for row in range(side)
    ]
    assert by_hand == [[6, 1, 4], [1, 4, 2], [3, 2, 3]]
    assert F.conv2d(torch.tensor([[image]]), torch.tensor([[kernel]])).squeeze().tolist() == by_hand


def test_example_2_tracking_dimensions():
    conv1 = conv_output_size(224, kernel=3, padding=1)
    pool1 = pool_output_size(conv1, kernel=2)
    conv2 = conv_output_size(pool1, kernel=3, padding=1)
    assert (conv1, pool1, conv2) == (224, 112, 112)
    assert conv_cost(3, 64, (3, 3), (conv1, conv1)).params == 1_792
    assert conv_cost(64, 128, (3, 3), (conv2, conv2)).params == 73_856
