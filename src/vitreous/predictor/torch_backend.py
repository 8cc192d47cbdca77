"""Inference by PyTorch, in fp32."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vitreous.data.preprocess import Preprocess
from vitreous.errors import ConfigError
from vitreous.predictor import Predictor
from vitreous.predictor.calibration import Calibration, read_calibration
from vitreous.run import Run
from vitreous.weights import network_from_run

_MOST_FEATURES = 8192


class TorchBackend:
    """A network on a device, in evaluation mode and with channels last: always the same kernels, so the same bits.

    Args:
        head: the path of the layer whose input are the features; without one the logits are.
    """

    def __init__(
        self, network: nn.Module, preprocess: Preprocess, device: torch.device, head: str | None = None
    ) -> None:
        self.head = None if head is None else network.get_submodule(head)
        self.network = network.to(device=device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        self.preprocess = preprocess
        self.device = device

    def logits(self, pixels_NHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See ``Backend``."""
        pixels = torch.tensor(pixels_NHWC, device=self.device)
        with torch.inference_mode():
            logits_NK = self.network(network_input(pixels, self.preprocess))
        return np.asarray(logits_NK.float().cpu().numpy())

    def logits_and_features(self, pixels_NHWC: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """See ``Backend``; features of more than a few thousand numbers are maps, and the logits stand for them."""
        if self.head is None:
            logits_NK = self.logits(pixels_NHWC)
            return logits_NK, logits_NK
        shown: list[Tensor] = []
        handle = self.head.register_forward_pre_hook(lambda _, inputs: shown.append(inputs[0]))
        try:
            logits_NK = self.logits(pixels_NHWC)
        finally:
            handle.remove()
        features_ND = shown[-1].flatten(1)
        if features_ND.shape[1] > _MOST_FEATURES or len(features_ND) != len(logits_NK):
            return logits_NK, logits_NK
        return logits_NK, np.asarray(features_ND.float().cpu().numpy())


def network_input(pixels_NHWC: Tensor, preprocess: Preprocess) -> Tensor:
    """What the network sees: (pixels / 255 - mean) / std as N,C,H,W fp32, channels kept last in memory.

    It is computed on whole rows of the image: operations on three numbers at a time take four times as long.
    """
    mean_R, std_R = (
        (torch.tensor(values, device=pixels_NHWC.device) * 255).repeat(pixels_NHWC.shape[2])
        for values in (preprocess.mean, preprocess.std)
    )
    rows_NHR = pixels_NHWC.to(torch.float32, copy=True).flatten(2).sub_(mean_R).div_(std_R)
    return rows_NHR.view(pixels_NHWC.shape).permute(0, 3, 1, 2)


def predictor_from_run(
    path: Path, device: str | None = None, *, model: str | None = None, accept_changed_code: bool = False
) -> Predictor:
    """The predictor of a finished run: its network, its preprocessing, its classes.

    Args:
        path: the run folder.
        device: where to run; without a name the first CUDA device, else the processor.
        model, accept_changed_code: see ``vitreous.weights.network_from_run``.

    Raises:
        RunError: no run there, no weights yet, or weights that training did not write.
    """
    run = Run.open(path)
    network = network_from_run(run, model=model, accept_changed_code=accept_changed_code)
    return predictor_of(run, network, device)


def predictor_of(run: Run, network: nn.Module, device: str | None = None) -> Predictor:
    """The predictor of a run whose network, with its weights, is there already; it is moved to the device.

    Raises:
        RunError: the run's calibration is damaged.
    """
    return calibrated_predictor(run, network, read_calibration(run), device)


def calibrated_predictor(
    run: Run, network: nn.Module, calibration: Calibration | None, device: str | None = None
) -> Predictor:
    """The predictor of a run with this calibration, whatever stands in its folder."""
    preprocess = Preprocess.from_dict(run.manifest["preprocessing"])
    backend = TorchBackend(network, preprocess, choose_device(device), run.manifest["model"].get("head"))
    return Predictor(backend, preprocess, run.classes, calibration)


def choose_device(name: str | None) -> torch.device:
    """The device by name; without one the first CUDA device, else the processor.

    Raises:
        ConfigError: this machine does not have it.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"device {name!r} cannot be used here: {str(error).splitlines()[0]}") from None
    return device
