"""Files into networks: a network from a manifest, with its weights loaded strictly."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from vitreous import storage
from vitreous.errors import RunError
from vitreous.models import build_network, describe, is_factory
from vitreous.run import Run


def encode_weights(state: Mapping[str, Tensor]) -> bytes:
    """A network's state as the bytes of a safetensors file: no time, name or path, so equal weights are equal bytes."""
    return save({name: tensor.detach().cpu().contiguous() for name, tensor in sorted(state.items())})


def load_weights(network: nn.Module, path: Path) -> None:
    """Load a safetensors file into ``network``, every key and every shape or nothing.

    Raises:
        RunError: the file is damaged, or its tensors are not the network's; the message names them.
    """
    try:
        state = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise RunError(f"{path} is not a whole safetensors file: {error}.") from None
    problems = _differences(state, network.state_dict())
    if problems:
        shown = "; ".join(problems[:5]) + ("; …" if len(problems) > 5 else "")
        raise RunError(f"{path} does not fit the network ({len(problems)} differences): {shown}.")
    network.load_state_dict(state)


def network_from_run(run: Run, *, model: str | None = None, accept_changed_code: bool = False) -> nn.Module:
    """The run's network with its best weights, in evaluation mode; refuses weights that training did not write.

    Args:
        model: ``file.py:factory`` again, where that built the network; see ``network_from_manifest``.
        accept_changed_code: take the file though it is not what it was in training.
    """
    path = run.verified_weights()
    network = network_from_manifest(run.manifest, model=model, accept_changed_code=accept_changed_code)
    load_weights(network, path)
    return network.eval()


def network_from_manifest(
    manifest: Mapping[str, Any], *, model: str | None = None, accept_changed_code: bool = False
) -> nn.Module:
    """The network that a manifest describes, with fresh weights.

    What a manifest says never causes code to be loaded: where the network came from a file, the user names that file
    again, and it must be what it was.

    Args:
        model: ``file.py:factory``, where that built the network.
        accept_changed_code: take the file though it is not what it was in training.

    Raises:
        RunError: ``model`` is missing, not needed, or another one; the message names the one that is wanted.
    """
    described, arguments = manifest["model"], manifest["model"]["arguments"]
    if is_factory(described["name"]):
        model = _same_factory(model, described, accept_changed_code)
    elif model is not None:
        raise RunError(f"this run's network is {described['name']!r}, which needs no --model; leave {model!r} out.")
    else:
        model = described["name"]
    return build_network(
        model,
        num_classes=arguments["num_classes"],
        in_channels=arguments["in_channels"],
        image_size=tuple(arguments["image_size"]),
        classes=manifest["classes"],
        seed=arguments["seed"],
    )


def publish_weights(run: Run, state: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Make ``state`` the run's weights: file and manifest, in an order that no kill can leave contradicting.

    The manifest forgets the old file before the new one is written and learns the new hash after it.
    """
    data = encode_weights(state)
    if run.manifest.get("weights"):
        run.update_manifest(weights=None)
    storage.write_atomic(run.weights_path, data)
    run.update_manifest(weights={"sha256": storage.sha256_bytes(data), **facts})


def _same_factory(model: str | None, wanted: Mapping[str, Any], accept_changed_code: bool) -> str:
    """``model``, if it is the factory that a manifest wants, by its name in the file and the file's hash."""
    name, sha256 = wanted["name"], str(wanted.get("source_sha256"))
    if model is None:
        raise RunError(
            f"this run's network is built by {name} (SHA-256 {sha256[:12]}…), and a run folder never causes code to be "
            f"loaded; name the file yourself: --model PATH/{name}"
        )
    if not is_factory(model) or model.rpartition(":")[2] != name.rpartition(":")[2]:
        raise RunError(f"this run's network is built by {name} (SHA-256 {sha256[:12]}…), not by {model}.")
    found = describe(model)["source_sha256"]
    if found != sha256 and not accept_changed_code:
        raise RunError(
            f"{model} is not what built this run's network: SHA-256 {found[:12]}…, not "
            f"{sha256[:12]}…; give the file as it was, or, if the network is the same, --accept-changed-code."
        )
    return model


def _differences(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> list[str]:
    missing = [f"{name} is missing" for name in wanted if name not in found]
    extra = [f"{name} is not in the network" for name in found if name not in wanted]
    shapes = [
        f"{name} is {tuple(found[name].shape)}, the network has {tuple(tensor.shape)}"
        for name, tensor in wanted.items()
        if name in found and found[name].shape != tensor.shape
    ]
    return missing + extra + shapes
