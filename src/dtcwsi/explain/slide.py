"""One slide, explained: pictures, tables and numbers of what the models saw in it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dtcwsi.classifier import Classifier
from dtcwsi.ensemble import Answers, ask
from dtcwsi.errors import UsageError
from dtcwsi.explain.budgets import Budget, own_budget
from dtcwsi.explain.exports import Exports, write_exports
from dtcwsi.explain.faithfulness.lesion import TruthMask, lesion_auroc
from dtcwsi.explain.fates import FateCounts, PatchFates, fates_of
from dtcwsi.explain.figures.canvas import Canvas, ScaleBar, blank_canvas, scale_bar, slide_canvas
from dtcwsi.explain.figures.drawing import Wanted, draw_figures
from dtcwsi.explain.figures.subject import Heading, Subject, encode_jpeg
from dtcwsi.explain.places import check_inside, places_of
from dtcwsi.explain.record import write_record
from dtcwsi.explain.slide_patches import SlidePatches
from dtcwsi.store.atomic import write_bytes
from dtcwsi.types import Features, SlideReader, TissueMask

__all__ = ["ExplainedSlide", "SlideView", "TruthMask", "explain_slide", "view_of", "view_slide"]

_REPORT_PX, _REPORT_SLIDE_PX = 560, 1600


@dataclass(frozen=True)
class SlideView:
    """What models say of one slide.

    ``probabilities`` (classes,) is the mean over the models; ``fates`` are the first model's, with the attention of all
    models averaged.
    """

    class_names: tuple[str, ...]
    probabilities: NDArray[np.float64]
    fates: PatchFates

    @property
    def prediction(self) -> str:
        """The likeliest class."""
        return self.class_names[int(self.probabilities.argmax())]


@dataclass(frozen=True)
class ExplainedSlide:
    """What `explain_slide` found and wrote.

    ``files`` are the paths by name: attention.png, ..., patches.csv, patches.geojson, outlines.geojson. ``panels`` are
    JPEGs for a report: slide, of 1600 px or more, attention, merging, pruning. ``model_told`` says which models were
    asked, ``unseen`` that none was trained on the slide. ``lesion_auroc`` is None without a truth mask, or where no
    patch or every patch is lesion. ``budgets`` are the first model's, from the most tokens to the fewest, its own
    among them; none of a model without a retention.
    """

    slide_id: str
    model: str
    model_told: str
    n_models: int
    unseen: bool
    prediction: str
    probabilities: Mapping[str, float]
    true_label: str | None
    counts: FateCounts
    lesion_auroc: float | None
    scale_bar: ScaleBar
    files: Mapping[str, Path]
    panels: Mapping[str, bytes] = field(repr=False)
    fates: PatchFates = field(repr=False)
    patches: SlidePatches = field(repr=False)
    budgets: Sequence[Budget] = field(default=(), repr=False)

    @property
    def probability(self) -> float:
        """The predicted class's probability."""
        return self.probabilities[self.prediction]

    @property
    def compressed(self) -> bool:
        """Whether anything is merged or pruned, at its own retention or another."""
        return any(one.counts.tokens_out < len(one) for one in (self.fates, *(each.fates for each in self.budgets)))

    @property
    def tokens_in(self) -> int:
        """How many patches the slide has."""
        return self.counts.tokens_in

    @property
    def tokens_out(self) -> int:
        """How many tokens are left of them."""
        return self.counts.tokens_out


def explain_slide(
    models: Sequence[Classifier],
    features: Features,
    slide: SlideReader | None,
    out: Path,
    *,
    class_names: Sequence[str] | None = None,
    true_label: str | None = None,
    truth: TruthMask | None = None,
    models_told: str | None = None,
    unseen: bool = False,
    spacing_um: float | None = None,
    max_px: int = 680,
    wanted: Wanted | None = None,
    exports: Exports | None = None,
    tissue: TissueMask | None = None,
) -> ExplainedSlide:
    """Write the figures of a slide, patches.csv, patches.geojson, outlines.geojson and slide.json into ``out``.

    Probabilities and attention are means over the models (the folds of a run); fates are the first model's, as the
    pictures say. Without ``slide`` the patches are drawn on blank ground, in um if ``spacing_um`` (of a level-0
    pixel) is known. ``class_names`` default to the model's; ``models_told`` replaces the words for which models were
    asked, ``unseen`` says that none of them was trained on the slide.
    Pictures are ``max_px`` wide or, of long slides and where patches would be under 6 px, up to 2000.
    ``wanted`` chooses the figures, their formats and the retentions of figure3 and reports; without it all are drawn as
    PNG.
    ``exports`` chooses the table's format and compression; ``tissue`` is outlined for QuPath.
    A slide without tissue gives pictures that say so, and that there is no prediction, and tables without rows.
    Raises: FeaturesError if the features have no coordinates, another width than the models, or patches outside the
    slide; SlideError if the slide cannot be decoded; StoreError if the disk is full.
    """
    coords, patch_size = places_of(features)
    if slide is not None:
        check_inside(features.slide_id, coords, patch_size, slide.info)
    view = view_slide(models, features, class_names=class_names)
    canvas = _canvas(slide, coords, patch_size, spacing_um, max_px)
    whole = _canvas(slide, coords, patch_size, spacing_um, _REPORT_SLIDE_PX)
    told = models_told or _told(models)
    heading = _heading(features.slide_id, view, models, told, true_label)
    wanted = wanted or Wanted()
    subject = Subject(
        canvas,
        features,
        coords,
        patch_size,
        view.fates,
        models[0],
        view.class_names,
        heading,
        slide,
        wanted.retentions,
    )
    drawn = draw_figures(subject, wanted)
    write_record(out, features.slide_id, models, told)
    files = _write(out, features.slide_id, coords, patch_size, view.fates, told, drawn, exports, tissue)
    return ExplainedSlide(
        slide_id=features.slide_id,
        model=models[0].name,
        model_told=told,
        n_models=len(models),
        unseen=unseen,
        prediction=view.prediction,
        probabilities=dict(zip(view.class_names, view.probabilities.tolist(), strict=True)),
        true_label=true_label,
        counts=view.fates.counts,
        lesion_auroc=_score(view.fates, coords, patch_size, truth),
        scale_bar=scale_bar(canvas),
        files=files,
        panels={name: encode_jpeg(picture, max_px=_REPORT_PX) for name, picture in subject.panels.items()}
        | {"slide": encode_jpeg(whole.picture, max_px=max(whole.picture.shape))},
        fates=view.fates,
        patches=_patches(whole, coords, patch_size),
        budgets=_budgets(subject),
    )


