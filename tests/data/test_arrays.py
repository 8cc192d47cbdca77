"""Arrays as DATA: .npz files and folders of IDX files."""

import gzip
import os
import pickle
import zipfile

import numpy as np
import pytest

from tests.images import flipped, picture
from vitreous.data.decode import decode
from vitreous.data.source import open_source
from vitreous.errors import DataError

IMAGES = np.stack([picture(9, 7, seed) for seed in range(6)])
GREY = IMAGES[..., 0]
LABELS = np.array([0, 1, 2, 0, 1, 2])


def npz(tmp_path, **arrays):
    np.savez_compressed(tmp_path / "set.npz", **arrays)
    return tmp_path / "set.npz"


def test_images_and_labels(tmp_path):
    source = open_source(npz(tmp_path, images=IMAGES, labels=LABELS + 5, unknown=np.arange(3)))
    assert (source.kind, source.classes, source.labels.tolist()) == ("npz", ("5", "6", "7"), LABELS.tolist())
    assert np.array_equal(decode(source.images.encoded(4)), IMAGES[4])
    assert source.images.name(4) == "image/00004"


def test_grey_images_names_and_parts(tmp_path):
    split = np.array(["train", "train", "train", "test", "Validation", "test"])
    file = npz(tmp_path, images=GREY, labels=LABELS, classes=["z", "a", "m"], split=split)
    source = open_source(file, for_training=False)
    assert source.classes == ("z", "a", "m")
    assert source.splits.tolist() == ["train"] * 3 + ["test", "val", "test"]
    assert source.images.facts(0).is_grey
    assert np.array_equal(decode(source.images.encoded(4))[..., 0], GREY[4])


def test_labels_may_be_names(tmp_path):
    source = open_source(npz(tmp_path, images=GREY, labels=np.array(["dog", "cat"] * 3)))
    assert (source.classes, source.labels.tolist()) == (("cat", "dog"), [1, 0] * 3)


@pytest.mark.parametrize(
    "keys", [("x_train", "y_train", "x_test", "y_test"), ("train_images", "train_labels", "test_images", "test_labels")]
)
def test_the_names_of_keras_and_medmnist(tmp_path, keys):
    values = (GREY, LABELS[:, None], GREY[:3], LABELS[:3, None])
    source = open_source(npz(tmp_path, **dict(zip(keys, values, strict=True))))
    assert source.splits.tolist() == ["train"] * 6 + ["test"] * 3
    assert source.images.name(7) == "test/00001"


@pytest.mark.parametrize(
    ("arrays", "word"),
    [
        ({"pictures": GREY}, "images and labels are wanted"),
        ({"images": GREY}, "images and labels are wanted"),
        ({"images": GREY, "labels": LABELS[:5]}, "do not belong together"),
        ({"images": GREY / 255, "labels": LABELS}, "float64; uint8"),
        ({"images": GREY.astype(np.uint16), "labels": LABELS}, "uint16; uint8"),
        ({"images": np.moveaxis(IMAGES, 3, 1), "labels": LABELS}, "N,H,W,3"),
        ({"images": np.zeros((6, 4, 4, 4), np.uint8), "labels": LABELS}, "N,H,W,3"),
        ({"images": GREY[:, 0], "labels": LABELS}, "do not belong together"),
        ({"images": GREY, "labels": LABELS / 2}, "labels are float64"),
        ({"images": GREY, "labels": np.eye(6, 3, dtype=int)}, "labels are int64"),
        ({"images": GREY, "labels": LABELS, "classes": ["a", "b"]}, "do not index 2 classes"),
        ({"images": GREY, "labels": LABELS - 1, "classes": ["a", "b", "c"]}, "do not index"),
        ({"images": GREY, "labels": LABELS, "classes": ["a", "b", "c", "d"]}, "no image of d"),
        ({"images": GREY, "labels": LABELS, "split": ["train"] * 5 + ["held out"]}, "held out"),
        ({"images": GREY, "labels": LABELS, "split": ["train"] * 5}, "split has shape"),
        ({"images": GREY[:0], "labels": LABELS[:0]}, "holds no images"),
        ({"images": GREY, "labels": LABELS * 0}, "one class only"),
        ({"x_train": GREY, "y_train": LABELS, "x_test": GREY[:, :5], "y_test": LABELS}, "differ"),
        ({"x_train": GREY, "y_train": LABELS, "x_test": GREY, "y_test": LABELS + 1}, "train has no image of 3"),
    ],
)
def test_other_arrays_are_refused(tmp_path, arrays, word):
    with pytest.raises(DataError, match=r"set\.npz") as caught:
        open_source(npz(tmp_path, **arrays))
    assert word in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


class Canary:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("key", ["images", "labels", "classes", "split", "unknown"])
def test_objects_are_never_unpickled(tmp_path, key):
    arrays = {"images": GREY, "labels": LABELS} | {key: np.array([Canary(tmp_path / "ran")] * 6, dtype=object)}
    path = npz(tmp_path, **arrays)
    if key == "unknown":
        open_source(path)
    else:
        with pytest.raises(DataError, match="Python objects"):
            open_source(path)
    assert not (tmp_path / "ran").exists()


