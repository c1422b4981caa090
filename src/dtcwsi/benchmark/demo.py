"""The main job on the embedded cohort: slides, features, models, predictions, heatmaps, one page."""

import csv
import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from dtcwsi.bags.cohort import read_cohort, read_labels
from dtcwsi.bags.splits import assign_folds, make_split
from dtcwsi.encoders import load_encoder
from dtcwsi.errors import DtcwsiError, UsageError
from dtcwsi.explain.faithfulness.lesion import TRUTH_DOWNSAMPLE, lesion_auroc, read_mask
from dtcwsi.explain.origin import read_origin
from dtcwsi.explain.report import STEPS, write_report
from dtcwsi.explain.slide import ExplainedSlide, TruthMask, explain_slide, view_slide
from dtcwsi.extraction import Extraction, Summary, run_extraction
from dtcwsi.inference import load_run, predict_file
from dtcwsi.memory import watch_memory
from dtcwsi.slides import find_slides, open_slide
from dtcwsi.slides.synthetic import plan_cohort, write_cohort
from dtcwsi.store.atomic import check_writable, plain, write_json
from dtcwsi.store.features import feature_files, read_features
from dtcwsi.store.tables import SlideTable
from dtcwsi.training.crossval import RunRecord, cross_validate

__all__ = ["DEMO_MODELS", "DemoResult", "DemoSettings", "lesion_scores", "run_demo"]

DEMO_MODELS = ("abmil", "mean", "dtc-abmil")
_NEW_SEED = 10_000
_NOTES = (
    "The slides are drawn by a program, not scanned: the figures say that the way from slide files to pictures works, "
    "and how the models compare on a lesion of a few percent, not how they do on patients.",
    "The slides below are of patients that no model has seen; predictions are the mean of the fold models.",
)


@dataclass(frozen=True)
class DemoSettings:
    """How large the demo is; the defaults take minutes on two cores, `smoke` well under one."""

    slides: int = 60
    side_px: int = 4096
    difficulty: float = 0.5
    new_slides: int = 4
    encoder: str = "efficientnet-lite0"
    models: tuple[str, ...] = DEMO_MODELS
    folds: int = 5
    epochs: int = 40
    seed: int = 0
    workers: int = 2

    @staticmethod
    def smoke(seed: int = 0) -> "DemoSettings":
        """Small enough for a continuous check: every step real, the figures worth nothing."""
        return DemoSettings(
            slides=12, side_px=1536, new_slides=1, encoder="colour-texture", folds=2, epochs=4, seed=seed
        )


@dataclass
class DemoResult:
    """What the demo found: runs by model, heatmap scores by model, new slides, seconds and memory by stage."""

    report: Path
    runs: dict[str, RunRecord] = field(default_factory=dict)
    lesion_auroc: dict[str, float] = field(default_factory=dict)
    new_slides: list[ExplainedSlide] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    peak_bytes: dict[str, int | None] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def table(self) -> tuple[list[str], list[list[str]]]:
        """The comparison of models: a header, and a row a model."""
        header = [
            "model",
            "AUC (folds)",
            "AUC 95 % interval",
            "accuracy (folds)",
            "tokens in",
            "tokens out",
            "lesion AUROC",
        ]
        return header, [self._row(name) for name in self.runs]

    def _row(self, name: str) -> list[str]:
        metrics = self.runs[name].metrics
        auc, accuracy, tokens = metrics["metrics"]["auc"], metrics["metrics"]["accuracy"], metrics["tokens"]
        low, high = auc["interval_95"]
        return [
            name,
            f"{_figure(auc['mean'])} ± {_figure(auc['std'])}",
            f"{_figure(low)} to {_figure(high)}",
            f"{_figure(accuracy['mean'])} ± {_figure(accuracy['std'])}",
            f"{tokens['in']:.0f}",
            f"{tokens['out']:.0f}",
            _figure(self.lesion_auroc[name]),
        ]


def _figure(value: float | None) -> str:
    return "n/a" if value is None or not math.isfinite(value) else f"{value:.3f}"


