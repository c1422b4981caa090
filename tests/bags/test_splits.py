from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dtcwsi.bags.split_files import Partition
from dtcwsi.bags.splits import assign_folds, given_splits, make_split
from dtcwsi.errors import CohortError


def cohort(per_class, slides_per_patient=2):
    labels, patients = [], []
    for number, count in enumerate(per_class):
        for patient in range(count):
            labels += [f"c{number}"] * slides_per_patient
            patients += [f"p{number}-{patient}"] * slides_per_patient
    return labels, patients


@settings(deadline=None)
@given(st.lists(st.integers(5, 14), min_size=2, max_size=4), st.integers(1, 3), st.integers(0, 50))
def test_no_patient_is_in_two_parts_and_every_class_is_trained_on(per_class, slides_per_patient, seed):
    labels, patients = cohort(per_class, slides_per_patient)
    folds = assign_folds(labels, patients, folds=5, seed=seed)
    assert set(folds) == set(range(5))
    for fold in range(5):
        split = make_split(labels, patients, folds, fold, seed=seed)
        assert sorted([*split.train, *split.val, *split.test]) == list(range(len(labels)))
        people = [{patients[i] for i in part} for part in (split.train, split.val, split.test)]
        assert len(set.union(*people)) == sum(map(len, people))
        assert {labels[i] for i in split.train} == {labels[i] for i in split.val} == set(labels)
        assert {folds[i] for i in split.test} == {fold}


@st.composite
def mixed_cohorts(draw):
    """Patients with slides of several classes, and at least two patients for each class."""
    classes = ["a", "b", "c"][: draw(st.integers(2, 3))]
    own = draw(st.lists(st.lists(st.sampled_from(classes), min_size=1, max_size=4), min_size=6, max_size=14))
    for label in classes:
        for patient in draw(st.lists(st.sampled_from(range(len(own))), min_size=2, max_size=3, unique=True)):
            own[patient].append(label)
    patients = [f"p{number:02d}" for number, labels in enumerate(own) for _ in labels]
    return [label for labels in own for label in labels], patients


@settings(deadline=None)
@given(mixed_cohorts(), st.integers(0, 50))
def test_every_class_is_trained_on_though_patients_have_several_labels(cohort, seed):
    labels, patients = cohort
    try:
        folds = assign_folds(labels, patients, folds=2, seed=seed)
        splits = [make_split(labels, patients, folds, fold, seed=seed) for fold in (0, 1)]
    except CohortError:
        return
    for split in splits:
        assert {labels[i] for i in split.train} == set(labels)
        people = [{patients[i] for i in part} for part in (split.train, split.val, split.test)]
        assert all(people)
        assert len(set.union(*people)) == sum(map(len, people))


def test_a_class_of_two_mostly_other_patients_stays_in_training():
    labels = ["a"] * 20 + ["a", "a", "b"] * 2
    patients = [f"p{i // 2}" for i in range(20)] + ["u"] * 3 + ["v"] * 3
    for seed in range(40):
        folds = tuple(int(patient in ("v", "p0", "p1", "p2", "p3", "p4")) for patient in patients)
        for fold in (0, 1):
            split = make_split(labels, patients, folds, fold, seed=seed)
            assert {labels[i] for i in split.train} == {"a", "b"}
            assert split.val


def test_a_fold_that_nobody_could_validate_is_told():
    labels, patients = ["a", "b"] * 2, list("wxyz")
    with pytest.raises(CohortError, match="fold 0 leaves no patient to validate on.*; 2 folds take 4 patients"):
        make_split(labels, patients, [0, 0, 1, 1], 0)
    with pytest.raises(CohortError, match="fold 1 tests every slide of class 'b'"):
        make_split(["a", "a", "a", "b"], patients, [0, 0, 1, 1], 1)


def test_parts_are_stratified():
    labels, patients = cohort([50, 25], slides_per_patient=1)
    folds = assign_folds(labels, patients, seed=3)
    for fold in range(5):
        split = make_split(labels, patients, folds, fold)
        assert Counter(labels[i] for i in split.test) == {"c0": 10, "c1": 5}
        assert Counter(labels[i] for i in split.val) == {"c0": 8, "c1": 4}
        assert split.part_of()[split.val[0]] == "val"


def test_the_seed_decides_the_folds():
    labels, patients = cohort([20, 20], slides_per_patient=1)
    assert assign_folds(labels, patients, seed=1) == assign_folds(labels, patients, seed=1)
    assert assign_folds(labels, patients, seed=1) != assign_folds(labels, patients, seed=2)


