"""The ablation: its arithmetic by hand, and a tiny one really run, stopped half-way and gone on with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from made_up import write_set
from test_distill import YAML

from mmkd_train.__main__ import main
from mmkd_train.ablate import AblationOptions, format_markdown, load_ablation, plan, summarize
from mmkd_train.errors import UserError
from mmkd_train.options import load_options
from mmkd_train.train import train


def metrics(both: float, rgb: float = 0.1) -> dict[str, Any]:
    row: dict[str, Any] = {"mAP50": both, "night": {"mAP50": both / 2}, "per_class": {"car": {"mAP50": 0.3}}}
    return {"both": row, "rgb": {"mAP50": rgb}, "thermal": {"mAP50": None}}


def test_mean_spread_retention_and_gap_by_hand() -> None:
    scores = {
        "alone": [metrics(0.40), metrics(0.50)],
        "distilled": [metrics(0.48), metrics(0.52)],
        "teacher": [metrics(0.55)],
    }
    summary = summarize(scores, "alone")
    assert summary["alone"]["both"] == pytest.approx((0.45, 0.0707107))
    assert summary["alone"]["gap_closed"] == pytest.approx(0.0)
    assert summary["distilled"]["retention"] == pytest.approx(0.50 / 0.55)
    assert summary["distilled"]["gap_closed"] == pytest.approx(0.5)
    assert summary["teacher"]["both"] == (0.55, None)
    lines = format_markdown(summary).splitlines()
    assert lines[0] == "| row | both | rgb | thermal | night | car | retention | gap closed |"
    assert lines[3] == "| distilled | 50.0 ± 2.8 | 10.0 ± 0.0 | - | 25.0 ± 1.4 | 30.0 ± 0.0 | 91 % | 50 % |"
    assert lines[4] == "| teacher | 55.0 | 10.0 | - | 27.5 | 30.0 | - | - |"


def test_a_teacher_that_is_no_better_closes_no_gap() -> None:
    summary = summarize({"alone": [metrics(0.5)], "teacher": [metrics(0.4)]}, "alone")
    assert summary["alone"]["gap_closed"] is None and summary["alone"]["retention"] == pytest.approx(1.25)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("rows: {a: []}", "config"),
        ("{config: c.yaml, rows: {}}", "needs rows"),
        ("{config: c.yaml, rows: {teacher: []}}", "no row called 'teacher'"),
        ("{config: c.yaml, rows: {a: []}, sedes: [1]}", "sedes"),
        ("[", "ablation.yaml"),
    ],
)
def test_bad_files_are_refused_by_name(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "ablation.yaml").write_text(text)
    with pytest.raises(UserError, match=sentence):
        load_ablation(tmp_path / "ablation.yaml")


def test_a_row_that_cannot_be_built_stops_before_any_training(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(YAML)
    with pytest.raises(UserError, match="temperature"):
        plan(AblationOptions(str(tmp_path / "c.yaml"), {"a": [], "b": ["distill.temperature=-1"]}), [])
    with pytest.raises(UserError, match="same name"):
        plan(AblationOptions(str(tmp_path / "c.yaml"), {"+ kd": [], "kd": []}), [])


def test_a_tiny_ablation_runs_and_goes_on_where_it_stopped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, count, thermal_only in (("train", 6, False), ("train_thermal_only", 2, True), ("test", 4, False)):
        write_set(tmp_path, name, count, seed=count, thermal_only=thermal_only)
    (tmp_path / "config.yaml").write_text(YAML)
    common = [f"data.root={tmp_path}", "data.val=annotations/test.json", "optim.steps=2"]
    teacher = train(load_options(tmp_path / "config.yaml", [*common, f"output={tmp_path / 'teacher'}"]))
    output = tmp_path / "out"
    rows = {"alone": ["teacher.weights="], "+ L_KD": ["distill.beta=0"]}
    file = tmp_path / "ablation.yaml"
    file.write_text(json.dumps({"config": str(tmp_path / "config.yaml"), "rows": rows, "seeds": [5],
                                "output": str(output)}))  # fmt: skip
    arguments = ["ablate", str(file), *common, f"teacher.weights={teacher}"]
    assert main(arguments) == 0
    table = (output / "table.md").read_text()
    assert table in capsys.readouterr().out
    assert [line.split("|")[1].strip() for line in table.splitlines()[2:]] == ["alone", "+ L_KD", "teacher"]
    assert "kd" in (output / "l_kd/seed5/log.csv").read_text().splitlines()[0]
    trained = {path: path.stat().st_mtime_ns for path in output.rglob("detector.safetensors")}
    assert len(trained) == 2

    (output / "alone/seed5/detector.safetensors").unlink()  # as after a kill between the checkpoint and the end
    assert main(arguments) == 0
    assert (output / "table.md").read_text() == table
    kept = output / "l_kd/seed5/detector.safetensors"
    assert kept.stat().st_mtime_ns == trained[kept]
    assert main([*arguments, "optim.lr=1.0e-4"]) == 2
    assert "trained with other options" in capsys.readouterr().err