def run_demo(
    out: Path, settings: DemoSettings | None = None, *, tell: Callable[[str], None] | None = None
) -> DemoResult:
    """Run the whole way into a folder; a second run goes on where a killed one stopped.

    Raises: UsageError if the folder cannot be written; DtcwsiError if a step could do nothing at all.
    """
    plan, say = settings or DemoSettings(), tell or (lambda _: None)
    _check(out, plan)
    result = DemoResult(out / "report.html")
    with _stage("draw slides", result, say):
        write_cohort(
            out,
            slides=plan.slides,
            side_px=plan.side_px,
            difficulty=plan.difficulty,
            seed=plan.seed,
            workers=plan.workers,
        )
    with _stage("extract features", result, say):
        _extract(out, plan, result)
    cohort = read_cohort(out / "labels.csv", _features(out, plan))
    for model in plan.models:
        with _stage(f"train {model}", result, say):
            result.runs[model] = cross_validate(
                cohort, model=model, out=out / "runs" / model, folds=plan.folds, epochs=plan.epochs, seed=plan.seed
            )
            result.failed |= {f"{model} fold {n}": why for n, why in result.runs[model].failed_folds.items()}
            run = out / "runs" / model
            write_report(
                run / "report.html", title=f"{model}, DTC-WSI demo", runs=[run], extraction=out, notes=_NOTES[:1]
            )
    with _stage("score heatmaps", result, say):
        result.lesion_auroc = {
            model: lesion_scores(out / "runs" / model, _features(out, plan), out / "truth") for model in plan.models
        }
    with _stage("predict and explain new slides", result, say):
        _new_slides(out, plan, result)
    _report(out, plan, result)
    return result


def _check(out: Path, plan: DemoSettings) -> None:
    """Refuse, before anything is drawn, what would fail later.

    Raises: CohortError if the slides are too few for the folds; UsageError if the folder cannot be written or holds a
    demo of other settings.
    """
    slides = plan_cohort(slides=plan.slides, side_px=plan.side_px, difficulty=plan.difficulty, seed=plan.seed)
    labels, patients = [slide.label for slide in slides], [slide.patient_id for slide in slides]
    folds = assign_folds(labels, patients, folds=plan.folds, seed=plan.seed)
    for fold in range(plan.folds):
        make_split(labels, patients, folds, fold, seed=plan.seed)
    check_writable(out)
    settings = plain({name: value for name, value in asdict(plan).items() if name != "workers"})
    note = out / "demo-settings.json"
    known = json.loads(note.read_text(encoding="utf-8")) if note.is_file() else settings
    changed = [name for name in settings if known.get(name) != settings[name]]
    if changed:
        raise UsageError(
            f"{out} holds a demo of other settings (changed: {', '.join(changed)}); name another --out or delete it"
        )
    write_json(note, settings)


def lesion_scores(run: Path, features: Path, truth: Path) -> float:
    """Mean AUROC of out-of-fold attention against the lesions: each slide by the model that never saw it.

    ``truth`` holds ``ID.png`` masks, 16 level-0 pixels a pixel.  Returns: NaN if no slide can be scored.
    """
    files, scores = feature_files(features), []
    for fold in sorted(run.glob("fold*/split.csv")):
        models = load_run(fold.parent).models
        with fold.open(newline="") as file:
            tested = [row["slide_id"] for row in csv.DictReader(file) if row["part"] == "test"]
        for slide_id in tested:
            slide = read_features(files[slide_id])
            assert slide.coords is not None
            assert slide.patch_size_level0 is not None
            attention = view_slide(models, slide).fates.attention
            mask = read_mask(truth / f"{slide_id}.png")
            scores.append(
                lesion_auroc(attention, slide.coords, slide.patch_size_level0, mask, downsample=TRUTH_DOWNSAMPLE)
            )
    known = [score for score in scores if score is not None]
    return float(np.mean(known)) if known else float("nan")


def _features(out: Path, plan: DemoSettings) -> Path:
    return out / "features" / plan.encoder


