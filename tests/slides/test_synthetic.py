import csv
import shutil
from collections import Counter, defaultdict
from dataclasses import replace

import cv2
import numpy as np
import openslide
import pytest

from dtcwsi.errors import CohortError
from dtcwsi.slides.synthetic import LABELS, SyntheticSlide, plan_cohort, render_slide, write_cohort
from dtcwsi.slides.synthetic.layout import draw_layout

SIDE_PX = 768
SMALL = {"slides": 3, "side_px": 512, "seed": 1}


def slide_of(number=0, **changes):
    slide = SyntheticSlide(
        slide_id=f"s{number}",
        patient_id=f"p{number}",
        label=LABELS[0],
        seed=number,
        patient_seed=100 + number,
        side_px=SIDE_PX,
    )
    return replace(slide, **changes)


def lesion_share(slide):
    layout = draw_layout(slide)
    lesion = np.full(layout.inside_px.shape, -1.0)
    rows, columns = layout.lesion.inside_px.shape
    row, column = layout.lesion.row, layout.lesion.column
    lesion[row : row + rows, column : column + columns] = layout.lesion.inside_px
    tissue = layout.inside_px > 0
    return ((lesion > 0) & tissue).sum() / tissue.sum()


@pytest.fixture(scope="module")
def pair():
    """The same slide under both labels."""
    return [render_slide(slide_of(3, label=label)) for label in LABELS]


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return write_cohort(tmp_path_factory.mktemp("cohort"), **SMALL, workers=1)


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_label_changes_nothing_outside_the_lesion(pair):
    (first, first_mask), (second, second_mask) = pair
    assert np.array_equal(first_mask, second_mask)
    near_lesion = cv2.dilate(first_mask, np.ones((5, 5), np.uint8)) > 0
    changed = (first != second).any(axis=2)
    assert not (changed & ~near_lesion).any()
    assert changed[first_mask > 0].mean() > 0.9


def test_a_slide_looks_like_tissue_on_glass(pair):
    rgb, lesion_mask = pair[0]
    assert rgb.shape == (SIDE_PX, SIDE_PX, 3)
    assert set(np.unique(lesion_mask)) == {0, 255}
    border = np.concatenate([rgb[:8].reshape(-1, 3), rgb[:, :8].reshape(-1, 3)])
    assert np.median(border) > 215
    inside = rgb[lesion_mask > 0].astype(int)
    red, green, blue = inside.mean(axis=0)
    assert green < red
    assert green < blue


def test_rendering_is_deterministic(pair):
    again, mask = render_slide(slide_of(3))
    assert np.array_equal(again, pair[0][0])
    assert np.array_equal(mask, pair[0][1])


@pytest.mark.parametrize("difficulty", [0.0, 0.5, 1.0])
def test_the_lesion_covers_two_to_ten_per_cent_of_the_tissue(difficulty):
    shares = [lesion_share(slide_of(number, side_px=4096, difficulty=difficulty)) for number in range(6)]
    assert min(shares) > 0.02
    assert max(shares) < 0.1


def test_difficulty_shrinks_the_lesion_and_widens_the_variation():
    slides = [slide_of(0, side_px=4096, difficulty=difficulty) for difficulty in (0.0, 0.25, 0.5, 0.75, 1.0)]
    shares = [lesion_share(slide) for slide in slides]
    assert shares == sorted(shares, reverse=True)
    assert np.all(np.diff([slide.nuisance for slide in slides]) > 0)


def test_no_patient_has_two_labels_and_classes_are_balanced():
    slides = plan_cohort()
    labels = defaultdict(set)
    for slide in slides:
        labels[slide.patient_id].add(slide.label)
    assert {len(of_patient) for of_patient in labels.values()} == {1}
    assert Counter(slide.label for slide in slides) == dict.fromkeys(LABELS, 30)
    assert 35 <= len(labels) <= 45
    assert Counter(Counter(slide.patient_id for slide in slides).values()).keys() == {1, 2}
    assert len({slide.seed for slide in slides}) == 60


def test_names_and_spacings_do_not_tell_the_class():
    slides = [slide for seed in range(10) for slide in plan_cohort(seed=seed)]
    whorled = np.array([slide.label == "whorled" for slide in slides])
    number = np.array([int(slide.slide_id.removeprefix("slide-")) for slide in slides])
    patient = np.array([int(slide.patient_id.removeprefix("patient-")) for slide in slides])
    spacing_um = np.array([slide.spacing_um for slide in slides])
    assert set(spacing_um) == {0.46, 0.5, 0.52}
    for nuisance in (number, patient, spacing_um):
        assert abs(np.corrcoef(nuisance, whorled)[0, 1]) < 0.15


def test_a_cohort_on_disk(cohort):
    rows = list(csv.DictReader((cohort / "labels.csv").open()))
    assert list(rows[0]) == ["slide_id", "label", "patient_id"]
    assert len(rows) == 3
    planned = {slide.slide_id: slide for slide in plan_cohort(**SMALL)}
    for row in rows:
        truth = cv2.imread(str(cohort / "truth" / f"{row['slide_id']}.png"), cv2.IMREAD_UNCHANGED)
        assert truth.shape == (32, 32)
        assert set(np.unique(truth)) == {0, 255}
        with openslide.OpenSlide(cohort / "slides" / f"{row['slide_id']}.tif") as slide:
            assert slide.dimensions == (512, 512)
            assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(planned[row["slide_id"]].spacing_um)
            assert row["label"] not in "".join(slide.properties.values())


def test_the_files_do_not_depend_on_the_workers(cohort, tmp_path):
    seen = []
    write_cohort(tmp_path, **SMALL, workers=2, on_slide=seen.append)
    assert contents(tmp_path) == contents(cohort)
    assert sorted(seen) == [f"slide-00{number}" for number in (1, 2, 3)]


def test_finished_slides_are_kept_and_missing_ones_drawn(cohort, tmp_path):
    folder = shutil.copytree(cohort, tmp_path / "copy")
    kept, lost = folder / "slides" / "slide-001.tif", folder / "slides" / "slide-002.tif"
    date = kept.stat().st_mtime_ns
    lost.write_bytes(b"half a slide")
    write_cohort(folder, **SMALL, workers=1)
    assert contents(folder) == contents(cohort)
    assert kept.stat().st_mtime_ns == date


def test_changed_parameters_are_noticed(cohort, tmp_path):
    folder = shutil.copytree(cohort, tmp_path / "copy")
    before = contents(folder)
    (folder / "slides" / "mine.tif").write_bytes(b"not ours")
    write_cohort(folder, slides=2, side_px=512, seed=1, difficulty=0.9, workers=1)
    after = contents(folder)
    assert {path.name for path in (folder / "slides").iterdir()} == {"slide-001.tif", "slide-002.tif", "mine.tif"}
    assert {path.name for path in (folder / "truth").iterdir()} == {"slide-001.png", "slide-002.png"}
    drawn = [path for path in after if path.name in ("slide-001.tif", "slide-002.tif")]
    assert all(after[path] != before[path] for path in drawn)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"slides": 1}, "1 slides asked for, expected at least 2"),
        ({"side_px": 500}, "side is 500 px, expected a multiple of 16"),
        ({"seed": -1}, "seed is -1, expected 0 or more"),
        ({"difficulty": 1.5}, "difficulty is 1.5, expected 0 to 1"),
    ],
)
def test_errors_come_before_any_file(tmp_path, options, message):
    with pytest.raises(CohortError, match=message):
        write_cohort(tmp_path / "new", **options)
    assert not (tmp_path / "new").exists()