def test_a_pickle_named_npz_is_never_unpickled(tmp_path):
    (tmp_path / "set.npz").write_bytes(pickle.dumps(Canary(tmp_path / "ran")))
    with pytest.raises(DataError, match=r"set\.npz"):
        open_source(tmp_path / "set.npz")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.6, 0.95, 0.999])
def test_an_npz_cut_short_is_refused(tmp_path, share):
    path = npz(tmp_path, images=np.random.default_rng(0).integers(0, 255, (6, 30, 30)).astype(np.uint8), labels=LABELS)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(DataError, match=r"set\.npz"):
        open_source(path)


def test_an_npz_with_a_flipped_bit_is_refused(tmp_path):
    path = npz(tmp_path, images=GREY, labels=LABELS)
    with zipfile.ZipFile(path) as archive:
        start = archive.getinfo("images.npy").header_offset
    path.write_bytes(flipped(path.read_bytes(), start + 120))
    with pytest.raises(DataError, match=r"set\.npz"):
        open_source(path)


def test_an_npy_named_npz_is_refused(tmp_path):
    with (tmp_path / "set.npz").open("wb") as file:
        np.save(file, GREY)
    with pytest.raises(DataError, match=r"set\.npz"):
        open_source(tmp_path / "set.npz")


def idx(array, type_code=0x08):
    header = bytes([0, 0, type_code, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    return header + array.tobytes()


def write_idx(folder, prefix="train", images=GREY, labels=LABELS, name="{}-{}-idx{}-ubyte", packed=False):
    folder.mkdir(exist_ok=True)
    for what, axes, array in (("images", 3, images), ("labels", 1, labels)):
        data = idx(array.astype(np.uint8))
        path = folder / (name.format(prefix, what, axes) + (".gz" if packed else ""))
        path.write_bytes(gzip.compress(data) if packed else data)
    return folder


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", ["{}-{}-idx{}-ubyte", "{}-{}.idx{}-ubyte"])
def test_idx_folders(tmp_path, packed, name):
    write_idx(tmp_path, name=name, packed=packed)
    write_idx(tmp_path, "t10k", GREY[:3], LABELS[:3], name=name, packed=packed)
    source = open_source(tmp_path)
    assert (source.kind, source.classes) == ("idx", ("0", "1", "2"))
    assert source.splits.tolist() == ["train"] * 6 + ["test"] * 3
    assert np.array_equal(source.images.array[6:, ..., 0], GREY[:3])


def test_an_idx_folder_without_test(tmp_path):
    assert set(open_source(write_idx(tmp_path)).splits) == {"train"}


def images_file(folder):
    return folder / "train-images-idx3-ubyte"


def cut(folder):
    images_file(folder).write_bytes(images_file(folder).read_bytes()[:-1])


def cut_header(folder):
    images_file(folder).write_bytes(images_file(folder).read_bytes()[:9])


def emptied(folder):
    images_file(folder).write_bytes(b"")


def too_long(folder):
    images_file(folder).write_bytes(images_file(folder).read_bytes() + b"\0")


def no_magic(folder):
    images_file(folder).write_bytes(b"\x89PNG" + bytes(500))


def floats(folder):
    images_file(folder).write_bytes(idx(GREY.astype(">f4"), 0x0D))


def labels_as_images(folder):
    images_file(folder).write_bytes(idx(LABELS.astype(np.uint8)))


def fewer_labels(folder):
    (folder / "train-labels-idx1-ubyte").write_bytes(idx(LABELS[:4].astype(np.uint8)))


def no_labels(folder):
    (folder / "train-labels-idx1-ubyte").unlink()


def only_half_a_test(folder):
    (folder / "t10k-images-idx3-ubyte").write_bytes(idx(GREY))


def huge(folder):
    images_file(folder).write_bytes(b"\0\0\x08\x03" + b"\xff" * 12 + bytes(100))


def cut_gz(folder):
    images_file(folder).unlink()
    (folder / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(GREY))[:-30])


def flipped_gz(folder):
    images_file(folder).unlink()
    (folder / "train-images-idx3-ubyte.gz").write_bytes(flipped(gzip.compress(idx(GREY)), 40))


@pytest.mark.parametrize(
    ("damage", "word"),
    [
        (cut, "cut short: 377 of 378 bytes"),
        (cut_header, "cut short"),
        (emptied, "cut short"),
        (too_long, "goes on after"),
        (no_magic, "not an IDX file"),
        (floats, "float32; uint8"),
        (labels_as_images, "1 axes; 3"),
        (fewer_labels, "do not belong together"),
        (no_labels, "no train-labels-idx1-ubyte"),
        (only_half_a_test, "no t10k-labels-idx1-ubyte"),
        (huge, "cut short"),
        (cut_gz, "cut short or damaged"),
        (flipped_gz, "cut short or damaged"),
    ],
)
def test_damaged_idx_folders_are_refused(tmp_path, damage, word):
    damage(write_idx(tmp_path / "set"))
    with pytest.raises(DataError) as caught:
        open_source(tmp_path / "set")
    assert word in str(caught.value)
    assert str(tmp_path) in str(caught.value)
