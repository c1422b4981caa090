"""Time and memory of the comparison systems beside their published code, both sides in turns in one run.

python benchmarks/systems_speed.py --published DIR [--systems NAME ...] [--sizes N ...] --out FILE

DIR holds checkouts named CLAM, dsmil-wsi, TransMIL, PANTHER and MHIM-MIL (branch v1); a system whose checkout is not
there is left out. What those need besides torch (nystrom-attention, einops, pandas) is installed by hand. One slide of
random features, 512 wide, two threads, float32: inference and a training step (loss and gradients, no optimiser),
medians in turns; memory is the peak of what a process of its own has allocated beyond the start, in its first call.
"""

import argparse
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from compressor_speed import REPEATS, Peak, alone, medians_of
from dtcwsi.models import create_model
from dtcwsi.types import Bag
from provenance import provenance, save

DIM = 512
SIZES = (5000, 13_900)
Call = Callable[[], object]


def published_clam(folder: Path, name: str, rows: torch.Tensor, *, training: bool) -> Call:
    """CLAM as its training loop calls it, the instance branch with cross-entropy."""
    sys.path.insert(0, str(folder / "models"))
    import model_clam

    kind = model_clam.CLAM_SB if name == "clam-sb" else model_clam.CLAM_MB
    model = kind(dropout=0.25, n_classes=2, embed_dim=DIM).train(training)
    label = torch.tensor([0])

    def step() -> None:
        logits, _, _, _, seen = model(rows, label=label, instance_eval=True)
        (0.7 * cross_entropy(logits, label) + 0.3 * seen["instance_loss"]).backward()

    return step if training else lambda: model(rows)


def published_dsmil(folder: Path, _: str, rows: torch.Tensor, *, training: bool) -> Call:
    """DSMIL with linear values."""
    sys.path.insert(0, str(folder))
    import dsmil

    instances = dsmil.FCLayer(in_size=DIM, out_size=2)
    model = dsmil.MILNet(instances, dsmil.BClassifier(input_size=DIM, output_class=2)).train(training)
    wanted = torch.tensor([[1.0, 0.0]])

    def step() -> None:
        classes, bag, _, _ = model(rows)
        best = classes.max(dim=0, keepdim=True).values
        entropy = binary_cross_entropy_with_logits
        (0.5 * entropy(bag, wanted) + 0.5 * entropy(best, wanted)).backward()

    return step if training else lambda: model(rows)


def published_transmil(folder: Path, _: str, rows: torch.Tensor, *, training: bool) -> Call:
    """TransMIL, its first map made for the width of the features; it asks for CUDA in its forward, and stays here."""
    torch.Tensor.cuda = lambda tensor, *_, **__: tensor
    sys.path.insert(0, str(folder / "models"))
    from TransMIL import TransMIL

    model = TransMIL(n_classes=2)
    model._fc1 = torch.nn.Sequential(torch.nn.Linear(DIM, 512), torch.nn.ReLU())
    model.train(training)
    label = torch.tensor([0])
    step = lambda: cross_entropy(model(data=rows[None])["logits"], label).backward()  # noqa: E731
    return step if training else lambda: model(data=rows[None])


def published_panther(folder: Path, _: str, rows: torch.Tensor, *, training: bool) -> Call:
    """PANTHER's mixture and linear head; the mixture has no gradient, as published for classification."""
    sys.path[:0] = [str(folder / "src" / "mil_models" / "PANTHER"), str(folder / "src")]
    from networks import DirNIWNet

    prior = DirNIWNet(16, DIM, 0.1, load_proto=False, fix_proto=True)
    head = torch.nn.Linear(16 * (1 + 2 * DIM), 2, bias=False)
    label = torch.tensor([0])

    def logits() -> torch.Tensor:
        parts = prior.map_em(rows[None], num_iters=1, tau=0.001, prior=prior())[:3]
        return head(torch.cat([part.reshape(1, -1) for part in parts], dim=1))

    return (lambda: cross_entropy(logits(), label).backward()) if training else logits


