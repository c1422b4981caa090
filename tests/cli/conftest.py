"""A small cohort on disk: slides of coloured discs, features in which one patch of a bag decides."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest

from dtcwsi.cli.main import status_of
from dtcwsi.slides.pyramid import write_pyramid
from dtcwsi.store.features import features_writer
from dtcwsi.types import PatchGrid


@dataclass(frozen=True)
class Outcome:
    status: int
    out: str
    err: str


@pytest.fixture
def run(capsys):
    """Run a command line in this process; gives its exit status and what it printed."""

    def call(*arguments):
        capsys.readouterr()
        status = status_of([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return Outcome(status, said.out, said.err)

    return call


def write_bag(path: Path, features: np.ndarray, encoder: str = "test") -> None:
    count = len(features)
    cells = np.stack([np.arange(count) % 8, np.arange(count) // 8], axis=1) * 256
    grid = PatchGrid(cells.astype(np.int64), np.ones(count, np.float32), 256, 256, 0.5)
    attributes = {"digest": "0", "encoder": encoder, "encoder_digest": "0"}
    with features_writer(path, grid, features.shape[1], attributes) as writer:
        writer.append(features.astype(np.float32))


@pytest.fixture(scope="session")
def cohort(tmp_path_factory) -> Path:
    """20 slides of 16 patients: ``features/*.h5`` (30 patches of width 8) and ``labels.csv``."""
    folder = tmp_path_factory.mktemp("cohort")
    rng = np.random.default_rng(0)
    rows = ["slide_id,label,patient_id"]
    for number in range(20):
        bag = rng.normal(size=(30, 8))
        bag[rng.integers(30), 0] += 8 if number % 2 else -8
        write_bag(folder / "features" / f"s{number:02d}.h5", bag)
        rows.append(f"s{number:02d},{'b' if number % 2 else 'a'},p{number % 16:02d}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture(scope="session")
def trained(cohort, tmp_path_factory) -> Path:
    """A finished run of two folds."""
    out = tmp_path_factory.mktemp("runs") / "dtc"
    arguments = ["train", "--features", cohort / "features", "--labels", cohort / "labels.csv", "--out", out]
    assert status_of([*map(str, arguments), "--folds", "2", "--epochs", "12", "--model", "dtc-abmil"]) == 0
    return out


@pytest.fixture(scope="session")
def slides(tmp_path_factory) -> Path:
    """Two slides with a disc of tissue, and one of bare glass."""
    folder = tmp_path_factory.mktemp("slides")
    rng = np.random.default_rng(0)
    for name, radius in (("one", 600), ("two", 450), ("glass", 0)):
        picture = np.full((1536, 1536, 3), 243, np.uint8)
        if radius:
            cv2.circle(picture, (768, 768), radius, (190, 90, 150), -1)
            picture = np.clip(picture + rng.normal(0, 6, picture.shape), 0, 255).astype(np.uint8)
        write_pyramid(folder / f"{name}.tif", picture, spacing_um=0.5)
    return folder
