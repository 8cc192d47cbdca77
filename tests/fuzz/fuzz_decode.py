"""Any bytes at all are read or refused with a reason: python -m tests.fuzz.fuzz_decode CORPUS [-runs=N]."""

import sys

import atheris

with atheris.instrument_imports(include=["PIL", "vitreous.data"]):
    import numpy as np

    from vitreous.data.decode import decode, inspect
    from vitreous.errors import DecodeError


def one_input(data: bytes) -> None:
    """A picture has pixels, and as many as its header says; whatever else comes is a DecodeError."""
    try:
        pixels = decode(data)
    except DecodeError as error:
        if not str(error):
            raise AssertionError("a refusal has a reason") from error
        return
    facts = inspect(data)
    assert pixels.dtype == np.uint8
    assert pixels.shape[2] == (1 if facts.is_grey else 3)
    assert sorted(pixels.shape[:2]) == sorted((facts.height, facts.width))  # a PNG's late EXIF block may turn it


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
