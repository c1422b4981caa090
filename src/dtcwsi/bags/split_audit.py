"""What is wrong with a split: patients on both sides, tests that recur, classes that lean, sites that give it away."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.stats import chi2_contingency

from dtcwsi.bags.near_duplicates import NearDuplicate
from dtcwsi.bags.split_files import PARTS, Partition, Splits

__all__ = ["Audit", "Finding", "PartCount", "audit_splits"]

_LEANS, _UNLIKELY = 0.1, 0.01
_SITE_TELLS = 0.3


@dataclass(frozen=True)
class Finding:
    """One thing to know: a ``leak``, which makes results too good, a ``warning`` or a ``note``; ``names`` examples."""

    kind: str
    where: str
    what: str
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class PartCount:
    """How many slides, patients and, by class, slides one part of a partition has."""

    partition: str
    part: str
    slides: int
    patients: int
    classes: dict[str, int]


@dataclass(frozen=True)
class Audit:
    """All findings, leaks first, and the size of every part."""

    findings: tuple[Finding, ...]
    counts: tuple[PartCount, ...]

    @property
    def leaks(self) -> tuple[Finding, ...]:
        """What makes results too good."""
        return tuple(finding for finding in self.findings if finding.kind == "leak")


def audit_splits(splits: Splits, alike: Iterable[NearDuplicate] = ()) -> Audit:
    """Look at every partition by itself, then at all together.

    Leaks: a slide or a patient in two parts, near-duplicate slides (``alike``) in two parts. Warnings: a part that is
    empty, a class that the test or the training lacks or that leans by more than 10 points (chi-square p < 0.01),
    slides tested in several partitions, sites that tell the label (Cramer's V, corrected for its bias, of 0.3 or more;
    sites are those told, or of TCGA barcodes). Notes: that no patient is told, partitions without a validation part,
    slides never tested, test slides of sites that were trained on.
    """
    alike = tuple(alike)
    findings = [finding for one in splits.partitions for finding in _of_one(splits, one, alike)]
    findings += [*_of_patients(splits), *_of_all(splits), *_of_sites(splits)]
    order = ("leak", "warning", "note")
    counts = tuple(_counted(splits, one, part) for one in splits.partitions for part in PARTS)
    return Audit(tuple(sorted(findings, key=lambda finding: order.index(finding.kind))), counts)


def _counted(splits: Splits, one: Partition, part: str) -> PartCount:
    slides = dict.fromkeys(one.parts[part])
    classes = Counter(splits.labels[slide] for slide in slides if slide in splits.labels)
    patients = {splits.patient(slide) for slide in slides}
    return PartCount(one.name, part, len(slides), len(patients), dict(sorted(classes.items())))


def _of_one(splits: Splits, one: Partition, alike: Sequence[NearDuplicate]) -> Iterator[Finding]:
    for part in PARTS:
        twice = [slide for slide, count in Counter(one.parts[part]).items() if count > 1]
        if twice:
            yield Finding("warning", one.name, f"{_count(twice, 'slide')} listed twice in {part}", tuple(twice))
    for part in ("train", "test"):
        if not one.parts[part]:
            yield Finding("warning", one.name, f"no slide is in {part}")
    if not one.chosen:
        yield Finding("note", one.name, "no validation part is named; draw it from train, never from test")
    for first, second in combinations(PARTS, 2):
        yield from _between(splits, one, first, second, alike)
    yield from _balance(splits, one)


def _between(
    splits: Splits, one: Partition, first: str, second: str, alike: Sequence[NearDuplicate]
) -> Iterator[Finding]:
    here, there = set(one.parts[first]), set(one.parts[second])
    why = ": what chose the model is tested" if (first, second) == ("val", "test") else ""
    both = sorted(here & there)
    if both:
        yield Finding("leak", one.name, f"{_count(both, 'slide')} in both {first} and {second}{why}", tuple(both))
    patients = {splits.patient(slide) for slide in here - there} & {splits.patient(slide) for slide in there - here}
    if patients:
        names = tuple(sorted(patients))
        what = f"{_count(names, 'patient')} with slides in both {first} and {second}{why}"
        yield Finding("leak", one.name, what, names)
    crossing = [pair for pair in alike if _crosses(pair, here, there)]
    if crossing:
        names = tuple(f"{pair.one} = {pair.other} ({pair.share:.0%})" for pair in crossing)
        what = f"{_count(names, 'pair')} of near-duplicate slides, one in {first} and one in {second}"
        yield Finding("leak", one.name, what, names)


def _crosses(pair: NearDuplicate, here: set[str], there: set[str]) -> bool:
    return (pair.one in here and pair.other in there) or (pair.other in here and pair.one in there)


def _balance(splits: Splits, one: Partition) -> Iterator[Finding]:
    told = {part: Counter(splits.labels[s] for s in one.parts[part] if s in splits.labels) for part in PARTS}
    train, test = told["train"], told["test"]
    if not train or not test:
        return
    for have, lack, verb in ((test, train, "train"), (train, test, "test")):
        missing = sorted(set(have) - set(lack))
        if missing:
            yield Finding("warning", one.name, f"{verb} has no slide of class {', '.join(map(repr, missing))}")
    classes = sorted(set(train) | set(test))
    table = np.array([[counts[name] for name in classes] for counts in (train, test)])
    if len(classes) < 2:
        return
    shares = table / table.sum(axis=1, keepdims=True)
    lean = int(np.abs(shares[0] - shares[1]).argmax())
    leaning = abs(shares[0, lean] - shares[1, lean])
    if leaning > _LEANS and chi2_contingency(table).pvalue < _UNLIKELY:
        what = f"class {classes[lean]!r} is {shares[0, lean]:.0%} of train and {shares[1, lean]:.0%} of test"
        yield Finding("warning", one.name, what)


def _of_patients(splits: Splits) -> Iterator[Finding]:
    if splits.slides and all(splits.patient(slide) == slide for slide in splits.slides):
        what = "no patient is told: every slide counts as one of its own, and patients in two parts are not seen"
        yield Finding("note", "all partitions", what)


def _of_all(splits: Splits) -> Iterator[Finding]:
    if len(splits.partitions) < 2:
        return
    tested = Counter(slide for one in splits.partitions for slide in set(one.parts["test"]))
    often = sorted(slide for slide, count in tested.items() if count > 1)
    everywhere = all(count == len(splits.partitions) for count in tested.values())
    if often and not everywhere:
        what = f"{_count(often, 'slide')} tested in several partitions: their results are not independent"
        yield Finding("warning", "all partitions", what, tuple(often))
    if often and everywhere:
        yield Finding("note", "all partitions", f"one test set of {_count(often, 'slide')} for all: it is held out")
    never = [slide for slide in splits.slides if slide not in tested]
    if never and not everywhere:
        yield Finding("note", "all partitions", f"{_count(never, 'slide')} never tested", tuple(never))


def _of_sites(splits: Splits) -> Iterator[Finding]:
    site_of = {slide: site for slide in splits.slides if (site := splits.site(slide))}
    if len(set(site_of.values())) < 2:
        return
    for one in splits.partitions:
        trained = {site_of[slide] for slide in one.parts["train"] if slide in site_of}
        test = [slide for slide in one.parts["test"] if slide in site_of]
        seen = sum(site_of[slide] in trained for slide in test)
        if seen:
            yield Finding("note", one.name, f"{seen} of {len(test)} test slides are of a site that was trained on")
    known = [slide for slide in site_of if slide in splits.labels]
    tells = _association([site_of[slide] for slide in known], [splits.labels[slide] for slide in known])
    if tells >= _SITE_TELLS:
        what = f"sites tell the label (Cramer's V {tells:.2f}): a model may learn the site instead; keep sites whole"
        yield Finding("warning", "all partitions", what)


def _association(one: Sequence[str], other: Sequence[str]) -> float:
    """Cramer's V with Bergsma's correction (2013), 0 where one of both is constant."""
    rows, of_row = np.unique(one, return_inverse=True) if len(one) else (np.zeros(0), np.zeros(0, int))
    columns, of_column = np.unique(other, return_inverse=True) if len(other) else (np.zeros(0), np.zeros(0, int))
    if len(rows) < 2 or len(columns) < 2:
        return 0.0
    table = np.zeros((len(rows), len(columns)))
    np.add.at(table, (of_row, of_column), 1)
    count = table.sum()
    spread = max(0.0, chi2_contingency(table, correction=False).statistic / count - _chance(table.shape, count))
    sides = [side - (side - 1) ** 2 / (count - 1) for side in table.shape]
    return float(np.sqrt(spread / max(1e-12, min(sides) - 1)))


def _chance(shape: tuple[int, ...], count: float) -> float:
    return float((shape[0] - 1) * (shape[1] - 1) / (count - 1))


def _count(things: Sequence[str], what: str) -> str:
    return f"{len(things):,} {what}{'s' * (len(things) != 1)}"
