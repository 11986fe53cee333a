"""One timm feature extractor for one modality: image -> [C3, C4, C5], strides 8, 16 and 32."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

_STRIDES = (8, 16, 32)
_torchvision_ops: Any = None  # keeps the two operator definitions below alive


def import_timm() -> ModuleType:
    """Import timm, also where torchvision's compiled half does not fit the installed torch.

    A CPU build of torch beside a CUDA build of torchvision raises "operator torchvision::nms does not exist" at
    import. timm needs only torchvision's Python half, so the two missing operators are declared (never called by this
    package).

    Raises:
        ImportError: timm is not installed.
    """
    global _torchvision_ops
    try:
        import timm
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        for name in [name for name in sys.modules if name.split(".")[0] in ("torchvision", "timm")]:
            del sys.modules[name]
        _torchvision_ops = torch.library.Library("torchvision", "FRAGMENT")
        for operator in ("nms", "qnms"):
            _torchvision_ops.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        import timm
    return timm


class Backbone(nn.Module):
    """A timm network as a feature extractor.

    Args:
        name: any timm name with ``features_only`` support, e.g. ``mobilenetv3_large_100`` or ``tf_efficientnet_b7``.
        in_channels: 3 for RGB, 1 for thermal.
        pretrained: False = random; True = timm's published weights (downloaded); a path = a local state dict, see
            :func:`load_backbone_weights`.

    Raises:
        ValueError: unknown name, or a network without features at strides 8, 16 and 32.
    """

    def __init__(self, name: str, in_channels: int, pretrained: bool | str = False) -> None:
        super().__init__()
        timm = import_timm()
        if not timm.is_model(name):
            near = ", ".join(timm.list_models(f"*{name.split('_')[0]}*")[:5]) or "see timm.list_models()"
            raise ValueError(f"timm has no model '{name}'; did you mean one of: {near}?")
        self.net = timm.create_model(
            name, features_only=True, out_indices=(2, 3, 4), in_chans=in_channels, pretrained=pretrained is True
        )
        strides = tuple(self.net.feature_info.reduction())
        if strides != _STRIDES:
            raise ValueError(
                f"Backbone '{name}' gives strides {strides}, the BiFPN needs {_STRIDES}; choose another backbone."
            )
        self.channels: tuple[int, ...] = tuple(self.net.feature_info.channels())
        if isinstance(pretrained, str):
            load_backbone_weights(self.net, Path(pretrained))

    def forward(self, image: Tensor) -> list[Tensor]:
        """(B, in_channels, H, W) float -> [(B, c_k, H/s_k, W/s_k)] for s = 8, 16, 32."""
        features: list[Tensor] = self.net(image)
        return features


def load_backbone_weights(net: nn.Module, path: Path) -> None:
    """Fill a timm feature extractor from a local file.

    Accepts a safetensors file or a ``torch.save`` state dict (read with ``weights_only=True``) with timm's own key
    names, or with other names in timm's order and shapes (as in EfficientNet-Lite and MobileNetV2 exports). A
    three-channel stem is summed over its channels for a one-channel network, so that a grey image gives the same
    response.

    Raises:
        ValueError: the file does not hold this network.
        FileNotFoundError: no such file.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"Backbone weights {path} do not exist; give another file, or pretrained: true to let timm download."
        )
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        source = load_file(path)
    else:
        source = torch.load(path, map_location="cpu", weights_only=True)
    own = net.state_dict()
    if not set(own) <= set(source):  # other names: pair them by order, which the shape check below confirms
        source = dict(zip(own, source.values(), strict=False))
    filled = {}
    for key, value in own.items():
        tensor = source.get(key)
        if tensor is not None and tensor.ndim == 4 and tensor.shape[1] == 3 and value.shape[1] == 1:
            tensor = tensor.sum(dim=1, keepdim=True)
        if tensor is None or tensor.shape != value.shape:
            found = "nothing" if tensor is None else str(tuple(tensor.shape))
            raise ValueError(
                f"{path} does not fit: {key} needs {tuple(value.shape)}, the file has {found}; check "
                "the backbone's name."
            )
        filled[key] = tensor
    net.load_state_dict(filled)
