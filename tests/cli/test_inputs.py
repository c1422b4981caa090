from pathlib import Path
from types import SimpleNamespace

import h5py

from dtcwsi.cli.inputs import Reading, bring_features
from dtcwsi.store.features import read_header


def test_new_slides_are_treated_as_the_runs_slides_were(run, slides, tmp_path):
    """Stain and quality of the training slides' features are those of the new slide's."""
    asked = ("--encoder", "colour-texture", "--stain", "macenko", "--max-pen", "0.3", "--patch-size", "128")
    assert run("extract", slides / "one.tif", "--out", tmp_path / "trained", "--workers", "0", *asked).status == 0
    made_by = read_header(tmp_path / "trained/features/colour-texture+macenko/one.h5").made_by
    trained = SimpleNamespace(folder=Path("run"), models=[None], n_folds=1, made_by=made_by, version=None)
    (found,) = bring_features(trained, [slides / "two.tif"], Reading(tmp_path / "new", workers=0))
    assert found.features is not None
    assert read_header(found.features).made_by == made_by
    with h5py.File(tmp_path / "new/patches/two.h5") as file:
        assert len(file["pen"]) == len(file["coords"]) > 0
