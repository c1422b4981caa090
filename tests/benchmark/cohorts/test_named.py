import csv
import json

import cv2
import numpy as np
import pytest
import tifffile

from dtcwsi.bags.cohort import read_cohort
from dtcwsi.benchmark.cohorts import named
from dtcwsi.benchmark.cohorts.composed import compose_cohort
from dtcwsi.benchmark.cohorts.mil_sets import write_mil_set
from dtcwsi.benchmark.cohorts.named import make_named
from dtcwsi.cli.main import status_of
from dtcwsi.errors import DtcwsiError, UsageError
from dtcwsi.store.features import read_features


@pytest.fixture
def bags_of_elephants(tmp_path):
    """Twenty bags of the real set's layout; positives hold one instance that tells."""
    rng = np.random.default_rng(0)
    sizes = rng.integers(2, 9, size=20)
    label = np.arange(20) % 2
    bag = np.repeat(np.arange(20), sizes)
    features = rng.normal(3, 2, size=(len(bag), 6)).astype(np.float32)
    features[[np.flatnonzero(bag == number)[0] for number in np.flatnonzero(label)], 0] = 20
    path = tmp_path / "elephant.npz"
    np.savez(path, features=features, bag=bag, label=label)
    return path, features, bag, label


def test_a_mil_set_becomes_files_of_standardised_instances(bags_of_elephants, tmp_path):
    path, features, bag, label = bags_of_elephants
    labels, folder = make_named("elephant", path, tmp_path / "made")
    cohort = read_cohort(labels, folder)
    assert [int(name.removeprefix("class ")) for name in cohort.labels] == label.tolist()
    assert len(set(cohort.patients)) == 20
    assert not any(header.has_coords for header in cohort.headers)
    wanted = (features - features.mean(axis=0)) / features.std(axis=0)
    for number, header in enumerate(cohort.headers):
        np.testing.assert_allclose(read_features(header.path).features, wanted[bag == number], atol=1e-5)


def test_bench_makes_a_table_on_a_named_cohort_and_finds_it_done(bags_of_elephants, tmp_path, capsys):
    path, *_ = bags_of_elephants
    given = ["table8", "--cohort", "elephant", "--from", str(path), "--out", str(tmp_path / "out")]
    given += ["--folds", "2", "--epochs", "1"]
    assert status_of(["bench", *given]) == 0
    page = json.loads((tmp_path / "out" / "table8.json").read_text())
    assert page["cohort"].startswith("elephant: elephant, 200 bags")
    assert page["slides"] == 20
    made = (tmp_path / "out" / "cohorts" / "elephant" / "labels.csv").stat().st_mtime_ns
    assert status_of(["bench", *given]) == 0
    assert (tmp_path / "out" / "cohorts" / "elephant" / "labels.csv").stat().st_mtime_ns == made
    assert "cohort elephant" in capsys.readouterr().err


def test_needles_are_drawn_with_places_and_both_classes(tmp_path):
    labels, folder = make_named("needle", None, tmp_path)
    cohort = read_cohort(labels, folder)
    assert sorted(set(cohort.labels)) == ["class 0", "class 1"]
    assert all(header.has_coords and 200 <= header.n_patches <= 600 for header in cohort.headers)
    first = cohort.headers[0].path.read_bytes()
    make_named("needle", None, tmp_path / "again")
    assert (tmp_path / "again" / "features" / "given" / cohort.headers[0].path.name).read_bytes() == first


def test_a_cohort_that_was_killed_in_the_making_is_made_whole(tmp_path, monkeypatch):
    def killed(out, bags):
        (out / "features" / "given").mkdir(parents=True)
        (out / "labels.csv").write_text("slide_id,label\n")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(named, "write_feature_cohort", killed)
        with pytest.raises(KeyboardInterrupt):
            make_named("needle", None, tmp_path / "made")
    labels, folder = make_named("needle", None, tmp_path / "made")
    assert len(read_cohort(labels, folder).slides) == 120


def test_a_cohort_of_another_source_is_told(bags_of_elephants, tmp_path):
    path, *_ = bags_of_elephants
    make_named("elephant", path, tmp_path / "made")
    other = path.rename(tmp_path / "other.npz")
    with pytest.raises(UsageError, match=r"was made from .*elephant.npz; name another --out or delete it"):
        make_named("elephant", other, tmp_path / "made")


def test_slides_that_cannot_be_extracted_are_told(tmp_path, monkeypatch):
    def drawn(out, **_):
        (out / "slides").mkdir(exist_ok=True)
        (out / "slides" / "a.tif").write_bytes(b"no slide")
        (out / "labels.csv").write_text("slide_id,label\na,b\n")

    monkeypatch.setattr(named, "write_cohort", drawn)
    monkeypatch.setattr(named, "_ENCODER", "colour-texture")
    for _ in range(2):  # it is no whole cohort afterwards either
        with pytest.raises(DtcwsiError, match=r"1 of 1 slides could not be extracted, the first a \("):
            make_named("demo", None, tmp_path / "made")