def test_a_patient_with_two_labels_stays_together():
    labels, patients = cohort([10, 10], slides_per_patient=1)
    labels, patients = [*labels, "c0", "c1"], [*patients, "both", "both"]
    folds = assign_folds(labels, patients, seed=0)
    assert folds[-1] == folds[-2]
    for fold in range(5):
        parts = make_split(labels, patients, folds, fold).part_of()
        assert parts[len(labels) - 1] == parts[len(labels) - 2]


def test_fixed_folds_are_used_as_they_are():
    labels, patients = ["a", "b"] * 3, list("uvwxyz")
    assert assign_folds(labels, patients, fixed=[0, 0, 1, 1, 2, 2]) == (0, 0, 1, 1, 2, 2)


@pytest.mark.parametrize(
    ("labels", "patients", "options", "message"),
    [
        (["a"] * 4, list("wxyz"), {}, "all 4 slides have the label 'a'; expected two classes or more"),
        (["a"] * 9 + ["b"] * 4, range(13), {}, "class 'b' has 4 patients; expected at least 5"),
        (["a"] * 9 + ["b"] * 6, ["u"] * 9 + list("uvwxyz"), {}, "class 'a' has 1 patient; expected at least 5"),
        (["a", "b"] * 5, range(10), {"folds": 1}, "got 1 folds; expected 2 or more"),
        (["a", "b"] * 2, list("wxyz"), {"fixed": [0, 0, 2, 2]}, r"holds \[0, 2\]; expected 0, 1, ... without gaps"),
        (["a", "b"] * 2, list("wxyz"), {"fixed": [0, 0, 1, 1], "folds": 3}, "got 3 folds, but the column"),
        (["a", "b"] * 2, list("wxyw"), {"fixed": [0, 0, 1, 1]}, "patient 'w' is in folds 0 and 1"),
        (["a", "b", "a", "a"], list("wxyz"), {"fixed": [0, 0, 1, 1]}, "fold 0 tests every slide of class 'b'"),
    ],
)
def test_what_cannot_be_split_is_told(labels, patients, options, message):
    with pytest.raises(CohortError, match=message):
        assign_folds(labels, [str(patient) for patient in patients], **options)


def test_whole_sites_stay_together():
    labels, patients = cohort([30, 30], slides_per_patient=1)
    sites = [f"s{number % 6}" for number in range(60)]
    folds = assign_folds(labels, patients, folds=3, sites=sites)
    for site in set(sites):
        assert len({fold for fold, own in zip(folds, sites, strict=True) if own == site}) == 1
    with pytest.raises(CohortError, match="class 'c0' has 6 sites; expected at least 7"):
        assign_folds(labels, patients, folds=7, sites=sites)
    with pytest.raises(CohortError, match="patient 'p' is of the sites 's0' and 's1'; expected one"):
        assign_folds(labels, ["p"] * 60, folds=3, sites=sites)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.integers(1, 8), st.integers(1, 8)), min_size=3, max_size=9), st.integers(0, 20))
def test_no_site_is_in_two_parts_if_every_site_has_all_classes(per_site, seed):
    labels = [label for counts in per_site for label, count in zip("ab", counts, strict=True) for _ in range(count)]
    sites = [f"s{number}" for number, counts in enumerate(per_site) for _ in range(sum(counts))]
    patients, folds = [str(i) for i in range(len(labels))], [int(site == "s0") for site in sites]
    split = make_split(labels, patients, folds, 1, seed=seed, sites=sites)
    assert sorted([*split.train, *split.val, *split.test]) == list(range(len(labels)))
    parts = [{sites[i] for i in part} for part in (split.train, split.val, split.test)]
    assert len(set.union(*parts)) == sum(map(len, parts))
    assert {labels[i] for i in split.train} == {labels[i] for i in split.val} == {"a", "b"}


def test_a_single_site_is_spared_where_no_fifth_of_them_can_be():
    """Seven classes are at one site each, more than parts: only sites without any of them may go."""
    labels, sites = ["a"] * 12, [f"s{number}" for number in range(12)]
    for label, own in (("b", "s1"), ("c", "s2"), ("d", "s3"), ("e", "s4"), ("f", "s5"), ("g", "s6"), ("h", "s7")):
        labels += [label] * 9
        sites += [own] * 9
    patients, folds = [str(i) for i in range(len(labels))], [int(site == "s0") for site in sites]
    for seed in range(5):
        split = make_split(labels, patients, folds, 1, seed=seed, sites=sites)
        assert {sites[i] for i in split.val} <= {"s8", "s9", "s10", "s11"}
        assert {sites[i] for i in split.train}.isdisjoint(sites[i] for i in split.val)


