"""Give MobileNetV3-Large ImageNet-like features where its own ImageNet weights cannot be had.

Two steps. (1) Transplant: EfficientNet-Lite0 and MobileNetV3-Large share the widths of their residual streams (24, 40,
80, 112), so a Lite0 block becomes a MobileNetV3 block by keeping its most important expanded channels (structured
pruning after He et al., arXiv 1707.06168); squeeze-excite starts as a constant gate. (2) Mimicry: the result is
trained to reproduce Lite0's stage outputs (FitNets, Romero et al., arXiv 1412.6550, with each channel's error divided
by the teacher's variance) on unlabelled RGB and thermal pictures. In: a Lite0 state dict and a folder of images. Out: a
safetensors file that ``pretrained: path`` loads.
"""

from __future__ import annotations

import argparse
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm import tqdm

from mmkd_ros.network.backbone import import_timm, load_backbone_weights
from mmkd_train.errors import UserError

HELP = "Make MobileNetV3-Large backbone weights out of EfficientNet-Lite0's, by transplant and feature mimicry."
TimmModule = Any  # timm builds its modules by name; their attributes are not typed
_STAGES = range(6)  # blocks.0 .. blocks.5 are compared; blocks.6 differs in kind
_GATE = 5.0 / 6.0  # hard-sigmoid(2): a squeeze-excite gate that starts constant but not saturated


def _importance(block: TimmModule) -> Tensor:
    """Expected output energy of each expanded channel: |projection column| * sqrt(E[relu(N(beta, gamma))^2])."""
    inverted = hasattr(block, "conv_pwl")  # else a depthwise-separable block, without an expansion
    norm, projection = (block.bn2, block.conv_pwl) if inverted else (block.bn1, block.conv_pw)
    gamma, beta = norm.weight.detach(), norm.bias.detach()
    normal = torch.distributions.Normal(0.0, 1.0)
    ratio = beta / gamma.abs().clamp_min(1e-6)
    energy = (beta**2 + gamma**2) * normal.cdf(ratio) + beta * gamma.abs() * torch.exp(normal.log_prob(ratio))
    return energy.clamp_min(0).sqrt() * projection.weight.detach().flatten(1).norm(dim=0)


def _copy_norm(target: TimmModule, source: TimmModule, index: Tensor) -> None:
    for name in ("weight", "bias", "running_mean", "running_var"):
        getattr(target, name).data.copy_(getattr(source, name).data[index])


def _copy_depthwise(target: TimmModule, source: TimmModule, index: Tensor) -> None:
    margin = (source.kernel_size[0] - target.kernel_size[0]) // 2
    weight = source.weight.data[index]
    target.weight.data.copy_(weight[:, :, margin:-margin, margin:-margin] if margin else weight)


def _copy_block(target: TimmModule, source: TimmModule, inputs: Tensor, outputs: Tensor) -> None:
    keep = _importance(source).topk(target.conv_dw.weight.shape[0]).indices.sort().values
    target.conv_pw.weight.data.copy_(source.conv_pw.weight.data[keep][:, inputs])
    _copy_norm(target.bn1, source.bn1, keep)
    _copy_depthwise(target.conv_dw, source.conv_dw, keep)
    _copy_norm(target.bn2, source.bn2, keep)
    projection = source.conv_pwl.weight.data[outputs][:, keep]
    if isinstance(target.se, nn.Identity):
        target.conv_pwl.weight.data.copy_(projection)
    else:
        target.se.conv_expand.weight.data.mul_(0.1)
        target.se.conv_expand.bias.data.fill_(2.0)
        target.conv_pwl.weight.data.copy_(projection / _GATE)
    _copy_norm(target.bn3, source.bn3, outputs)


