import pytest
import torch

from dtcwsi.benchmark.cost import slide_cost
from dtcwsi.benchmark.measuring import Peak, measure, seconds_a_patch
from dtcwsi.errors import DtcwsiError, OptionError
from dtcwsi.models import create_model


@pytest.mark.parametrize(("name", "options"), [("abmil", {}), ("dtc-abmil", {"retention": 0.1})])
def test_products_are_those_of_the_cost_model_and_time_and_memory_are_told(name, options):
    found = measure(name, options, in_dim=64, patches=3000, repeats=1)
    model = create_model(name, in_dim=64, n_classes=2, **options)
    parts = slide_cost(model, 3000)
    assert found.gflop == pytest.approx(sum(part.products for part in parts.values()) / 1e9, rel=0.02)
    assert found.aggregate_ms > 0
    assert found.compress_ms >= 0
    assert found.extra_gib is None or 0 < found.extra_gib < 1
    weights = sum(tensor.nbytes for tensor in model.state_dict().values())
    assert found.held_gib == pytest.approx((weights + 3000 * 64 * 4) / 2**30)
    assert found.extra_gib is None or found.peak_gib > max(found.extra_gib, found.held_gib)
    assert found.mil_ms == pytest.approx(found.compress_ms + found.aggregate_ms)


def test_a_wrong_option_is_told_from_the_other_process():
    with pytest.raises(OptionError, match="got hidden=0"):
        measure("abmil", {"hidden": 0}, in_dim=8, patches=10)


def test_a_slide_that_memory_does_not_hold_is_told():
    with pytest.raises(DtcwsiError, match=r"mean could not be run on 10,000,000,000,000 patches on cpu \(.*; measure"):
        measure("mean", {}, in_dim=8, patches=10**13)


def test_a_peak_is_seen_though_it_is_gone():
    with Peak() as peak:
        torch.ones(64 << 20, dtype=torch.uint8).sum()
    with Peak() as nothing:
        pass
    if peak.extra_mib is None:
        pytest.skip("memory is read from /proc, which this system does not have")
    assert peak.extra_mib > 40 > nothing.extra_mib


def test_seconds_a_patch_come_from_the_table_of_extract(tmp_path):
    features = tmp_path / "features" / "lite0"
    features.mkdir(parents=True)
    assert seconds_a_patch(features) == {}
    rows = ["slide_id,patches,seconds_read,seconds_encode", "a,100,1.0,5.0", "b,300,1.0,3.0", "c,0,0.0,0.0", "d,9,,"]
    (tmp_path / "slides.csv").write_text("\n".join(rows) + "\n")
    assert seconds_a_patch(features) == pytest.approx({"read": 0.005, "encode": 0.02})
    assert seconds_a_patch(tmp_path) == seconds_a_patch(features)


def test_seconds_of_another_encoder_do_not_count(tmp_path):
    rows = ["slide_id,patches,seconds_read,seconds_encode,encoder", "a,100,1.0,5.0,lite0", "b,300,1.0,3.0,other"]
    (tmp_path / "slides.csv").write_text("\n".join([*rows, "c,100,1.0,1.0,"]) + "\n")
    (tmp_path / "features" / "lite0").mkdir(parents=True)
    found = seconds_a_patch(tmp_path / "features" / "lite0", "lite0")
    assert found == pytest.approx({"read": 0.01, "encode": 0.03})
    (tmp_path / "slides.csv").write_text("\n".join(rows) + "\n")
    assert seconds_a_patch(tmp_path, "third") == {}
