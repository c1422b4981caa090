import pytest

from dtcwsi.bags.near_duplicates import NearDuplicate
from dtcwsi.bags.split_audit import audit_splits
from dtcwsi.bags.split_files import Partition, Splits

OWNERS = {slide: f"patient {slide}" for slide in "abcdefghijklmnopqrstuvwxyz"}


def partition(name="one", *, train=(), val=(), test=(), chosen=True):
    return Partition(name, {"train": tuple(train), "val": tuple(val), "test": tuple(test)}, chosen)


def told(*partitions, patients=None, labels=None, alike=()):
    audit = audit_splits(Splits(partitions, patients or OWNERS, labels or {}), alike)
    return [(finding.kind, finding.what) for finding in audit.findings]


def test_a_clean_split_has_no_finding():
    labels = {slide: "xy"[number % 2] for number, slide in enumerate("abcdef")}
    assert told(partition(train="abcd", val="", test="ef"), labels=labels) == []


def test_slides_without_patients_are_noted():
    labels = {slide: "xy"[number % 2] for number, slide in enumerate("abcdef")}
    (found,) = told(partition(train="abcd", val="", test="ef"), labels=labels, patients={"a": "a"})
    assert found == (
        "note",
        "no patient is told: every slide counts as one of its own, and patients in two parts are not seen",
    )


def test_a_slide_in_two_parts_leaks():
    assert told(partition(train="ab", val="bc", test="d")) == [("leak", "1 slide in both train and val")]
    found = told(partition(train="a", val="bc", test="bc"))
    assert found == [("leak", "2 slides in both val and test: what chose the model is tested")]


def test_a_patient_in_two_parts_leaks():
    patients = {"a": "p", "b": "q", "c": "p"}
    found = told(partition(train="ab", test="c"), patients=patients)
    assert found == [("leak", "1 patient with slides in both train and test")]


def test_patients_of_barcodes_leak_without_a_table():
    found = told(partition(train=["TCGA-05-4244-01Z-00-DX1"], test=["TCGA-05-4244-01Z-00-DX2"]))
    assert ("leak", "1 patient with slides in both train and test") in found


def test_near_duplicates_leak_across_parts_only():
    within, across = NearDuplicate("a", "b", 0.9), NearDuplicate("c", "a", 1.0)
    audit = audit_splits(Splits((partition(train="ab", test="c"),), OWNERS, {}), [within, across])
    assert [(f.kind, f.what, f.names) for f in audit.findings] == [
        ("leak", "1 pair of near-duplicate slides, one in train and one in test", ("c = a (100%)",))
    ]
    assert audit.leaks == audit.findings


def test_empty_parts_and_repeats_are_warned_of():
    assert told(partition(train="aab")) == [
        ("warning", "1 slide listed twice in train"),
        ("warning", "no slide is in test"),
    ]


def test_classes_that_are_missing_or_lean_are_warned_of():
    labels = dict.fromkeys("abcdefghij", "x") | dict.fromkeys("klmnopqrst", "y") | {"z": "rare"}
    assert told(partition(train="abklz", test="cm"), labels=labels) == [
        ("warning", "test has no slide of class 'rare'")
    ]
    assert told(partition(train="abkl", test="cmz"), labels=labels) == [
        ("warning", "train has no slide of class 'rare'")
    ]
    found = told(partition(train="abcdefghik", test="jlmnopqrst"), labels=labels)
    assert found == [("warning", "class 'x' is 90% of train and 10% of test")]
    assert told(partition(train="abk", test="cl"), labels=labels) == []  # a lean that chance explains


def test_tests_that_recur_are_warned_of_and_one_for_all_is_noted():
    one, two = partition("one", train="ab", test="cd"), partition("two", train="ab", test="d")
    assert told(one, two) == [
        ("warning", "1 slide tested in several partitions: their results are not independent"),
        ("note", "2 slides never tested"),
    ]
    held_out = told(one, partition("two", train="b", test="cd"))
    assert held_out == [("note", "one test set of 2 slides for all: it is held out")]


def test_folds_without_validation_are_noted():
    found = told(partition(train="a", test="b", chosen=False))
    assert found == [("note", "no validation part is named; draw it from train, never from test")]


@pytest.mark.parametrize("tell", [True, False])
def test_sites_that_tell_the_label_are_warned_of(tell):
    slides = [f"TCGA-{site}-{number:04d}" for site in ("AA", "BB", "CC") for number in range(20)]
    labels = {slide: "x" if (slide[5] == "A" if tell else int(slide[-1]) % 2) else "y" for slide in slides}
    audit = audit_splits(Splits((partition(train=slides[:50], test=slides[50:]),), {}, labels))
    warnings = [finding.what for finding in audit.findings if finding.what.startswith("sites tell")]
    assert bool(warnings) == tell
    assert any("10 of 10 test slides are of a site that was trained on" in finding.what for finding in audit.findings)


def test_sites_of_a_table_count_as_those_of_barcodes():
    slides = [f"s{number}" for number in range(40)]
    sites = {slide: "north" if number < 20 else "south" for number, slide in enumerate(slides)}
    labels = {slide: "x" if site == "north" else "y" for slide, site in sites.items()}
    audit = audit_splits(Splits((partition(train=slides[::2], test=slides[1::2]),), {}, labels, sites))
    assert [finding.what for finding in audit.findings][0].startswith("sites tell the label (Cramer's V 1.00)")


def test_every_part_is_counted():
    audit = audit_splits(Splits((partition(train="ab", test="c"),), {"a": "p", "b": "p"}, {"a": "x", "b": "y"}))
    train, val, test = audit.counts
    assert (train.slides, train.patients, train.classes) == (2, 1, {"x": 1, "y": 1})
    assert (val.slides, test.slides, test.classes) == (0, 1, {})