def transplant(student: TimmModule, teacher: TimmModule) -> Tensor:
    """Fill a timm ``mobilenetv3_large_100`` feature extractor from a ``tf_efficientnet_lite0`` one, in place.

    Returns:
        (160,) int64: which of the teacher's 192 channels after stage 5 the student's 160 stand for.
    """
    stem = _importance(teacher.blocks[0][0]).topk(16).indices.sort().values
    student.conv_stem.weight.data.copy_(teacher.conv_stem.weight.data[stem])
    _copy_norm(student.bn1, teacher.bn1, stem)
    first, source = student.blocks[0][0], teacher.blocks[0][0]
    _copy_depthwise(first.conv_dw, source.conv_dw, stem)
    _copy_norm(first.bn1, source.bn1, stem)
    first.conv_pw.weight.data.copy_(source.conv_pw.weight.data[:, stem])
    _copy_norm(first.bn2, source.bn2, torch.arange(16))

    head = teacher.blocks[6][0]
    last = head.conv_pw.weight.detach().flatten(1).norm(dim=0).topk(160).indices.sort().values
    inputs = torch.arange(16)
    for stage in range(1, 6):
        width = student.blocks[stage][0].conv_pwl.weight.shape[0]
        outputs = last if stage == 5 else torch.arange(width)
        for position, block in enumerate(student.blocks[stage]):
            if position < len(teacher.blocks[stage]):
                _copy_block(block, teacher.blocks[stage][position], inputs, outputs)
            else:  # one block more than the teacher: start close to the identity
                block.bn3.weight.data.fill_(0.1)
            inputs = outputs
    keep = head.bn1.weight.detach().abs().topk(960).indices.sort().values
    student.blocks[6][0].conv.weight.data.copy_(head.conv_pw.weight.data[keep][:, last])
    _copy_norm(student.blocks[6][0].bn1, head.bn1, keep)
    return last


def _stage_outputs(net: TimmModule, images: Tensor) -> list[Tensor]:
    features = net.bn1(net.conv_stem(images))
    features = net.act1(features) if hasattr(net, "act1") else features
    outputs = []
    for stage in _STAGES:
        features = net.blocks[stage](features)
        outputs.append(features)
    return outputs


def mimicry_errors(student: list[Tensor], teacher: list[Tensor]) -> list[Tensor]:
    """Per stage: mean over channels of MSE / teacher variance (0 = identical, 1 = no better than the channel's
    mean)."""
    errors = []
    for ours, theirs in zip(student, teacher, strict=True):
        variance = theirs.var(dim=(0, 2, 3)).clamp_min(1e-4)
        errors.append((((ours - theirs) ** 2).mean(dim=(0, 2, 3)) / variance).mean())
    return errors


def _read_images(data: Path) -> tuple[list[NDArray[np.uint8]], list[NDArray[np.uint8]]]:
    """All pictures of the training split as RGB uint8: (whole scenes, object crops of 64x64)."""
    import json

    names: list[Path] = []
    for split in ("train", "train_thermal_only"):
        for image in json.loads((data / "annotations" / f"{split}.json").read_text())["images"]:
            names += [data / image[key] for key in ("file_name", "thermal_file_name") if image[key]]
    names += sorted((data / "unlabelled").rglob("*.jpg"))
    scenes = []
    for name in tqdm(names, desc="scenes", mininterval=5):
        picture = cv2.imread(str(name), cv2.IMREAD_COLOR)
        if picture is None:
            raise UserError(f"{name} is not a readable image; restore the data set.")
        scenes.append(np.asarray(picture[..., ::-1], np.uint8))
    crops = []
    archive = data / "crops" / "flir_crops.tar"
    if archive.is_file():
        with tarfile.open(archive) as tar:
            for member in tqdm(tar, desc="crops", mininterval=5):
                stream = tar.extractfile(member) if member.name.endswith(".jpg") else None
                if stream is not None:
                    picture = cv2.imdecode(np.frombuffer(stream.read(), np.uint8), cv2.IMREAD_COLOR)
                    if picture is None:
                        raise UserError(f"{archive}: {member.name} is not a readable image; restore the data set.")
                    picture = cv2.resize(picture, (64, 64), interpolation=cv2.INTER_LINEAR)
                    crops.append(np.asarray(picture[..., ::-1], np.uint8))
    return scenes, crops


