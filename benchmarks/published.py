"""Calls of the comparison systems' published programs, which lie in checkouts of their own.

Each builder gets its checkout's folder, the system's name and one slide, rows (patches, dim) on a square grid, and says
what is called in prediction, or in training for a loss and its gradients. Widths are ours where the published code
fixes those of its own features. Programs name their packages alike, so a process builds one of them.
"""

import copy
import sys
import types
from collections.abc import Callable
from pathlib import Path

import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

__all__ = ["PUBLISHED", "Call"]

Call = Callable[[], object]
LABEL = torch.tensor([0])


def published_clam(folder: Path, name: str, rows: torch.Tensor, *, training: bool) -> Call:
    """CLAM as its training loop calls it, the instance branch with cross-entropy."""
    sys.path.insert(0, str(folder / "models"))
    import model_clam

    kind = model_clam.CLAM_SB if name == "clam-sb" else model_clam.CLAM_MB
    model = kind(dropout=0.25, n_classes=2, embed_dim=rows.shape[1]).train(training)

    def step() -> None:
        logits, _, _, _, seen = model(rows, label=LABEL, instance_eval=True)
        (0.7 * cross_entropy(logits, LABEL) + 0.3 * seen["instance_loss"]).backward()

    return step if training else lambda: model(rows)


def published_dsmil(folder: Path, _: str, rows: torch.Tensor, *, training: bool) -> Call:
    """DSMIL with linear values."""
    sys.path.insert(0, str(folder))
    import dsmil

    instances = dsmil.FCLayer(in_size=rows.shape[1], out_size=2)
    model = dsmil.MILNet(instances, dsmil.BClassifier(input_size=rows.shape[1], output_class=2)).train(training)
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
    model._fc1 = torch.nn.Sequential(torch.nn.Linear(rows.shape[1], 512), torch.nn.ReLU())
    model.train(training)
    step = lambda: cross_entropy(model(data=rows[None])["logits"], LABEL).backward()  # noqa: E731
    return step if training else lambda: model(data=rows[None])


def published_panther(folder: Path, _: str, rows: torch.Tensor, *, training: bool) -> Call:
    """PANTHER's mixture and linear head; the mixture has no gradient, as published for classification."""
    sys.path[:0] = [str(folder / "src" / "mil_models" / "PANTHER"), str(folder / "src")]
    from networks import DirNIWNet

    prior = DirNIWNet(16, rows.shape[1], 0.1, load_proto=False, fix_proto=True)
    head = torch.nn.Linear(16 * (1 + 2 * rows.shape[1]), 2, bias=False)

    def logits() -> torch.Tensor:
        parts = prior.map_em(rows[None], num_iters=1, tau=0.001, prior=prior())[:3]
        return head(torch.cat([part.reshape(1, -1) for part in parts], dim=1))

    return (lambda: cross_entropy(logits(), LABEL).backward()) if training else logits


def published_mhim(folder: Path, name: str, rows: torch.Tensor, *, training: bool) -> Call:
    """MHIM's student in prediction; in training behind a teacher, with what the system hides by default."""
    sys.path.insert(0, str(folder))
    from modules.mhim import MHIM

    attends = name == "mhim-abmil"
    hidden = {"mask_ratio": 0.5, "mask_ratio_h": 0.01} if attends else {"mask_ratio_l": 0.8, "mask_ratio_h": 0.03}
    model = MHIM(baseline="attn" if attends else "selfattn", da_act="relu", mask_ratio_hr=0.5, temp_t=0.1, **hidden)
    model.patch_to_emb[0] = torch.nn.Linear(rows.shape[1], 512)
    if not training:
        model.eval()
        return lambda: model.forward_test(rows[None])
    teacher = copy.deepcopy(model)

    def step() -> None:
        wanted, attention = teacher.forward_teacher(rows[None])
        logits, apart, _, _ = model(rows[None], attention, wanted)
        (cross_entropy(logits, LABEL) + 0.1 * apart).backward()

    return step


def published_hipt(folder: Path, _: str, rows: torch.Tensor, *, training: bool) -> Call:
    """HIPT's transformers over regions and slide; whole regions of 256 patches, as it needs them."""
    sys.path[:0] = [str(folder / "2-Weakly-Supervised-Subtyping"), str(folder / "HIPT_4K")]
    from models.model_hierarchical_mil import HIPT_LGP_FC

    model = HIPT_LGP_FC(n_classes=2)
    model.local_vit.phi[0] = torch.nn.Linear(rows.shape[1], 192)
    model.train(training)
    regions = torch.nn.functional.pad(rows, (0, 0, 0, -len(rows) % 256)).view(-1, 256, rows.shape[1])
    step = lambda: cross_entropy(model(regions)[0], LABEL).backward()  # noqa: E731
    return step if training else lambda: model(regions)


