"""TensorBoard sees what stats.jsonl says, and pictures."""

from __future__ import annotations

import json

import pytest

from vaegan.cli.progress import boards
from vaegan.films import is_frame
from vaegan.rundir import RunDirectory
from vaegan.settings import Budget
from vaegan.training import train


def test_events_hold_every_value_of_the_stats(tmp_path, configure, data_of):
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator",
        reason="the tensorboard extra is not installed",
    )
    config = configure()
    run = RunDirectory(tmp_path / "run")
    train(run, config, data_of(config), Budget(steps=5), watchers=boards(run))

    events = accumulator.EventAccumulator(str(run.events), size_guidance={"images": 0})
    events.Reload()
    rows = [json.loads(line) for line in run.stats.read_text().splitlines()]
    for name in ("similarity", "kl", "gan", "seconds_per_step"):
        written = [(event.step, event.value) for event in events.Scalars(name)]
        assert written == [(row["step"], pytest.approx(row[name], rel=1e-6)) for row in rows]
    pictures = [event.step for event in events.Images("samples")]
    assert pictures == [step for step in range(1, 6) if is_frame(step)]
