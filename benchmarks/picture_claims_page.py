"""The page of `picture_claims.py`: what is compressed, and the paper's sentences beside it."""

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

__all__ = ["write_page"]

FIGURE = "compressed_importance.svg"
FEWEST = 100
MAIN = "0.4"

ABOUT = """Made by `python benchmarks/picture_claims.py --demo DIR` (`picture_claims.json`); nothing here is written
by hand. The demo's {slides} drawn slides of {patients} patients, where every pixel's tissue is known; dtc-abmil, five
folds, {seeds} seeds; each slide by the models that did not see it. Shares are of all patches of a class, all seeds
together; in brackets 95 % intervals of drawing patients, which do not cover the drawing of weights. Kept: a token of
its own; merged: in a token with others at the end; pruned: in none. Importance: mean percentile of the scorer's value
within the slide, about 50 for a class like all others."""

BY_CONSTRUCTION = (
    '| pruned regions *"contribute minimally to the slide-level prediction"* (Section 4) | a pruned patch has '
    "attention 0 and no gradient reaches it (a test) | holds by construction; that it could have told nothing does "
    "not follow |"
)

LIMITS = f"""A difference whose interval holds 0, or that rests on fewer than {FEWEST} patches of the class, cannot be
told. Drawn tissue is no tissue: a texture is statistically alike all over its region, and an encoder trained on
photographs sees it in its own way. This says what the method does with known classes, not what it does with a
lung."""

TRAINING = """At r = 0.4, means over the test slides of five folds. Spread: exp(entropy) of the softmax over the
number of patches, 1 where all matter alike. The budget tightens over the first half."""

CLASS_TABLE = """The first that applies of pen, lesion, edge, and the tissue that covers most of the patch, on the
writer's grid of 16 px.

| class | tissue of the writer |
|---|---|
| lesion | `nested` or `whorled`, by the slide's label |
| epithelium | `glands` |
| stroma | `fibrous_stroma`, `loose_stroma` |
| muscle | `smooth_muscle`, walls of vessels included |
| fat | `adipose` |
| necrosis, lymphocytes | those of the name |
| vessels | `blood`, and the empty part of a lumen (`glass`) |
| edge | whatever tissue but lesion, a quarter or more of the patch outside the tissue's outline |
| pen | whatever tissue, a tenth or more of the patch under the ink of a marker |"""

CLAIMS = (
    (
        'merged: *"adipose or stroma"*, *"smooth stroma"* (Section 4, Appendix C)',
        "fat and stroma are merged",
        1,
        "fat (of which there is little) and stroma merged more often than all else",
    ),
    (
        'merged: *"repeated tumor textures"* (Section 4, Appendix C)',
        "repeated tumour is merged",
        1,
        "lesion merged more often than all else",
    ),
    (
        '*"heterogeneous or diagnostically subtle regions remain unmerged"* (Appendix C)',
        "mixed patches stay unmerged",
        1,
        "patches nine tenths of one tissue merged more often than those of which none covers six tenths",
    ),
    (
        'pruned: *"slide borders"*, *"background"* (Section 4, Figure 3)',
        "slide borders are pruned",
        1,
        "edges pruned more often than all else",
    ),
    ('pruned: *"artifacts"* (Section 4)', "artefacts (pen) are pruned", 1, "pen pruned more often than all else"),
    (
        'kept: *"high-importance patches"*, *"tumor regions"* (Section 4, Figure 3)',
        "tumour is pruned",
        -1,
        "lesion pruned less often than all else",
    ),
)


def write_page(told: dict[str, Any], folder: Path) -> None:
    """Write compressed.md and its figure beside the JSON."""
    _draw(told["training"], folder / FIGURE)
    (folder / "compressed.md").write_text("\n".join(_lines(told)) + "\n")


def _lines(told: dict[str, Any]) -> list[str]:
    cohort, by_retention, training = told["cohort"], told["retentions"], told["training"]
    about = ABOUT.format(slides=cohort["slides"], patients=told["patients"], seeds=told["settings"]["seeds"])
    lines = ["# What is compressed", "", about, "", "## The paper's words", ""]
    lines += ["| the paper | measured here; differences in points at r = 0.4 | |", "|---|---|---|"]
    lines += [_claim(*claim, by_retention[MAIN]) for claim in CLAIMS]
    lines += [_diffuse(training), _focus(training), _salient(by_retention), BY_CONSTRUCTION, "", LIMITS]
    for retention, measured in by_retention.items():
        lines += ["", f"## r = {retention}", ""]
        lines += [
            "| class | patches | slides | kept % | merged % | pruned % | importance |",
            "|---|---|---|---|---|---|---|",
        ]
        lines += [_class(name, found) for name, found in measured["classes"].items()]
    lines += [
        "",
        "## Importance over training",
        "",
        f"![spread and lesion AUROC over epochs]({FIGURE})",
        "",
        TRAINING,
        "",
    ]
    lines += ["| seed | epoch | spread | lesion AUROC |", "|---|---|---|---|"]
    lines += [
        f"| {seed} | {row['epoch']:.0f} | {row['spread']:.2f} | {row['lesion_auroc']:.2f} |"
        for seed, rows in training.items()
        for row in rows
        if row["epoch"] in (0, 5, 10, 15, 30)
    ]
    return [*lines, "", "## Classes", "", CLASS_TABLE, "", f"Commit {told['commit']}, {told['hardware']}."]


