"""Compress one slide's features and see where its patches went.

    python examples/features_to_tokens.py work/features/efficientnet-lite0/S001.h5

With random weights this shows the interface, not a diagnosis; load a trained fold with ``dtcwsi.load("RUN/fold0")``.
"""

import sys

import torch

import dtcwsi


def main(path: str) -> None:
    """Print how many patches were kept alone, merged and pruned, and the ten with the most attention."""
    bag = dtcwsi.load_bag(path)
    model = dtcwsi.create_model("dtc-abmil", in_dim=bag.features.shape[1], n_classes=2, retention=0.4).eval()
    with torch.inference_mode():
        out = model(bag)
    pruned = out.patch_to_token < 0
    alone = ~pruned & (out.patch_stage == 0)
    print(f"{int(out.tokens_in)} patches, {int(out.tokens_out)} tokens")
    print(f"kept alone {int(alone.sum())}, merged {int((~pruned & ~alone).sum())}, pruned {int(pruned.sum())}")
    for patch in out.attention.topk(min(10, len(bag))).indices.tolist():
        where = "" if bag.coords is None else f" at level-0 pixel {tuple(bag.coords[patch].tolist())}"
        print(f"patch {patch}{where}: attention {float(out.attention[patch]):.4f}")


if __name__ == "__main__":
    main(sys.argv[1])
