"""Draw docs/augmentation.png, a row of pictures for each variation: python scripts/make_augmentation_sheet.py."""

from importlib import resources
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from vitreous.augmentation import Augmentation
from vitreous.augmentation.mixing import Mixing
from vitreous.config import Config

SHEET = Path(__file__).parent.parent / "docs" / "augmentation.png"
EPOCHS, SIDE, GAP, LABEL = 10, 56, 4, 190  # pictures in a row, and pixels
CLASSES_SHOWN = ("Ankle boot", "Dress", "Shirt", "Bag")  # the first is varied, the others are what it is mixed with
TINT = (1.0, 0.6, 0.3)  # of red, green and blue
SETTINGS = (
    "",
    "flip = true",
    "flip = alternating",
    "shift_px = 4",
    "zoom = 0.5",
    "rotate = 30.0",
    "shear = 0.3",
    "scale = 0.5",
    "light = 0.5",
    "saturation = 1.0",
    "hue = 0.5",
    "randaugment = 2",
    "cutout = 0.5",
    "mixup = 1.0",
    "cutmix = 1.0",
)


def sheet() -> Image.Image:
    """A row for each setting, a column for each epoch."""
    images = _images()
    width, height = LABEL + EPOCHS * (SIDE + GAP), len(SETTINGS) * (SIDE + GAP)
    page = Image.new("RGB", (width, height), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(14)
    for row, setting in enumerate(SETTINGS):
        top = row * (SIDE + GAP)
        draw.text((6, top + SIDE // 2), setting or "as it is", "black", font, anchor="lm")
        for epoch in range(EPOCHS):
            picture = Image.fromarray(_varied(images, setting, epoch).numpy())
            page.paste(picture.resize((SIDE, SIDE), Image.Resampling.NEAREST), (LABEL + epoch * (SIDE + GAP), top))
    return page.quantize(256)


def _images() -> Tensor:
    """The first picture of each class shown, in a tint, so that colours can change: N,H,W,3, uint8."""
    with resources.as_file(resources.files("vitreous.data") / "embedded" / "fashion-mini.npz") as path:
        arrays = np.load(path)
        numbers = [list(arrays["labels"]).index(list(arrays["classes"]).index(name)) for name in CLASSES_SHOWN]
        return torch.from_numpy((arrays["images"][numbers][..., None] * TINT).astype(np.uint8))


def _varied(images_NHWC: Tensor, setting: str, epoch: int) -> Tensor:
    """The first image in an epoch of a run with this setting alone."""
    config = Config().override([f"augmentation.{setting}"] if setting else []).augmentation
    index_N = torch.arange(len(images_NHWC))
    varied_NHWC = Augmentation.from_config(config)(images_NHWC, index_N, seed=0, epoch=epoch)
    mixing = Mixing.from_config(config)
    return (mixing(varied_NHWC, index_N, seed=0, epoch=epoch).images_NHWC if mixing else varied_NHWC)[0]


if __name__ == "__main__":
    sheet().save(SHEET, optimize=True)