def published_mhim(folder: Path, name: str, rows: torch.Tensor, *, training: bool) -> Call:
    """MHIM's student in prediction; its training is not compared."""
    if training:
        raise NotImplementedError
    sys.path.insert(0, str(folder))
    from modules.mhim import MHIM

    model = MHIM(baseline="attn" if name == "mhim-abmil" else "selfattn", da_act="relu").eval()
    model.patch_to_emb[0] = torch.nn.Linear(DIM, 512)
    return lambda: model.forward_test(rows[None])


PUBLISHED: dict[str, tuple[str, Callable[..., Call]]] = {
    "clam-sb": ("CLAM", published_clam),
    "clam-mb": ("CLAM", published_clam),
    "dsmil": ("dsmil-wsi", published_dsmil),
    "transmil": ("TransMIL", published_transmil),
    "panther": ("PANTHER", published_panther),
    "mhim-abmil": ("MHIM-MIL", published_mhim),
    "mhim-transmil": ("MHIM-MIL", published_mhim),
}
COMPRESSED = {"transmil": ("dtc-transmil", 0.4), "clam-sb": ("dtc-clam-sb", 0.1)}
OPTIONS: dict[str, dict[str, Any]] = {"clam": {"instance_loss": "ce"}}


def ours(name: str, rows: torch.Tensor, *, training: bool, **options: Any) -> Call:
    """Build our model's call."""
    options = {**next((given for part, given in OPTIONS.items() if part in name), {}), **options}
    model, bag, label = create_model(name, in_dim=DIM, n_classes=2, **options), Bag(rows), torch.tensor([0])
    if model.needs_prototypes:
        model.fit_prototypes([bag], patches=2000)
    model.train(training)
    step = lambda: model.loss(model(bag), label).backward()  # noqa: E731
    return step if training else lambda: model(bag)


def sides(system: str, published: Path, patches: int, *, training: bool) -> dict[str, Callable[[], Call]]:
    """Name what is to be compared, and how to build it."""
    torch.set_num_threads(2)
    torch.manual_seed(0)
    rows = torch.randn(patches, DIM)
    folder, build = PUBLISHED[system]
    made: dict[str, Callable[[], Call]] = {
        "published": partial(build, published / folder, system, rows, training=training),
        system: partial(ours, system, rows, training=training),
    }
    if system in COMPRESSED:
        name, share = COMPRESSED[system]
        made[f"{name} r={share}"] = partial(ours, name, rows, training=training, retention=share)
    return made


def timed(system: str, published: Path, patches: int, training: bool) -> dict[str, float]:  # noqa: FBT001  # apply() gives places
    """Time all sides in turns.  Returns: median milliseconds."""
    with torch.set_grad_enabled(training):
        calls = {name: build() for name, build in sides(system, published, patches, training=training).items()}
        return medians_of(calls)


def peaked(system: str, published: Path, patches: int, training: bool, side: str) -> float:  # noqa: FBT001
    """Measure one side's extra memory in MiB: of the first call, as a process keeps what it has allocated."""
    with torch.set_grad_enabled(training):
        call = sides(system, published, patches, training=training)[side]()
        with Peak() as peak:
            call()
    return peak.extra_mib


def main() -> None:
    """Measure the systems whose published code is there, row by row."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--published", type=Path, required=True)
    parser.add_argument("--systems", nargs="+", choices=list(PUBLISHED), default=list(PUBLISHED))
    parser.add_argument("--sizes", nargs="+", type=int, default=list(SIZES))
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    rows = json.loads(asked.out.read_text())["rows"] if asked.out.exists() else []
    for system in asked.systems:
        if not (asked.published / PUBLISHED[system][0]).is_dir():
            print(f"{system}: no {PUBLISHED[system][0]} in {asked.published}, left out")
            continue
        for patches in asked.sizes:
            for training in (False, True) if "mhim" not in system else (False,):
                row = {"system": system, "patches": patches, "training": training}
                times = alone(timed, system, asked.published, patches, training)
                memory = {side: alone(peaked, system, asked.published, patches, training, side) for side in times}
                rows = [old for old in rows if {key: old[key] for key in row} != row]
                rows.append({**row, "median_ms": times, "extra_mib": memory})
                print(json.dumps(rows[-1]), flush=True)
                save(asked.out, {**provenance(dim=DIM, repeats=REPEATS), "rows": rows})


if __name__ == "__main__":
    main()
