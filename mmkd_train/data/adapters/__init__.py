"""Public RGB-thermal sets, each a small module that knows one owner's folder layout."""

from __future__ import annotations

from mmkd_train.data.adapters import flir_aligned, kaist, llvip, m3fd, msrs
from mmkd_train.data.adapters.layout import CLASSES, Adapter, Box, Frame, LabelError

ADAPTERS: dict[str, Adapter] = {
    "flir_aligned": flir_aligned.ADAPTER,
    "llvip": llvip.ADAPTER,
    "kaist": kaist.ADAPTER,
    "m3fd": m3fd.ADAPTER,
    "msrs": msrs.ADAPTER,
}

__all__ = ["ADAPTERS", "CLASSES", "Adapter", "Box", "Frame", "LabelError"]
