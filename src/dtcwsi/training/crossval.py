"""Cross-validation: the folds of a cohort trained one after another into a run folder."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from dtcwsi.bags.cohort import Cohort
from dtcwsi.bags.splits import Split
from dtcwsi.errors import DtcwsiError, OptionError, UsageError
from dtcwsi.memory import watch_memory
from dtcwsi.metrics import score
from dtcwsi.models import create_model
from dtcwsi.options import check_whole_number
from dtcwsi.store.atomic import check_writable, sweep, try_lock
from dtcwsi.training.environment import device_name
from dtcwsi.training.evaluation import Evaluation, evaluate
from dtcwsi.training.fitting import device_of
from dtcwsi.training.fold import fit_fold
from dtcwsi.training.folds import FoldChoice
from dtcwsi.training.left_out import left_out
from dtcwsi.training.plan import TrainingPlan, chosen_recipe
from dtcwsi.training.report import run_metrics
from dtcwsi.training.run_folder import RunFolder
from dtcwsi.training.search import Search, search_fold
from dtcwsi.training.slides import CohortSlides
from dtcwsi.training.telling import (
    Tell,
    TrainingEvent,
    epoch_teller,
    pretrained_teller,
    tell_of_fold,
    tell_of_slides,
    trial_teller,
)

__all__ = ["RunRecord", "TrainingEvent", "cross_validate"]

DEFAULT_MAX_TOKENS = 65_536
_LARGEST_SEED = 2**32 - 1  # of NumPy and scikit-learn


@dataclass(frozen=True)
class RunRecord:
    """What cross-validation did.

    ``metrics`` is the content of ``metrics.json``; ``left_out`` and ``failed_folds`` give the reason by slide and fold.
    """

    folder: Path
    metrics: dict[str, Any]
    left_out: dict[str, str] = field(default_factory=dict)
    failed_folds: dict[int, str] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """True if no slide was refused and no fold failed; a slide without tissue is no failure."""
        return not self.failed_folds and not self.metrics["left_out"]["refused"]


@dataclass(frozen=True)
class _Run:
    """A plan, where it is written, who is told, and what is to be searched."""

    plan: TrainingPlan
    folder: RunFolder
    tell: Tell
    search: Search | None


def cross_validate(
    cohort: Cohort | CohortSlides,
    *,
    model: str,
    out: str | Path,
    folds: int | None = None,
    splits: Sequence[str | Path] = (),
    group: str = "patient",
    recipe: str = "common",
    epochs: int | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    retention: float | None = None,
    options: Mapping[str, Any] | None = None,
    lr: float | None = None,
    weight_decay: float | None = None,
    patience: int | None = None,
    class_weights: str | None = None,
    max_tokens: int = DEFAULT_MAX_TOKENS,
    pretrain_steps: int = 0,
    search: Search | None = None,
    device: str = "auto",
    devices: int = 1,
    on_event: Callable[[TrainingEvent], None] | None = None,
) -> RunRecord:
    """Train and test a model on every fold of a cohort, and write the run folder.

    Each fold trains on four fifths of the other folds' patients; the last fifth stops training and chooses the
    checkpoint; the fold itself chooses nothing. ``folds`` is 5 unless given or fixed by the cohort's table; with
    ``group='site'`` whole sites stay together. ``splits`` are files, see `read_splits`, whose partitions are the folds.
    ``recipe`` is ``common``, one protocol for all models, or ``published``, that of the model's authors; ``epochs``,
    ``batch_size``, ``lr``, ``weight_decay``, ``patience`` and ``class_weights`` change it singly. Compression tightens
    over the first half of the epochs. Folds that are finished under the same settings are not trained again.
    ``pretrain_steps`` of a method's self-supervised phase come first, on the training slides of the fold; published
    phases are long, and by default there is none. A model that needs whole batches takes, without ``batch_size``, as
    many slides a step as always have at most ``max_tokens`` patches, if that is fewer than others take.
    ``search`` chooses options by each fold's validation part before the fold is trained with them.
    ``devices`` GPUs, or processes on a CPU, share every batch; the weights are those of one but for the order of sums
    and what dropout draws. Each reads its own slides; a script that asks for several needs its `__main__` guarded.
    Several trainings of one `CohortSlides` read its slides once; for a run that is finished none is read.
    Returns: metrics, and the reasons for what was left out. A failing fold does not end the others.
    Raises: CohortError if the cohort cannot be split; OptionError for a number out of range, or an optimiser that is
    not installed; OptionError or UnknownNameError for the model; UsageError if ``out`` cannot be written, holds another
    run or is in use.
    """
    tell = on_event or (lambda _: None)
    given = _options_of(model, dict(options or {}), retention)
    if Path(out).is_file():
        raise UsageError(f"{out} is a file; expected a folder for the run")
    check_writable(Path(out), make=False)
    changes = {"epochs": epochs, "batch_size": batch_size, "lr": lr, "weight_decay": weight_decay, "patience": patience}
    fixed = {name: value for name, value in {**changes, "class_weights": class_weights}.items() if value is not None}
    how = chosen_recipe(recipe, model, fixed)
    check_whole_number("pretrain_steps", pretrain_steps, least=0)
    check_whole_number("seed", seed, least=0, most=_LARGEST_SEED)
    check_whole_number("max_tokens", max_tokens)
    choice = FoldChoice(folds, group, splits)
    device_of(device)
    slides = cohort if isinstance(cohort, CohortSlides) else CohortSlides(cohort)
    with torch.random.fork_rng():  # a trial, so that a wrong option is told before slides are read
        size = {"in_dim": slides.cohort.in_dim, "n_classes": max(2, len(slides.cohort.class_names))}
        trial = create_model(model, **size, **given)
        if search is not None:
            search.check(model, given, fixed, **size)
        how.optimizer_of(trial.parameters())
        if pretrain_steps:
            trial.self_supervised()

    def planned(on: CohortSlides) -> TrainingPlan:
        return TrainingPlan(
            cohort=on.cohort,
            features=on.features,
            choice=choice,
            splits=choice.of(on.cohort, seed=seed),
            model=model,
            given=given,
            options=trial.options,  # every option as it holds, so that a run says what made it
            recipe=how,
            max_tokens=max_tokens,
            pretrain_steps=pretrain_steps,
            search=None if search is None else search.told,
            seed=seed,
            device=device,
            devices=devices,
            whole_batches=trial.whole_batches,
            needs_places=trial.needs_places or pretrain_steps > 0,
            lays_out=trial.lays_out,
        )

    plan = _finished_plan(slides, planned, Path(out))
    slides = slides if plan else slides.usable
    tell_of_slides(slides.cohort, choice, tell)
    if plan is None:
        plan = planned(slides)
        plan.check_devices()
    plan.check()
    folder = RunFolder(Path(out), plan.settings())
    with try_lock(folder.path / ".lock") as free:
        if not free:
            raise UsageError(f"another process trains into {folder.path}; wait for it or use another folder")
        folder.begin()
        if not folder.whole(len(plan.splits)):
            folder.note_start()
        sweep(folder.path)
        folder.write_folds(plan.cohort, plan.tested_in)
        return _run(_Run(plan, folder, tell, search))


def _options_of(model: str, options: dict[str, Any], retention: float | None) -> dict[str, Any]:
    """Join the options of a model.  Raises: OptionError for one that the data decide, or given twice."""
    of_data = [name for name in ("name", "in_dim", "n_classes") if name in options]
    if of_data:
        raise OptionError(f"model {model!r} takes no option {of_data[0]!r} here; features and labels decide it")
    if retention is None:
        return options
    if "retention" in options:
        raise OptionError(f"got retention={retention} and, among the options, {options['retention']}; give one of them")
    return {**options, "retention": retention}


def _run(run: _Run) -> RunRecord:
    plan, records = run.plan, dict[int, dict[str, Any]]()
    failed: dict[int, str] = {}
    for fold in range(len(plan.splits)):
        kept = run.folder.finished(fold)
        if kept is not None:
            records[fold] = kept
            run.tell(TrainingEvent("fold_kept", f"fold {fold} was finished earlier", fold))
            continue
        try:
            records[fold] = _train_fold(run, fold)
        except Exception as error:  # noqa: BLE001  # whatever one fold meets, the others are worth their hours
            kind = [] if isinstance(error, DtcwsiError) else [type(error).__name__]
            failed[fold] = ": ".join([*kind, *f"{error}".splitlines()[:1]])
            run.tell(TrainingEvent("fold_failed", f"fold {fold} failed: {failed[fold]}", fold))
    names = plan.cohort.class_names
    rows = [row for fold in sorted(records) for row in records[fold]["predictions"]]
    run.folder.write_predictions(names, rows)
    metrics = run_metrics(plan.cohort, records, failed, run.folder, seed=plan.seed)
    run.folder.write_metrics(metrics)
    return RunRecord(run.folder.path, metrics, left_out(plan.cohort), failed)


def _train_fold(run: _Run, fold: int) -> dict[str, Any]:
    plan, cohort, features = run.plan, run.plan.cohort, run.plan.features
    split = plan.splits[fold]
    tell_of_fold(plan, fold, run.tell)
    began, found = time.perf_counter(), {}
    with watch_memory() as peak:
        if run.search is not None:
            store = run.folder.fold(fold) / "search.db"
            chosen = search_fold(plan, run.search, fold, store, tell=trial_teller(run.tell, fold))
            plan, found = chosen.plan, {"search": chosen.record}
        on_epoch, on_pretrained = epoch_teller(run.tell, fold, plan.recipe.epochs), pretrained_teller(run.tell, fold)
        module = fit_fold(plan, fold, on_epoch=on_epoch, on_pretrained=on_pretrained)
    train_seconds = time.perf_counter() - began
    model, device, recipe = module.best_model(), device_of(plan.device), module.recipe
    tested = evaluate(model.to(device), features, split.test, max_tokens=recipe.max_tokens, device=device)
    model = model.cpu()
    notes = {"fold": fold, "seed": plan.seed, "best_epoch": module.best_epoch, "recipe": asdict(recipe), **found}
    run.folder.write_split(fold, cohort, split)  # first: a model whose slides nobody knows would judge them
    run.folder.write_history(fold, module.history)
    model.save(run.folder.fold(fold), features=cohort.made_by, **notes)
    record = _fold_record(plan, fold, split, tested)
    record |= {"best_epoch": module.best_epoch, "epochs": len(module.history), "train_seconds": train_seconds, **found}
    record |= {"epoch_seconds": statistics.median(module.epoch_seconds), "train_peak": asdict(peak)}
    record |= {"device": device_name(device)}
    run.folder.finish(fold, record)
    run.tell(TrainingEvent("fold_ends", f"fold {fold}: AUC {record['metrics']['auc']:.3f}", fold))
    return record


def _fold_record(plan: TrainingPlan, fold: int, split: Split, tested: Evaluation) -> dict[str, Any]:
    names = plan.cohort.class_names
    predictions = [
        {
            "slide_id": plan.cohort.slides[index].slide_id,
            "label": plan.cohort.slides[index].label,
            "fold": fold,
            "prediction": names[int(probabilities.argmax())],
            "probabilities": probabilities.tolist(),
        }
        for index, probabilities in zip(split.test, tested.probabilities, strict=True)
    ]
    return {
        "predictions": predictions,
        "metrics": {**score(tested.labels, tested.probabilities, names), "loss": tested.loss},
        "tokens_in": tested.tokens_in.tolist(),
        "tokens_out": tested.tokens_out.tolist(),
        "merged": tested.merged.tolist(),
        "pruned": tested.pruned.tolist(),
        "compress_seconds": tested.compress_seconds,
        "aggregate_seconds": tested.aggregate_seconds,
        "read_seconds": plan.features.read_seconds / max(1, plan.features.reads) * len(split.test),
        "slides": {"train": len(split.train), "val": len(split.val), "test": len(split.test)},
    }


def _finished_plan(
    slides: CohortSlides, planned: Callable[[CohortSlides], TrainingPlan], out: Path
) -> TrainingPlan | None:
    """Find a run of these settings whose folds are all there, before any slide is read; None if one is missing."""
    try:
        plan = planned(slides)
        return plan if RunFolder(out, plan.settings()).whole(len(plan.splits)) else None
    except (DtcwsiError, OSError):  # told, if it is still so, when slides that cannot be used are left out
        return None