def view_slide(
    models: Sequence[Classifier], features: Features, *, class_names: Sequence[str] | None = None
) -> SlideView:
    """Ask every model about a slide and average what they say; see `dtcwsi.ensemble.ask`.

    Raises: UsageError if there is no model, or class names are not one a class; FeaturesError as the models do.
    """
    answers = ask(models, features)
    names = tuple(class_names) if class_names is not None else answers.class_names
    if len(names) != len(answers.class_names):
        raise UsageError(f"got {len(names)} class names; expected {len(answers.class_names)}, one a class of the model")
    return replace(view_of(answers), class_names=names)


def view_of(answers: Answers, class_name: str | None = None) -> SlideView:
    """Bring models' answers about one slide together; the attention is that of a class, as `Answers.attention`."""
    fates = fates_of(answers.predictions[0]).with_attention(answers.attention(class_name))
    return SlideView(answers.class_names, answers.probabilities, fates)


def _canvas(
    slide: SlideReader | None, coords: NDArray[np.int64], patch_size: float, spacing_um: float | None, max_px: int
) -> Canvas:
    if slide is None:
        return blank_canvas(coords, patch_size, spacing_um=spacing_um, max_px=max_px)
    return slide_canvas(slide, max_px=max_px, patch_size_level0=patch_size if len(coords) else None)


def _heading(
    slide_id: str, view: SlideView, models: Sequence[Classifier], told: str, true_label: str | None
) -> Heading:
    alone = len(models) == 1
    mean_of = "" if alone else f", mean of {len(models)} models"
    said = f"predicted {view.prediction} (probability {view.probabilities.max():.3f}{mean_of})"
    compressed = view.fates.counts.tokens_out < len(view.fates)
    truth = "" if true_label is None else f", true class {true_label}"
    return Heading(
        title=f"{slide_id}: {said if len(view.fates) else 'no tissue, no prediction'}{truth}",
        attention_of=told,
        fates_of=told if alone else f"{models[0].name}, the first of {len(models)} fold models alone",
        fates_note="" if alone or not compressed else "The other models merge and prune otherwise.",
    )


def _budgets(subject: Subject) -> list[Budget]:
    own = own_budget(subject.model, subject.inside.prediction, subject.class_names)
    if own.retention is None:
        return []
    others = [budget for budget in subject.budgets[0] if not budget.trained]
    return sorted([*others, own], key=lambda budget: -(budget.retention or 1.0))


def _patches(canvas: Canvas, coords: NDArray[np.int64], patch_size: float) -> SlidePatches:
    height_level0, width_level0 = (side * canvas.pixel_level0 for side in canvas.picture.shape[:2])
    return SlidePatches(coords, patch_size, canvas.origin_level0, width_level0, height_level0, canvas.spacing_um)


def _score(fates: PatchFates, coords: NDArray[np.int64], patch_size: float, truth: TruthMask | None) -> float | None:
    if truth is None or not len(coords):
        return None
    return lesion_auroc(fates.attention, coords, patch_size, truth.lesion, downsample=truth.downsample)


def _told(models: Sequence[Classifier]) -> str:
    name, count = models[0].name, len(models)
    return name if count == 1 else f"{name}, mean of {count} fold models"


def _write(
    out: Path,
    slide_id: str,
    coords: NDArray[np.int64],
    patch_size: float,
    fates: PatchFates,
    models_told: str,
    figures: Iterable[tuple[str, bytes]],
    exports: Exports | None,
    tissue: TissueMask | None,
) -> dict[str, Path]:
    files = {}
    for name, content in figures:
        files[name] = out / name
        write_bytes(files[name], content)
    tables = write_exports(
        out / "patches",
        out / "outlines",
        slide_id,
        coords,
        patch_size,
        fates,
        models_told=models_told,
        exports=exports,
        tissue=tissue,
    )
    return files | tables
