"""What holds on a GPU: what a CPU computes, every model and compressor, from features to a finished run."""

import csv

import h5py
import numpy as np
import pytest
import torch

import dtcwsi
from dtcwsi.aggregators import AGGREGATORS
from dtcwsi.bags.cohort import read_cohort
from dtcwsi.compressors import COMPRESSORS, create_compressor
from dtcwsi.errors import OptionError
from dtcwsi.training.crossval import cross_validate

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    pytest.mark.usefixtures("_no_tf32"),
]
DIM, GPU = 64, torch.device("cuda")
TRAINED = [*AGGREGATORS.names(), "dtc-abmil", "dtc-clam-sb", "dtc-transmil", "random-abmil", "tome-abmil"]


@pytest.fixture
def _no_tf32():
    with torch.backends.cudnn.flags(allow_tf32=False):  # it is torch's default for convolutions, and rounds to 1e-3
        yield


def build(name, **options):
    torch.manual_seed(0)
    return dtcwsi.create_model(name, in_dim=DIM, n_classes=3, **options)


@pytest.fixture
def slides(make_bags):
    return dtcwsi.pack(make_bags([300, 1, 0, 40], dim=DIM))


@pytest.mark.parametrize("name", dtcwsi.list_models())
@torch.no_grad()
def test_models_predict_what_they_predict_on_a_cpu(name, slides):
    model = build(name).eval()
    here = model(slides)
    there = model.to(GPU)(slides.to(GPU))
    torch.testing.assert_close(there.logits.cpu(), here.logits, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(there.attention.cpu(), here.attention, atol=1e-5, rtol=1e-3)
    assert torch.equal(there.patch_to_token.cpu(), here.patch_to_token)
    assert torch.equal(there.patch_stage.cpu(), here.patch_stage)


@pytest.mark.parametrize("name", COMPRESSORS.names())
@pytest.mark.parametrize("retention", [0.02, 0.4, 0.9])
@torch.no_grad()
def test_compressors_keep_what_they_keep_on_a_cpu(name, retention, make_bags):
    options = {} if name == "identity" else {"retention": retention}
    slides = dtcwsi.pack(make_bags([5000, 17, 900], dim=DIM, seed=1))
    torch.manual_seed(0)
    compressor = create_compressor(name, dim=DIM, **options).eval()
    here = compressor(slides)
    there = compressor.to(GPU)(slides.to(GPU))
    assert torch.equal(there.patch_to_token.cpu(), here.patch_to_token)
    torch.testing.assert_close(there.features.cpu(), here.features, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["abmil", "clam-sb", "clam-mb", "dsmil", "mean", "max", "dtc-abmil", "dtc-clam-sb"])
def test_gradients_are_those_of_a_cpu(name, slides):
    labels = torch.tensor([0, 1, 2, 1])
    grads = []
    for device in (torch.device("cpu"), GPU):
        model = build(name).to(device).train()
        for part in model.modules():
            if isinstance(part, torch.nn.Dropout):
                part.p = 0.0
        model.loss(model(slides.to(device)), labels.to(device)).backward()
        grads.append({key: weight.grad for key, weight in model.named_parameters() if weight.grad is not None})
    assert grads[0].keys() == grads[1].keys()
    for key, grad in grads[0].items():
        torch.testing.assert_close(grads[1][key].cpu(), grad, atol=1e-5, rtol=1e-3)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """A folder of slides of noise; those of one class hold three patches of a kind of their own."""
    folder = tmp_path_factory.mktemp("gpu")
    rng = np.random.default_rng(0)
    kind = rng.normal(size=DIM) * 3
    with (folder / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("slide_id", "label"))
        for number in range(24):
            rows = rng.normal(size=(int(rng.integers(60, 100)), DIM)).astype(np.float32)
            rows[:3] += kind.astype(np.float32) * (number % 2)
            with h5py.File(folder / f"s{number:02d}.h5", "w") as slide:
                slide["features"] = rows
                slide["coords"] = np.stack(np.divmod(np.arange(len(rows)), 10), axis=1) * 256
            writer.writerow((f"s{number:02d}", "odd" if number % 2 else "even"))
    return folder


def train(cohort, out, model, **options):
    record = cross_validate(read_cohort(cohort / "labels.csv", cohort), model=model, out=out, folds=2, **options)
    assert record.complete, record.failed_folds
    return record


def predicted(record):
    with (record.folder / "predictions.csv").open(newline="") as file:
        return {row["slide_id"]: row for row in csv.DictReader(file)}


@pytest.mark.parametrize("recipe", ["common", "published"])
@pytest.mark.parametrize("name", TRAINED)
def test_runs_come_to_their_end_and_predict_the_same_on_a_cpu(name, recipe, cohort, tmp_path):
    record = train(cohort, tmp_path / "run", name, epochs=2, recipe=recipe, device="cuda")
    model, within = dtcwsi.load(record.folder / "fold0"), 5e-4 if name == "panther" else 1e-4  # its softmax is sharp
    for slide, told in predicted(record).items():
        if told["fold"] == "0":
            out = model(dtcwsi.load_bag(cohort / f"{slide}.h5"))
            assert float(out.logits.softmax(dim=1)[0, 1].detach()) == pytest.approx(float(told["prob_odd"]), abs=within)


def test_pretraining_runs_on_a_gpu(cohort, tmp_path):
    train(cohort, tmp_path / "run", "spt", epochs=1, pretrain_steps=2, device="cuda")


def test_weights_trained_on_a_gpu_are_those_of_a_cpu_but_for_the_order_of_sums(cohort, tmp_path):
    probabilities = []
    for device in ("cpu", "cuda"):
        record = train(cohort, tmp_path / device, "dtc-abmil", epochs=3, device=device)
        probabilities.append([float(row["prob_odd"]) for row in predicted(record).values()])
    np.testing.assert_allclose(probabilities[1], probabilities[0], atol=1e-3)


def test_more_gpus_than_there_are_is_refused(cohort, tmp_path):
    there = torch.cuda.device_count()
    with pytest.raises(OptionError, match=f"there are {there} of cuda"):
        train(cohort, tmp_path / "run", "abmil", device="cuda", devices=there + 1)


@torch.inference_mode()
def test_memory_of_a_large_slide_is_that_of_its_features():
    torch.manual_seed(0)
    model = dtcwsi.create_model("dtc-abmil", in_dim=1536, n_classes=2, retention=0.4).eval().to(GPU)
    slide = dtcwsi.pack([dtcwsi.Bag(torch.randn(100_000, 1536))]).to(GPU)
    matrix = 100_000 * 1536 * 4
    model(slide)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    model(slide)
    assert torch.cuda.max_memory_allocated() - before < 1.5 * matrix
