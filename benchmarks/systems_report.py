"""Write docs/results/baselines.md from the rows of systems_rows.py and the figures of systems_speed.py."""

import json
import statistics
from collections import defaultdict
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[1] / "docs" / "results"
Row = dict[str, Any]
CORES = 2  # of the machine that everything is timed on
_DAGGER = "\N{DAGGER}"

HEAD = """# The comparison systems

Made by `python benchmarks/systems_report.py`; nothing here is written by hand. One slide or cohort at a time shared two
cores with nothing else for the speed table, with other work for the rest: take seconds of training as rough. Runs whose
AUC has a star were trained on another machine, of sixteen cores and an H100 or H200; seconds and memory are of the
others. A dagger: trained before the system's recipe or the weights it begins with were put right. Memory of training
has in it the kernels that oneDNN keeps by number of rows, up to some 200 MiB: since 7de541e, and until 5d6fee1 up to
eight times as many.
"""
SPEED_HEAD = """## Speed and memory beside the published code

`python benchmarks/systems_speed.py --published DIR --out docs/results/systems_speed.json` ({hardware}; two threads,
float32, one slide of N x 512, on a square grid if the system looks at places, no optimiser; medians of turns in one
process, memory of the first call in a process of its own, where all are below two seconds the median of three such
processes). Ratios are published over ours: above 1 we are faster, or smaller. What is compared, and what stands in for
parts that take pixels, is said in `benchmarks/published.py`. Attention of TransMIL, PatchGD and PANTHER, which their
published code does not tell, is worked out when it is read; a row says so where it was. PatchGD's training is a loop
over images and is not compared; MHIM's has a teacher on both sides. A dagger: measured by an earlier version.
"""
LEARN_HEAD = {
    "mil": """## Real sets: elephant, fox, tiger

`python benchmarks/systems_rows.py mil`: 10-fold cross-validation, five times for abmil, plain and gated, once for
others; Adam 2e-4, weight decay 5e-3, batches of 4 bags, the last state after 10 epochs (elephant) or 40 (fox, tiger;
for transmil, mhim-transmil, spt and patchgd, which take 10 to 30 times abmil's time, 10), for abmil dropout 0.5;
features standardised by each training part. The authors of ABMIL chose learning rate and weight decay set by set and
stopped by validation; here the epochs were chosen set by set, of 5, 10, 20 and 40, by ABMIL's accuracy in three of
these cross-validations, and for abmil on tiger single bags, 1e-4 and 1e-2 (by the rates of the others 0.797 plain,
0.796 gated), which favours it a little. Mean accuracy (and AUC). Published (Ilse et al. 2018, 5 x 10 folds), attention
/ gated: elephant 0.868 / 0.857, fox 0.615 / 0.603, tiger 0.839 / 0.845, standard errors 0.02 to 0.04: ours lie within
two of them, on tiger not within one. spt and patchgd lay bags out in squares; hipt, longformer and mamba2d: not
applicable, as these sets have no coordinates.
""",
    "needles": """## Needles

`python benchmarks/systems_rows.py needles`: one to three needles among 200 to 600 tokens of width 64 that lie in bands,
distractors of the other class's kind in every other world; 160 training and 200 fresh test bags, Adam 3e-4, batches of
8, 30 epochs (longformer, mamba2d, mhim-transmil, patchgd, spt and transmil: 10), the last state. AUC by seed.
""",
    "demo": """## The demo's cohort

`python benchmarks/systems_rows.py demo`: `dtcwsi train` with the common recipe on 60 drawn slides of some 126 patches;
seeds vary folds and weights. AUC is the mean of five folds, by seed; lesion AUROC is that of out-of-fold attention.
""",
    "demo-published": """## The demo's cohort, each system by its own recipe

`python benchmarks/systems_rows.py demo-published`: `dtcwsi train --recipe published --epochs 20` on the same slides and
folds: optimiser, rates, schedule and batch of each system's authors (`dtcwsi models NAME`), mean, max and what stands
before abmil by abmil's, all for 20 epochs. Published lengths are 20 to 300 epochs, for spt 40,000.
""",
    "tissue": """## Slides composed of real tiles

`python benchmarks/systems_rows.py tissue`: the same on 60 slides of some 255 patches, one or two of 30 tiles carcinoma;
folds are the tile pools, seeds vary weights and validation parts. Lesion AUROC is against the tiles of carcinoma.
""",
    "tissue-published": """## Slides composed of real tiles, each system by its own recipe

`python benchmarks/systems_rows.py tissue-published`: as for the demo.
""",
}
ALSO = {"seen_auc": "AUC of training bags", "lesion_auroc": "lesion AUROC"}  # columns of tables that have them
WHY = """## Who fails, and why

* **mean** cannot see one to three needles among hundreds of tokens, nor the demo's lesion, 5 % of the patches: both
  vanish in the average. It is among the best on tissue, where the carcinoma's 3 to 7 % also comes with another look of
  the whole slide, and nobody has to find anything.
* **random** keeps 40 % of the patches: of a single needle, it loses the needle in three of five slides. Where a lesion
  has several patches (demo, tissue), some stay, and nothing collapses as in the paper's Table 1.
* **hipt** learned needles with one seed of three and is near chance on the demo and on tissue by the common recipe:
  Adam without warm-up, at 1e-3 on slides and 3e-4 on needles, is probably too fast for its transformers. At its own
  2e-4, with classes drawn evenly, it has hardly begun after 20 epochs.
* **patchgd** learns needles by heart: the bags it was trained on it tells apart (the column beside accuracy), fresh
  ones not at all. It stays near chance on the demo by either recipe and on tissue by its own, probably for the same
  reason: four layers of convolutions are many weights for 160 bags or 37 slides. Here attention pools its places; the
  published head that flattens them is not in these tables.
* **transmil**, **mhim-transmil** and **spt** lie below abmil on the demo and on tissue, where seeds differ by up to
  0.22: probably too many weights for 37 slides. Nothing was searched for any of them. TransMIL's own recipe makes a
  step of two slides, so 20 epochs are few steps, and it has not learned all it could; its paper has 200. What was taken
  for TransMIL's map, the attention of its last layer, misses the lesion (0.46 to 0.52); rolled out through both layers
  that of the same models finds it (0.75 to 0.84): [faithfulness](faithfulness.md).
* **mamba2d** learned needles with two seeds of three; with the other, ten epochs left it at chance.
* **mhim-abmil** sorts all needle bags rightly, but by its last state not at one half with every seed: accuracy 0.61 of
  one, where another run of the same seed had 0.995.
* **dsmil** stands or falls with its critical patch: 0.74 to 0.97 on needles and 0.89 on the demo, where attention has
  1.00. By its own recipe, a rate of 1e-4 for 20 of 50 epochs, it has hardly begun to learn on the demo.
* **panther** describes a slide by 16 prototypes without labels: among the best on tissue by the common recipe, of one
  seed, not by its own, and least sure on needles (0.52 to 1.00).
"""