def _claim(words: str, name: str, sign: int, meaning: str, measured: dict[str, Any]) -> str:
    found = measured["contrasts"][name]
    if found is None:
        return f"| {words} | {meaning} | not in this cohort |"
    value, low, high = (100 * number for number in found)
    few = [f"{count['patches']} patches" for count in _of_claim(name, measured) if count["patches"] < FEWEST]
    if low <= 0 <= high or few:
        verdict = "cannot be told" + (f" ({few[0]})" if few else "")
    else:
        verdict = "holds" if sign * value > 0 else "does not hold: the opposite"
    return f"| {words} | {meaning}: {value:+.0f} ({low:+.0f} to {high:+.0f}) | {verdict} |"


def _of_claim(name: str, measured: dict[str, Any]) -> list[dict[str, Any]]:
    alone = {"slide borders are pruned": "edge", "artefacts (pen) are pruned": "pen"}
    return [measured["classes"][alone[name]]] if name in alone else []


def _diffuse(training: dict[str, Any]) -> str:
    early = _range(training, 1, "spread")
    verdict = "holds" if early[0] > 0.5 else "does not hold"
    return (
        '| importance is *"diffuse"* early in training (Section 2.3) | spread over '
        f"{early[0]:.0%} to {early[1]:.0%} of the patches after one epoch, {_told(training, 5)} after 5 | {verdict} |"
    )


def _told(training: dict[str, Any], epoch: int) -> str:
    low, high = _range(training, epoch, "spread")
    return f"{low:.0%} to {high:.0%}"


def _focus(training: dict[str, Any]) -> str:
    first, middle, last = (_range(training, epoch, "lesion_auroc") for epoch in (1, 10, 30))
    verdict = "holds" if last[0] > first[1] and _range(training, 30, "spread")[1] < 0.5 else "cannot be told"
    return (
        '| *"as learning progresses, high-saliency tumor regions receive larger weights"* (Section 2.3) | spread over '
        f"{_told(training, 30)} after 30 epochs; importance finds the lesion with an AUROC of {first[0]:.2f} to "
        f"{first[1]:.2f} after one epoch, {middle[0]:.2f} to {middle[1]:.2f} after 10 and {last[0]:.2f} to "
        f"{last[1]:.2f} after 30 | {verdict} |"
    )


def _salient(by_retention: dict[str, Any]) -> str:
    lost = {r: measured["classes"]["lesion"]["pruned"][0] for r, measured in by_retention.items()}
    others = {
        r: sum(
            found["patches"] * found["pruned"][0]
            for name, found in measured["classes"].items()
            if found and name != "lesion"
        )
        / sum(found["patches"] for name, found in measured["classes"].items() if found and name != "lesion")
        for r, measured in by_retention.items()
    }
    words = "; ".join(
        f"r = {r}: {lost[r]:.0%} of the lesion and {others[r]:.0%} of all else pruned" for r in by_retention
    )
    verdict = "holds" if all(lost[r] < 0.5 * others[r] for r in by_retention) else "holds in part"
    return f'| more compact *"while preserving salient tissue structures"* (Section 4) | {words} | {verdict} |'


def _range(training: dict[str, Any], epoch: int, name: str) -> tuple[float, float]:
    values = [row[name] for rows in training.values() for row in rows if row["epoch"] == epoch]
    return min(values), max(values)


def _class(name: str, found: dict[str, Any] | None) -> str:
    if found is None:
        return f"| {name} | 0 | 0 | not in this cohort | | | |"
    shares = (_percent(found[fate]) for fate in ("kept", "merged", "pruned"))
    value, low, high = found["importance_percentile"]
    counts = f"{found['patches']} | {found['slides']}"
    return f"| {name} | {counts} | {' | '.join(shares)} | {value:.0f} ({low:.0f} to {high:.0f}) |"


def _percent(found: list[float]) -> str:
    value, low, high = (100 * number for number in found)
    return f"{value:.0f} ({low:.0f} to {high:.0f})"


def _draw(training: dict[str, Any], path: Path) -> None:
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "dtcwsi", "font.size": 9}):
        figure = Figure(figsize=(7.2, 2.9), layout="constrained")
        axes = figure.subplots(1, 2)
        for (seed, rows), dashes in zip(training.items(), ("-", "--", ":", "-.", (0, (1, 3))), strict=False):
            epochs = [row["epoch"] for row in rows]
            axes[0].plot(
                epochs, [row["spread"] for row in rows], color="#0072b2", linestyle=dashes, label=f"seed {seed}"
            )
            axes[1].plot(
                epochs, [row["lesion_auroc"] for row in rows], color="#d55e00", linestyle=dashes, label=f"seed {seed}"
            )
        titles = ("Importance is spread over this share of a slide", "Importance finds the lesion: AUROC")
        for each, title, place in zip(axes, titles, ("upper right", "lower right"), strict=True):
            each.axvspan(0, 15, color="#eef1f5", zorder=0)
            each.text(7.5, 0.03, "budget tightens", ha="center", color="#4a5160")
            each.set(title=title, xlabel="epochs of training", xlim=(0, 30), ylim=(0, 1.03))
            each.title.set_fontsize(9)
            each.spines[["top", "right"]].set_visible(False)
            each.legend(frameon=False, loc=place)
        figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    write_page(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[1]).parent)
