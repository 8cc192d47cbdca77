"""The pattern language: reading, printing, and errors that point at the word."""

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis.strategies import text

from tests.models.pattern_strategies import patterns
from vitreous.errors import PatternError
from vitreous.models.pattern_language import Conv, Dense, Flatten, Pattern, Pool, Repeat, Residual, parse


def test_the_articles_line():
    assert parse("conv64 conv64 pool conv128 conv128 pool flatten fc256 fc10 softmax") == Pattern(
        (Conv(64), Conv(64), Pool("max"), Conv(128), Conv(128), Pool("max"), Flatten(), Dense(256)), 10, True
    )


@settings(deadline=None, max_examples=200)
@given(patterns)
def test_a_printed_pattern_reads_back(pattern):
    assert parse(str(pattern)) == pattern


@settings(deadline=None, max_examples=300)
@given(text(alphabet="convpolfctx[]res*0123456789kspdg. \n", max_size=40))
def test_any_text_is_read_or_refused(line):
    try:
        pattern = parse(line)
    except PatternError:
        return
    assert parse(str(pattern)) == pattern


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("CONV64BNS2K5 GAP FC", "conv64k5s2bn gap fc"),
        ("conv8k3s1d1g1relu gap fc10lin", "conv8 gap fc10"),
        ("conv8k3x3 conv8k1x7p0 flatten fc", "conv8 conv8k1x7p0 flatten fc"),
        ("maxpool maxpool2s2 pool3 pool2s1 avgpool2 pool2p1 gap fc", "pool pool pool3 pool2s1 avgpool pool2p1 gap fc"),
        ("dropout0.5 dropout.25 flatten fc16relu fc", "dropout dropout0.25 flatten fc16 fc"),
        ("[ conv8   pool ] * 2 [conv8] gap fc", "[conv8 pool]*2 conv8 gap fc"),
        ("res [conv8 [conv8]*2] [res[conv8]]*02 gap fc softmax", "res[conv8 [conv8]*2] res[conv8]*2 gap fc softmax"),
        ("\tconv8\ngap fc", "conv8 gap fc"),
        ("conv8blurbns2tanh poolblur pool2s2blur gap fc", "conv8s2bntanhblur poolblur poolblur gap fc"),
        ("pool3blurp1s2 avgpoolblur maxpoolblur gap fc", "pool3s2p1blur avgpoolblur poolblur gap fc"),
    ],
)
def test_one_canonical_spelling(written, canonical):
    assert str(parse(written)) == canonical


def test_groups_make_a_tree():
    assert parse("[pool res[conv8]*2]*3 gap fc").body[0] == Repeat((Pool("max"), Repeat((Residual((Conv(8),)),), 2)), 3)