def main() -> None:
    """Write the page."""
    parts = [HEAD]
    rows_file, speed_file = RESULTS / "systems.jsonl", RESULTS / "systems_speed.json"
    if rows_file.exists():
        rows = [json.loads(line) for line in rows_file.read_text().splitlines()]
        parts += [LEARN_HEAD[group] + "\n" + _learned(rows, group) for group in LEARN_HEAD if _of(rows, group)]
        parts.append(WHY)
    if speed_file.exists():
        told = json.loads(speed_file.read_text())
        parts.append(SPEED_HEAD.format(hardware=told["hardware"]) + "\n" + _speed(told["rows"], told["commit"]))
    (RESULTS / "baselines.md").write_text("\n".join(parts))


def _of(rows: list[Row], group: str) -> list[Row]:
    return [row for row in rows if row["group"] == group]


def _learned(rows: list[Row], group: str) -> str:
    by_system: dict[str, list[Row]] = defaultdict(list)
    for row in _of(rows, group):
        by_system[row["system"]].append(row)
    if group == "mil":
        sets = list(dict.fromkeys(row["task"] for row in _of(rows, group)))
        lines = [[system, *(_accuracy(own, task) for task in sets)] for system, own in sorted(by_system.items())]
        return _table(["system", *sets], lines)
    also = {name: head for name, head in ALSO.items() if any(name in row for row in _of(rows, group))}
    header = ["system", "AUC by seed", "accuracy", *also.values(), "training s", "MiB"]
    return _table(header, [_line(system, own, list(also)) for system, own in sorted(by_system.items())])


