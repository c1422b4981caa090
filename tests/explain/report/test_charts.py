"""Where marks go."""

from dataclasses import replace

import pytest

from dtcwsi.explain.report.charts import calibrations, token_plot
from dtcwsi.explain.report.runs import read_run
from dtcwsi.explain.report.stages import stages


def test_tokens_are_set_against_auc_by_run_and_fold(runs):
    read = {run.model: run for run in map(read_run, runs)}
    plot = token_plot(read)
    plain, compressed = plot.dots
    assert plain.pooled == (24, read["abmil"].metrics["auc"].pooled)
    assert compressed.pooled[0] == read["dtc-abmil"].tokens_out == 10
    assert [tokens for tokens, _ in compressed.folds] == [10, 10]
    assert plot.token_ticks == (0, 5, 10, 15, 20, 25)
    least = min(auc for dots in plot.dots for _, auc in (dots.pooled, *dots.folds))
    assert plot.auc_ticks[0] == (0.5 if least >= 0.5 else 0)
    assert token_plot({"m": replace(read["abmil"], tokens_out=None)}) is None


@pytest.mark.parametrize(("most", "ticks"), [(7, 5), (20, 5), (97, 6), (13_900, 4)])
def test_token_axes_end_on_round_numbers_beyond_the_last(runs, most, ticks):
    run = replace(read_run(runs[0]), tokens_out=float(most), folds=())
    chosen = token_plot({"m": run}).token_ticks
    assert chosen[-1] >= most > chosen[-2]
    assert len(chosen) == ticks


def test_calibration_tells_the_runs_own_metrics(runs):
    run = read_run(runs[0])
    (one,) = calibrations({"m": run})
    assert one.brier == pytest.approx(run.metrics["brier"].pooled)
    assert one.error == pytest.approx(run.metrics["calibration_error"].pooled)


def test_stages_have_their_seconds_and_the_memory_of_training(runs):
    run = read_run(runs[0])
    rows = [{"seconds_tissue": "1.5", "seconds_read": ""}, {"seconds_tissue": "0.5", "seconds_read": "1"}]
    found = {stage.name: stage for stage in stages(rows, {"abmil": run}, {"draw": 4.0}, {"draw": 5, "train abmil": 1})}
    assert list(found) == ["find tissue", "read patches", "train abmil", "predict with abmil", "draw"]
    assert (found["find tissue"].seconds, found["find tissue"].percent, found["draw"].peak_bytes) == (2.0, 50.0, 5)
    assert found["train abmil"].peak_bytes == max(fold.peak_bytes for fold in run.folds) > 2**20
    assert found["read patches"].peak_bytes is None