@pytest.mark.parametrize(
    ("line", "pointed_at", "reason"),
    [
        ("conv64 conv64 cnv64 pool", "cnv64", "word 3: 'cnv64' is not a layer; did you mean conv64?"),
        ("conv64 maxpol fc", "maxpol", "did you mean maxpool?"),
        ("conv64 unshufle2 fc", "unshufle2", "did you mean unshuffle2?"),
        ("xyzzy fc", "xyzzy", "the layers are conv, pool"),
        ("conv fc", "conv", "conv64"),
        ("conv8 conv8q4 fc", "conv8q4", "word 2: 'q4' is not a setting of conv"),
        ("conv8bn5 fc", "conv8bn5", "'5' is not a setting"),
        ("conv8s1x2 fc", "conv8s1x2", "'x2' is not a setting"),
        ("conv8k5k3 fc", "conv8k5k3", "set already"),
        ("conv8relutanh fc", "conv8relutanh", "set already"),
        ("conv8blur fc", "conv8blur", "the blur of conv takes its stride, which is 1; write s2, or leave blur out"),
        ("pool3s1blur fc", "pool3s1blur", "the blur of pool takes its stride, which is 1"),
        ("conv8 blur fc", "blur", "'blur' is not a layer"),
        ("flatten fc8blur fc", "fc8blur", "'blur' is not a setting of fc"),
        ("conv0 fc", "conv0", "filters is 0; it must be at least 1"),
        ("conv8s0 fc", "conv8s0", "stride is 0"),
        ("conv8k0 fc", "conv8k0", "kernel is 0"),
        ("conv6g4 fc", "conv6g4", "4 groups do not divide 6 filters"),
        ("conv8p3 fc", "conv8p3", "nothing but zeros"),
        ("conv1234567890 fc", "conv1234567890", "10 digits"),
        ("pool2p2 fc", "pool2p2", "at most 1"),
        ("pool2d2 fc", "pool2d2", "takes s p"),
        ("gap3 fc", "gap3", "takes no settings"),
        ("dropout1 fc", "dropout1", "above 0 and below 1"),
        ("dropout0.00 fc", "dropout0.00", "above 0 and below 1"),
        ("unshuffle fc", "unshuffle", "unshuffle2"),
        ("unshuffle1 fc", "unshuffle1", "at least 2"),
        ("res fc", "res", "res[conv64 conv64]"),
        ("conv8*3 fc", "conv8*3", "[conv64]*3"),
        ("conv8 fc pool fc", "fc", "word 2: fc without a number is the head"),
        ("softmax fc", "softmax", "last word"),
        ("conv8 fc10bn", "fc10bn", "without settings"),
        ("conv8 fc0", "fc0", "at least 1"),
        ("conv8 pool", "pool", "no head"),
        ("softmax", "softmax", "no head"),
        ("[conv8 fc]", "fc", "is the head and comes last"),
        ("[conv8 pool fc", "[", "never closed"),
        ("res[conv8 [conv8] fc", "res[", "never closed"),
        ("conv8]*2 fc", "]*2", "closes no ["),
        ("conv8 [] fc", "]", "empty"),
        ("[conv8]*0 fc", "]*0", "repetitions is 0"),
        ("res[conv8 pool] fc", "]", "ends in a conv or an fc"),
        ("res[conv8 res[conv8]] fc", "]", "ends in a conv or an fc"),
    ],
)
def test_errors_point_at_the_word(line, pointed_at, reason):
    with pytest.raises(PatternError) as caught:
        parse(line)
    message, shown, carets = str(caught.value).split("\n")
    assert reason in message
    assert shown == f"  {line}"
    assert shown[carets.index("^") : carets.rindex("^") + 1] == pointed_at


def test_a_very_long_word_is_not_repeated_in_full():
    with pytest.raises(PatternError, match="word 2 has 5,005 characters") as caught:
        parse("conv8 conv8" + "x" * 5_000 + " fc")
    assert len(str(caught.value)) < 300


def test_of_a_long_line_the_neighbourhood_is_shown():
    with pytest.raises(PatternError) as caught:
        parse("conv16bn " * 40 + "cnv16 " + "conv16bn " * 40 + "gap fc")
    _, shown, carets = str(caught.value).split("\n")
    assert len(shown) < 120
    assert shown[carets.index("^") : carets.rindex("^") + 1] == "cnv16"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("", "the line is empty"),
        (" \t\n", "the line is empty"),
        ("conv8 " * 2000 + "gap fc", "12,006 characters"),
        ("[" * 21 + "conv8", "more than 20 deep"),
        ("[[[conv8]*999]*999]*999 gap fc", "more than 10,000 layers"),
        ("[conv8]*9999 [conv8]*9999 gap fc", "more than 10,000 layers"),
    ],
)
def test_limits(line, reason):
    with pytest.raises(PatternError, match=reason):
        parse(line)


def test_the_language_and_its_checks_need_no_torch():
    program = (
        "import sys, vitreous.models as models;"
        "models.check_network('conv8 pool gap fc', num_classes=2, in_channels=3, image_size=(8, 8));"
        "models.check_network('lenet5', num_classes=2, in_channels=3, image_size=(32, 32));"
        "assert not {'torch', 'numpy', 'PIL'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