def _extract(out: Path, plan: DemoSettings, result: DemoResult) -> None:
    summary = run_extraction(find_slides([out / "slides"]), _extraction(out, plan))
    _note_failures(summary, result)
    rows = SlideTable(out / "slides.csv", ()).read().values()
    for step in ("tissue", "read", "encode"):
        result.seconds[step] = sum(float(row[f"seconds_{step}"] or 0) for row in rows)


def _extraction(out: Path, plan: DemoSettings) -> Extraction:
    return Extraction(out=out, encoder=load_encoder(plan.encoder), workers=max(1, plan.workers - 1))


def _note_failures(summary: Summary, result: DemoResult) -> None:
    result.failed |= {slide_id: f"{step}: {reason}" for slide_id, step, reason in summary.failed}
    if not summary.results:
        raise DtcwsiError(f"no slide could be extracted; the first reason: {summary.failed[0][2]}")


def _new_slides(out: Path, plan: DemoSettings, result: DemoResult) -> None:
    """Draw slides of other patients, and treat them as any new slide: extract, predict, explain."""
    new = out / "new"
    write_cohort(
        new,
        slides=max(2, plan.new_slides),
        side_px=plan.side_px,
        difficulty=plan.difficulty,
        seed=plan.seed + _NEW_SEED,
        prefix="new-",
        workers=plan.workers,
    )
    summary = run_extraction(find_slides([new / "slides"]), _extraction(new, plan))
    _note_failures(summary, result)
    trained = load_run(out / "runs" / plan.models[-1])
    labels = {slide.slide_id: slide.label for slide in read_labels(new / "labels.csv")}
    predictions = SlideTable(out / "predictions.csv", ("label", "prediction", "probability", "prob_std", "warning"))
    for slide_id, found in summary.results.items():
        assert found.features_file is not None
        told = predict_file(trained, found.features_file)
        predictions.put(
            slide_id,
            label=labels[slide_id],
            prediction=told.prediction,
            probability=float(told.probabilities.max()),
            prob_std="" if told.std is None else told.std,
            warning=told.warning,
        )
        with closing(open_slide(new / "slides" / f"{slide_id}.tif")) as slide:
            result.new_slides.append(
                explain_slide(
                    trained.models,
                    read_features(found.features_file),
                    slide,
                    out / "explained" / slide_id,
                    true_label=labels[slide_id],
                    truth=TruthMask(read_mask(new / "truth" / f"{slide_id}.png"), TRUTH_DOWNSAMPLE),
                    tissue=read_origin(found.features_file).tissue,
                )
            )


def _report(out: Path, plan: DemoSettings, result: DemoResult) -> None:
    """Write ``demo.json`` and the page."""
    told_elsewhere = ("tissue", "read", "encode", "extract features", *(f"train {model}" for model in plan.models))
    stages = {name: took for name, took in result.seconds.items() if name not in told_elsewhere}
    write_json(
        out / "demo.json",
        {
            "settings": asdict(plan),
            "seconds": result.seconds,
            "peak_bytes": result.peak_bytes,
            "lesion_auroc": result.lesion_auroc,
            "table": result.table(),
        },
    )
    lesion = ", ".join(f"{model} {score:.3f}" for model, score in result.lesion_auroc.items())
    write_report(
        result.report,
        title="DTC-WSI demo",
        runs=[out / "runs" / model for model in plan.models],
        slides=result.new_slides,
        extraction=out,
        seconds=stages,
        peak_bytes=result.peak_bytes | dict.fromkeys(STEPS.values(), result.peak_bytes["extract features"]),
        facts={
            "Command": "dtcwsi demo",
            "Slides": f"{plan.slides} synthetic, {plan.side_px} px a side, difficulty {plan.difficulty:g}",
            "Encoder": plan.encoder,
            "Heatmaps": f"mean AUROC of out-of-fold attention against the lesion's mask: {lesion}",
        },
        notes=_NOTES,
    )


@contextmanager
def _stage(name: str, result: DemoResult, say: Callable[[str], None]) -> Iterator[None]:
    say(f"{name} ...")
    start = time.perf_counter()
    with watch_memory() as peak:
        yield
    result.peak_bytes[name] = peak.process_bytes
    result.seconds[name] = time.perf_counter() - start
    say(f"{name}: {result.seconds[name]:.1f} s")
