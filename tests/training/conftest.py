"""Needle cohorts: the label is which rare kind of patch a slide holds, among twelve common kinds."""

import csv
import shutil
from dataclasses import replace
from functools import partial

import h5py
import numpy as np
import pytest
import torch

from dtcwsi.bags.cohort import read_cohort
from dtcwsi.training.crossval import cross_validate

DIM, KINDS = 64, 12


@pytest.fixture(autouse=True, scope="package")
def _one_thread():
    """Batches here are so small that threads cost more than they give."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def write_slide(path, features):
    side = int(np.ceil(np.sqrt(len(features))))
    grid = np.stack(np.meshgrid(np.arange(side), np.arange(side)), axis=-1).reshape(-1, 2)
    with h5py.File(path, "w") as file:
        file["features"] = features.astype(np.float32)
        file["coords"] = grid[: len(features)] * 256
        if not path.stem.endswith("1"):  # some tell which file they were made from
            file.attrs["slide_fingerprint"] = f"of {path.stem}"


def needle_features(label, classes, rng):
    kinds = np.random.default_rng(7).normal(size=(KINDS + classes, DIM))
    background = rng.choice(KINDS, size=rng.integers(50, 90), p=rng.dirichlet(np.ones(KINDS)))
    which = np.concatenate([background, np.full(3, KINDS + label)])
    return rng.permutation(kinds[which] + rng.normal(size=(len(which), DIM)))


def write_needle_cohort(folder, slides=40, *, classes=2, slides_per_patient=2, seed=0):
    """Write a cohort and read it back; slides of one patient share the label."""
    rng = np.random.default_rng(seed)
    (folder / "features").mkdir()
    rows = []
    for number in range(slides):
        patient = number // slides_per_patient
        label = patient % classes
        write_slide(folder / "features" / f"s{number:02d}.h5", needle_features(label, classes, rng))
        rows.append((f"s{number:02d}", f"kind {label}", f"p{patient:02d}"))
    with (folder / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("slide_id", "label", "patient_id"))
        writer.writerows(rows)
    return read_cohort(folder / "labels.csv", folder / "features")


@pytest.fixture
def needle_cohort(tmp_path):
    return partial(write_needle_cohort, tmp_path)


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A folder with a cohort of three classes and a run of it, for `run` to copy."""
    folder = tmp_path_factory.mktemp("finished")
    cohort = write_needle_cohort(folder, 24, classes=3)
    return folder, cross_validate(cohort, out=folder / "run", seed=5, model="dtc-abmil", folds=2, epochs=2)


@pytest.fixture
def run(finished, tmp_path):
    """A cohort and its finished run, free to be changed."""
    folder, record = finished
    shutil.copytree(folder, tmp_path / "copy")
    cohort = read_cohort(tmp_path / "copy" / "labels.csv", tmp_path / "copy" / "features")
    return cohort, replace(record, folder=tmp_path / "copy" / "run")