def test_slides_are_composed_of_tiles_of_one_pool(tmp_path):
    shades = {}
    for kind, name in enumerate(("lung_n", "lung_aca", "lung_scc")):
        (tmp_path / "tiles" / name).mkdir(parents=True)
        for number in range(10):
            shade = 20 + 70 * kind + 6 * number
            cv2.imwrite(str(tmp_path / "tiles" / name / f"{number}.jpeg"), np.full((768, 768, 3), shade, np.uint8))
            shades[shade] = (name, number)
    compose_cohort(tmp_path / "tiles", tmp_path / "made", seed=0, slides_a_class_and_pool=2)
    with (tmp_path / "made" / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 20
    pools = {}
    for row in rows:
        picture = tifffile.imread(tmp_path / "made" / "slides" / f"{row['slide_id']}.tif")
        middles = picture[256 + 384 : 256 + 5 * 768 : 768, 256 + 384 : 256 + 6 * 768 : 768, 0].astype(int)
        tiles = [shades[min(shades, key=lambda shade: abs(shade - value))] for value in middles.ravel().tolist()]
        tumours = [name for name, _ in tiles if name != "lung_n"]
        assert 1 <= len(tumours) <= 2
        assert set(tumours) == {f"lung_{row['label']}"}
        truth = cv2.imread(str(tmp_path / "made" / "truth" / f"{row['slide_id']}.png"), cv2.IMREAD_GRAYSCALE)
        assert [side * 16 for side in truth.shape] == list(picture.shape[:2])
        mask = truth.repeat(16, axis=0).repeat(16, axis=1)
        lesion = np.reshape([255 * (name != "lung_n") for name, _ in tiles], (5, 6))
        np.testing.assert_array_equal(mask[256:-256:768, 256:-256:768], lesion)
        np.testing.assert_array_equal(mask[1023:-256:768, 1023:-256:768], lesion)
        assert not mask[:256].any()
        assert not mask[:, -256:].any()
        pools.setdefault(row["fold"], set()).update(tiles)
    assert sum(len(tiles) for tiles in pools.values()) == len(set.union(*pools.values()))
    compose_cohort(tmp_path / "tiles", tmp_path / "made", seed=0, slides_a_class_and_pool=2)
    first = min((tmp_path / "tiles" / "lung_n").glob("*.jpeg"))
    first.rename(first.with_name("zz.jpeg"))
    with pytest.raises(UsageError, match="made holds slides composed of other tiles; name another folder"):
        compose_cohort(tmp_path / "tiles", tmp_path / "made", seed=0, slides_a_class_and_pool=2)


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        ({"features": np.zeros((3, 2)), "bag": np.array([0, 0, 1])}, "cannot be read"),
        ({"features": np.zeros(3), "bag": np.zeros(3), "label": np.zeros(1)}, r"has features \(3,\)"),
        ({"features": np.zeros((3, 2)), "bag": np.array([0, 0, 2]), "label": np.zeros(3)}, "every number of a bag"),
    ],
)
def test_files_that_are_no_mil_set_are_told(tmp_path, arrays, told):
    np.savez(tmp_path / "fox.npz", **arrays)
    with pytest.raises(UsageError, match=told):
        write_mil_set(tmp_path / "fox.npz", tmp_path / "made")
    assert not (tmp_path / "made").exists()


def test_files_that_are_no_archive_are_told(tmp_path):
    np.save(tmp_path / "fox.npy", np.zeros(3))
    (tmp_path / "fox.npz").write_bytes(b"PK\x03\x04 cut off")
    for name in ("fox.npy", "fox.npz"):
        with pytest.raises(UsageError, match="cannot be read"):
            write_mil_set(tmp_path / name, tmp_path / "made")


def test_tiles_of_another_size_are_told(tmp_path):
    for name in ("lung_n", "lung_aca", "lung_scc"):
        (tmp_path / name).mkdir()
        for number in range(10):
            cv2.imwrite(str(tmp_path / name / f"{number}.jpeg"), np.zeros((96, 64, 3), np.uint8))
    with pytest.raises(UsageError, match=r"jpeg has 64 x 96 px; expected 768 x 768 px"):
        compose_cohort(tmp_path, tmp_path / "made", seed=0)


def test_too_few_tiles_are_told(tmp_path):
    (tmp_path / "lung_n").mkdir()
    with pytest.raises(UsageError, match=r"lung_n holds 0 \.jpeg tiles; expected 10 or more"):
        compose_cohort(tmp_path, tmp_path / "made", seed=0)