def test_sites_that_validate_have_about_a_fifth_of_the_slides_and_all_classes():
    labels, patients = cohort([60, 30], slides_per_patient=1)
    sites = [f"s{number % 10}" for number in range(90)]
    folds = [int(site in ("s0", "s1")) for site in sites]
    for seed in range(5):
        split = make_split(labels, patients, folds, 1, seed=seed, sites=sites)
        parts = [{sites[i] for i in part} for part in (split.train, split.val, split.test)]
        assert len(set.union(*parts)) == sum(map(len, parts)) == 10
        assert 9 <= len(split.val) <= 18
        assert {labels[i] for i in split.val} == {"c0", "c1"}
        assert split == make_split(labels, patients, folds, 1, seed=seed, sites=sites)


@pytest.mark.parametrize(
    ("sites", "why"), [(["s0"] * 4 + ["s1"] * 12, "a single site"), (["s0"] * 4 + ["s1", "s2"] * 6, "a site a class")]
)
def test_patients_validate_where_no_site_can_be_spared(sites, why):
    labels = ["a", "b"] * 8
    split = make_split(labels, [str(i) for i in range(16)], [int(site == "s0") for site in sites], 1, sites=sites)
    assert {sites[i] for i in split.train} & {sites[i] for i in split.val}, why
    assert Counter(labels[i] for i in split.val) == {"a": 1, "b": 1}


def partition(**parts):
    return Partition("file", {part: tuple(parts.get(part, ())) for part in ("train", "val", "test")})


def test_given_partitions_are_taken_over():
    one, two = partition(train="adz", val="be", test="c"), partition(train="ad", val="be", test="cf")
    splits = given_splits([one, two], "abcdef", "xyxyxy", "abcdef", seed=0)
    assert [(split.train, split.val, split.test) for split in splits] == [
        ((0, 3), (1, 4), (2,)),
        ((0, 3), (1, 4), (2, 5)),
    ]


def test_a_missing_validation_part_is_drawn_from_training_by_patient():
    labels, patients = cohort([10, 10], slides_per_patient=2)
    slides = [str(number) for number in range(40)]
    one = partition(train=slides[:16] + slides[20:36], test=slides[16:20] + slides[36:])
    (split,) = given_splits([one], slides, labels, patients, seed=0)
    assert sorted((*split.train, *split.val)) == sorted((*range(16), *range(20, 36)))
    assert {patients[i] for i in split.train}.isdisjoint(patients[i] for i in split.val)
    assert Counter(labels[i] for i in split.val) == {"c0": 4, "c1": 4}
    assert given_splits([one], slides, labels, patients, seed=0) == (split,)


def test_a_class_that_no_partition_trains_on_is_told():
    with pytest.raises(CohortError, match="no partition trains on class 'z' of the cohort; take its slides out"):
        given_splits([partition(train="ab", val="c", test="d")], "abcde", "xyxyz", "abcde", seed=0)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"train": "ab", "val": "c", "test": "de"}, "1 patient in both train and test, such as 'p' .slide 'e'."),
        (
            {"train": "ab", "val": "c", "test": "z"},
            "leaves no slide of the cohort in test; it names slides such as 'a', the cohort such as 'a'",
        ),
        ({"train": "ac", "val": "b", "test": "d"}, "tests class 'y', of which its training has no slide"),
    ],
)
def test_given_partitions_that_cannot_be_used_are_told(parts, message):
    with pytest.raises(CohortError, match=f"file .*{message}"):
        given_splits([partition(**parts)], "abcde", "xyxyy", "pbcdp", seed=0)


def test_a_slide_that_a_part_lists_twice_counts_once():
    (split,) = given_splits([partition(train="aadd", val="be", test="ccf")], "abcdef", "xyxyxy", "abcdef", seed=0)
    assert (split.train, split.val, split.test) == ((0, 3), (1, 4), (2, 5))


def test_given_partitions_of_one_class_are_told():
    with pytest.raises(CohortError, match="all 3 slides have the label 'x'; expected two classes or more"):
        given_splits([partition(train="a", val="b", test="c")], "abc", "xxx", "abc", seed=0)