def published_longformer(folder: Path, _: str, rows: torch.Tensor, *, training: bool) -> Call:
    """Two of ViL's attention and MLP blocks behind a Linear + ReLU, windows of 15 x 15."""
    package = types.ModuleType("models")
    package.__path__ = [str(folder / "src" / "models")]
    sys.modules["models"] = package  # its own __init__ asks for all of its training's packages
    import models.msvit as vil

    front, token = torch.nn.Linear(rows.shape[1], 512), torch.nn.Parameter(torch.zeros(1, 1, 512))
    given = {"attn_type": "longformerhand", "w": 7, "sw_exact": 1, "rpe": False}
    parts = [
        block
        for _ in range(2)
        for block in (
            vil.AttnBlock(512, 8, qkv_bias=True, norm_layer=torch.nn.LayerNorm, **given),
            vil.MlpBlock(512, norm_layer=torch.nn.LayerNorm),
        )
    ]
    blocks = torch.nn.Sequential(*parts).train(training)
    head = torch.nn.Sequential(torch.nn.LayerNorm(512), torch.nn.Linear(512, 2))
    side = int(len(rows) ** 0.5)
    lines = len(rows) // side

    def logits() -> torch.Tensor:
        line = torch.cat([token, torch.relu(front(rows[: side * lines]))[None]], dim=1)
        return head(blocks((line, side, lines))[0][:, 0])

    return (lambda: cross_entropy(logits(), LABEL).backward()) if training else logits


def published_mamba2d(folder: Path, _: str, rows: torch.Tensor, *, training: bool) -> Call:
    """2DMambaMIL by its scan in PyTorch, whose results are wrong from three rows on; its kernel needs CUDA."""
    sys.path.insert(0, str(folder / "2DMambaMIL"))
    from models.MambaMIL_2D import MambaMIL_2D

    side = int((len(rows) - 1) ** 0.5) + 1
    settings = types.SimpleNamespace(
        in_dim=rows.shape[1],
        mambamil_dim=128,
        drop_out=0.25,
        patch_encoder_batch_size=1,
        mambamil_layer=1,
        mambamil_state_dim=16,
        mambamil_inner_layernorms=False,
        pscan=True,
        cuda_pscan=False,
        model_type="2DMambaMIL",
        mamba_2d_max_w=(side - 1) * 512,
        mamba_2d_max_h=(side - 1) * 512,
        mamba_2d_pad_token="trainable",
        mamba_2d_patch_size=512,
        n_classes=2,
        survival=False,
        pos_emb_type=None,
    )
    model, number = MambaMIL_2D(settings).train(training), torch.arange(len(rows))
    places = torch.stack([number % side, number // side], dim=1) * 512
    step = lambda: cross_entropy(model(rows, places)[0], LABEL).backward()  # noqa: E731
    return step if training else lambda: model(rows, places)


def published_spt(folder: Path, _: str, rows: torch.Tensor, *, training: bool) -> Call:
    """FastGlioma's slide transformer and a linear head."""
    sys.path.insert(0, str(folder))
    from fastglioma.models.mil import TransformerMIL

    kind = {"pos_emb_type": "FFPEG", "pos_emb_grad": True, "prefix_len": 8}
    front, head = torch.nn.Linear(rows.shape[1], 512), torch.nn.Linear(512, 2)
    model = TransformerMIL(embed_dim=512, depth=2, num_heads=4, **kind).train(training)
    side, number = int((len(rows) - 1) ** 0.5) + 1, torch.arange(len(rows))
    places = torch.stack([number // side, number % side], dim=1)
    logits = lambda: head(model(front(rows), coords=places).reshape(1, -1))  # noqa: E731
    return (lambda: cross_entropy(logits(), LABEL).backward()) if training else logits


def published_patchgd(folder: Path, _: str, rows: torch.Tensor, *, training: bool) -> Call:
    """PatchGD's head over a whole square of latents, made by the encoder that stands for its ResNet-50 here."""
    if training:
        raise NotImplementedError
    settings = types.ModuleType("config")
    names = ("ORIGINAL", "SMALLER", "LARGER", "SMALLER_FEAT", "LARGER_FEAT")
    settings.model_config = type("model_config", (), {name: number for number, name in enumerate(names)})
    sys.modules["config"] = settings  # its own reads a user's paths
    sys.path.insert(0, str(folder / "patch_gd"))
    import models

    side = int((len(rows) - 1) ** 0.5) + 1
    wide = (torch.nn.Linear(rows.shape[1], 256), torch.nn.GELU(), torch.nn.Linear(256, 256))
    encoder, head = torch.nn.Sequential(*wide), models.CNN_Block((1, 3), 256, 256, 2, side).eval()

    def logits() -> torch.Tensor:
        latents = torch.nn.functional.pad(encoder(rows), (0, 0, 0, side * side - len(rows)))
        return head(latents.T.reshape(1, 256, side, side))

    return logits


PUBLISHED: dict[str, tuple[str, Callable[..., Call]]] = {
    "clam-sb": ("CLAM", published_clam),
    "clam-mb": ("CLAM", published_clam),
    "dsmil": ("dsmil-wsi", published_dsmil),
    "transmil": ("TransMIL", published_transmil),
    "panther": ("PANTHER", published_panther),
    "mhim-abmil": ("MHIM-MIL", published_mhim),
    "mhim-transmil": ("MHIM-MIL", published_mhim),
    "hipt": ("HIPT", published_hipt),
    "longformer": ("vision-longformer", published_longformer),
    "mamba2d": ("2DMamba", published_mamba2d),
    "spt": ("fastglioma", published_spt),
    "patchgd": ("PatchGD", published_patchgd),
}
