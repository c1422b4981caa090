"""Who is set aside of the training slides to stop training and to choose the checkpoint."""

import warnings
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

__all__ = ["with_validation", "with_validation_sites"]

_SHARE = 0.2
_Parts = tuple[tuple[int, ...], tuple[int, ...]]


def with_validation(
    labels: Sequence[str], patients: Sequence[str], slides: Sequence[int], generator: np.random.Generator
) -> _Parts:
    """Set a fifth of the patients aside, class by class.  Returns: slides to train on, slides to validate on."""
    chosen = _drawn_patients(labels, patients, slides, generator)
    train = tuple(i for i in slides if patients[i] not in chosen)
    return train, tuple(i for i in slides if patients[i] in chosen)


def with_validation_sites(
    labels: Sequence[str], sites: Sequence[str], slides: Sequence[int], generator: np.random.Generator
) -> _Parts | None:
    """Set whole sites aside that have about a fifth of the slides and the classes in about their shares.

    The sites are dealt into five parts, fewer where there are fewer sites. Of the parts without which every class stays
    in training, that with most classes is taken, of these the one nearest to a fifth of the slides; of single sites
    where no such part is.
    Returns: slides to train on, slides to validate on; None if no site can be spared, as where there is one only.
    """
    own, of_site = [labels[i] for i in slides], [sites[i] for i in slides]
    parts = [*_dealt_sites(own, of_site, generator)]
    single = [{site} for site in sorted(set(of_site))]
    spared = _spared(own, of_site, parts) or _spared(own, of_site, single)
    if not spared:
        return None
    wanted = _SHARE * len(own)
    val = min(spared, key=lambda part: (-len({own[i] for i in part}), abs(len(part) - wanted)))
    left = set(range(len(own))) - set(val)
    return tuple(slides[i] for i in sorted(left)), tuple(slides[i] for i in val)


def _dealt_sites(labels: Sequence[str], sites: Sequence[str], generator: np.random.Generator) -> Iterator[set[str]]:
    """Deal sites into parts of about a fifth of the slides each, stratified by label."""
    parts = min(round(1 / _SHARE), len(set(sites)), max(Counter(labels).values()))
    if parts < 2:
        return
    dealer = StratifiedGroupKFold(n_splits=parts, shuffle=True, random_state=int(generator.integers(2**31)))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class", category=UserWarning)
        for _, part in dealer.split(np.zeros(len(labels)), labels, sites):
            yield {sites[i] for i in part}


def _spared(labels: Sequence[str], sites: Sequence[str], parts: Sequence[set[str]]) -> list[tuple[int, ...]]:
    """List the slides of each part of the sites without which every class stays, and something at all."""
    found = [tuple(i for i, site in enumerate(sites) if site in part) for part in parts]
    stays = [{label for label, site in zip(labels, sites, strict=True) if site not in part} for part in parts]
    return [slides for slides, kept in zip(found, stays, strict=True) if slides and kept == set(labels)]


def _drawn_patients(
    labels: Sequence[str], patients: Sequence[str], slides: Sequence[int], generator: np.random.Generator
) -> set[str]:
    counts: dict[str, Counter[str]] = {}
    for i in slides:
        counts.setdefault(patients[i], Counter())[labels[i]] += 1
    of_class: dict[str, list[str]] = {}
    for patient in sorted(counts):
        label = min(counts[patient], key=lambda name: (-counts[patient][name], name))
        of_class.setdefault(label, []).append(patient)
    training = Counter(label for own in counts.values() for label in own)  # patients by class; one may count in several
    chosen: set[str] = set()
    for label in sorted(of_class):
        members = of_class[label]
        wanted = max(1, round(len(members) * _SHARE)) if len(members) > 1 else 0
        for patient in (members[i] for i in (generator.permutation(len(members)) if wanted else ())):
            if wanted and all(training[own] > 1 for own in counts[patient]):
                training.subtract(dict.fromkeys(counts[patient], 1))
                chosen.add(patient)
                wanted -= 1
    return chosen