def _accuracy(own: list[Row], task: str) -> str:
    found = [row for row in own if row["task"] == task]
    if not found:
        return ""
    accuracy, auc = (statistics.mean(row[name] for row in found) for name in ("accuracy", "auc"))
    spread = f" ± {statistics.stdev(row['accuracy'] for row in found):.3f}" if len(found) > 1 else ""
    return f"{accuracy:.3f}{spread} ({auc:.3f})" + _DAGGER * any(row.get("before", False) for row in found)


def _line(system: str, own: list[Row], also: list[str]) -> list[str]:
    own = sorted(own, key=lambda row: row["seed"])
    here = [row for row in own if not _elsewhere(row)]
    told = [[row[name] for row in here if name in row] for name in ("train_s", "extra_mib")]
    costs = [f"{statistics.mean(values):.0f}" if values else "" for values in told]
    others = [[row[name] for row in own if name in row] for name in also]
    found = [f"{statistics.mean(values):.3f}" if values else "" for values in others]
    aucs = ", ".join(
        f"{row['auc']:.3f}" + (r"\*" if _elsewhere(row) else "") + _DAGGER * row.get("before", False) for row in own
    )
    return [system, aucs, f"{statistics.mean(row['accuracy'] for row in own):.3f}", *found, *costs]


def _elsewhere(row: Row) -> bool:
    return "gpu" in row or row.get("cores", CORES) != CORES


def _speed(rows: list[Row], newest: str) -> str:
    header = ["model", "N", "call", "published ms", "ms", "times faster", "published MiB", "MiB", "times smaller"]
    lines = []
    for row in sorted(rows, key=lambda row: (row["patches"], row["training"])):
        call = "training step" if row["training"] else "inference"
        theirs_ms, theirs_mib = row["median_ms"].get("published"), row["extra_mib"].get("published")
        failed = row["failed"].get("published", "")
        failed = "more memory than there was" if "allocate memory" in failed else failed
        mark = "" if row["commit"] == newest else _DAGGER
        for side, ms in row["median_ms"].items():
            if side == "published":
                continue
            mib = row["extra_mib"][side]
            against = [failed, f"{ms:,.0f}", "", "", f"{mib:,.0f}", ""]
            if theirs_ms is not None:
                faster, smaller = f"{theirs_ms / ms:.2f}", f"{theirs_mib / mib:.2f}"
                against = [f"{theirs_ms:,.0f}", f"{ms:,.0f}", faster, f"{theirs_mib:,.0f}", f"{mib:,.0f}", smaller]
            lines.append([side + mark, f"{row['patches']:,}", call, *against])
        for side, reason in row["failed"].items():
            if side != "published":
                theirs = failed if theirs_ms is None else f"{theirs_ms:,.0f}"
                lines.append([side + mark, f"{row['patches']:,}", call, theirs, reason, "", "", "", ""])
    return _table(header, lines)


def _table(header: list[str], lines: list[list[str]]) -> str:
    rows = [header, ["---"] * len(header), *lines]
    return "".join("| " + " | ".join(row) + " |\n" for row in rows)


if __name__ == "__main__":
    main()