def _batches(
    scenes: list[NDArray[np.uint8]], crops: list[NDArray[np.uint8]], size: int, batch: int, rng: np.random.Generator
) -> Iterator[Tensor]:
    """Endless (B, 3, size, size) float batches in -1..1: random resized crops of scenes and mosaics of object crops."""
    while True:
        images = np.empty((batch, size, size, 3), np.float32)
        for k in range(batch):
            if crops and k % 4 == 0:
                tiles = -(-size // 64)
                picks = [crops[i] for i in rng.integers(0, len(crops), tiles * tiles)]
                rows = [np.concatenate(picks[r * tiles : (r + 1) * tiles], axis=1) for r in range(tiles)]
                image = np.concatenate(rows, axis=0)[:size, :size]
            else:
                scene = scenes[rng.integers(len(scenes))]
                side = int(min(scene.shape[:2]) * rng.uniform(0.4, 1.0))
                y, x = (int(rng.integers(0, scene.shape[i] - side + 1)) for i in (0, 1))
                image = cv2.resize(
                    np.ascontiguousarray(scene[y : y + side, x : x + side]), (size, size), interpolation=cv2.INTER_AREA
                )
            image = image.astype(np.float32) / 127.5 - 1.0
            image = image * rng.uniform(0.6, 1.4) + rng.uniform(-0.3, 0.3)
            images[k] = image[:, ::-1] if rng.random() < 0.5 else image
        yield torch.from_numpy(images).permute(0, 3, 1, 2).clamp(-1.0, 1.0).contiguous()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("--source", type=Path, required=True, help="EfficientNet-Lite0 ImageNet state dict")
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with annotations/, pairs/, thermal_only/, crops/"
    )
    parser.add_argument("--output", type=Path, default=Path("runs/pretrain/mobilenetv3_large.safetensors"))
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--size", type=int, default=160, help="side of the training pictures in pixels")
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)


def run(args: argparse.Namespace) -> int:
    """Transplant, train, write the file; prints the error of each stage as it falls."""
    for path in (args.source, args.data):
        if not path.exists():
            raise UserError(f"{path} does not exist; give the file with --source and the data folder with --data.")
    torch.manual_seed(args.seed)
    torch.set_flush_denormal(True)
    timm = import_timm()
    student = timm.create_model("mobilenetv3_large_100", features_only=True, out_indices=(2, 3, 4))
    teacher = timm.create_model("tf_efficientnet_lite0", features_only=True, out_indices=(2, 3, 4))
    load_backbone_weights(teacher, args.source)
    teacher.eval().requires_grad_(False)
    last = transplant(student, teacher)
    student.train()
    optimizer = torch.optim.AdamW(student.parameters(), lr=args.lr, weight_decay=1e-4)
    warmup = max(1, args.steps // 20)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min(1.0, (step + 1) / warmup) * (0.5 + 0.5 * np.cos(np.pi * min(1.0, step / args.steps))),
    )
    batches = _batches(*_read_images(args.data), args.size, args.batch, np.random.default_rng(args.seed))
    started = time.monotonic()
    smooth: NDArray[np.float64] | None = None
    progress = tqdm(range(args.steps), desc="mimicry", mininterval=5)
    for step in progress:
        images = next(batches)
        with torch.no_grad():
            theirs = _stage_outputs(teacher, images)
            theirs[5] = theirs[5][:, last]
        errors = mimicry_errors(_stage_outputs(student, images), theirs)
        loss = torch.stack(errors).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(student.parameters(), 5.0)
        optimizer.step()
        schedule.step()
        values = torch.stack(errors).detach().numpy().astype(np.float64)
        smooth = values if smooth is None else 0.95 * smooth + 0.05 * values
        if step % 50 == 0:
            progress.write(f"step {step} error per stage " + " ".join(f"{value:.3f}" for value in smooth))
    args.output.parent.mkdir(parents=True, exist_ok=True)
    final = "" if smooth is None else " ".join(f"{value:.3f}" for value in smooth)
    metadata = {
        "architecture": "mobilenetv3_large_100",
        "source": args.source.name,
        "steps": str(args.steps),
        "errors": final,
    }
    save_file({key: value.contiguous() for key, value in student.state_dict().items()}, args.output, metadata)
    print(f"wrote {args.output}: error per stage {final}, {time.monotonic() - started:.0f} s")
    return 0
