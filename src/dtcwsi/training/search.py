"""Options chosen by the validation part of each fold, with Optuna; the fold itself chooses nothing."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import yaml

from dtcwsi.catalog import model_options
from dtcwsi.errors import DtcwsiError, OptionError, UsageError
from dtcwsi.models import create_model
from dtcwsi.options import check_whole_number
from dtcwsi.recipe import COMMON
from dtcwsi.registry import near
from dtcwsi.store.digest import digest
from dtcwsi.training.fold import fit_fold
from dtcwsi.training.module import Epoch
from dtcwsi.training.plan import TrainingPlan

if TYPE_CHECKING:
    import optuna

__all__ = ["Choice", "Range", "Search", "search_fold", "shown", "values_of"]

NUMBERS = ("lr", "weight_decay")
"""Numbers of the recipe that can be searched beside the model's options."""

_BUDGET = {"retention", "schedule", "stages"}  # one says what the others are
_RANDOM_TRIALS, _UNPRUNED_TRIALS = 10, 4


@dataclass(frozen=True)
class Range:
    """All numbers from ``low`` to ``high``, on a ``log`` scale or not; whole ones where the option's default is one."""

    low: int | float
    high: int | float
    log: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise OptionError(f"got the range {self.low} to {self.high}; expected two numbers, the smaller one first")
        if self.log and self.low <= 0:
            raise OptionError(f"got a log scale from {self.low}; expected one from above 0")

    def of(self, default: Any) -> "Range":
        """Take the kind of number that an option's default is, for a range of whole numbers may be of any."""
        return replace(self, low=float(self.low), high=float(self.high)) if isinstance(default, float) else self

    @property
    def ends(self) -> tuple[int | float, ...]:
        """What a space must allow for all between to be allowed."""
        return self.low, self.high

    def __str__(self) -> str:
        return f"{self.low} to {self.high}{', log scale' if self.log else ''}"


@dataclass(frozen=True)
class Choice:
    """One of some values."""

    values: tuple[Any, ...]

    def __post_init__(self) -> None:
        if len(self.values) < 2:
            raise OptionError(f"got the choice {list(self.values)}; expected two values or more")

    def of(self, default: Any) -> "Choice":  # noqa: ARG002  # as `Range.of`
        """Stay as it is."""
        return self

    @property
    def ends(self) -> tuple[Any, ...]:
        """All values."""
        return self.values

    def __str__(self) -> str:
        return " | ".join(map(str, self.values))


def values_of(name: str, text: Any) -> Range | Choice:
    """Read ``low:high``, ``low:high:log``, ``one,other,...`` or a list, values as in YAML.  Raises: OptionError."""
    try:
        return _values(name, text)
    except OptionError as error:
        told = str(error)
        raise OptionError(told if told.startswith(f"got {name}=") else f"searching {name}: {told}") from error


def _values(name: str, text: Any) -> Range | Choice:
    if isinstance(text, list):
        return Choice(tuple(text))
    if not isinstance(text, str):  # to YAML 4:8 is a number to the base of 60
        raise OptionError(f"{_unreadable(name, text)}, in quotes where it has a colon")
    low, *rest = text.split(":")
    try:
        if rest and rest[1:] in ([], ["log"]):
            return Range(_value(low), _value(rest[0]), log=bool(rest[1:]))
        if not rest and "," in text:
            return Choice(tuple(map(_value, text.split(","))))
    except (TypeError, ValueError, yaml.YAMLError) as error:
        raise OptionError(_unreadable(name, text)) from error
    raise OptionError(_unreadable(name, text))


def _value(text: str) -> Any:
    """Read a value as in YAML, to which 1e-3 is text and not a number."""
    value = yaml.safe_load(text)
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _unreadable(name: str, text: Any) -> str:
    return f"got {name}={text!r} to search; expected low:high, low:high:log or values such as 4,8,16"


@dataclass(frozen=True)
class Search:
    """What is searched: options of the model, ``lr`` and ``weight_decay`` by name, in ``trials`` trainings a fold.

    Raises: OptionError for no name or no trial; UsageError without the extra ``tune``.
    """

    space: Mapping[str, Range | Choice]
    trials: int = 20

    def __post_init__(self) -> None:
        check_whole_number("trials", self.trials)
        if not self.space:
            raise OptionError("got a search without anything to search; expected options such as lam=0:1")
        if find_spec("optuna") is None:
            raise UsageError('searching needs optuna; install it: pip install "dtcwsi[tune]"')

    def of(self, model: str, given: Mapping[str, Any]) -> "Search | None":
        """Leave out what a model has no option for, or is ``given``; None if nothing is left."""
        known = {*NUMBERS, *model_options(model)} - set(given)
        if not _BUDGET.isdisjoint(given):
            known -= _BUDGET
        space = {name: values for name, values in self.space.items() if name in known}
        return replace(self, space=space) if space else None

    @property
    def told(self) -> dict[str, Any]:
        """The space and the budget, for settings and results."""
        return {"space": {name: str(values) for name, values in sorted(self.space.items())}, "trials": self.trials}

    def check(
        self, model: str, given: Mapping[str, Any], numbers: Mapping[str, Any], *, in_dim: int, n_classes: int
    ) -> None:
        """Try the ends of every range once, before a slide is read.

        ``given`` are options of the model and ``numbers`` those of the recipe that are fixed.
        Raises: OptionError if a name is no option of the model, is fixed as well, or an end is refused.
        """
        options = create_model(model, in_dim=in_dim, n_classes=n_classes, **given).options
        known, fixed = {*NUMBERS, *options}, {**numbers, **given}
        for name, values in self.space.items():
            if name not in known:
                raise OptionError(f"{model} has no option {name!r} to search; near options: {near(name, known)}")
            if name in fixed:
                raise OptionError(f"got {name}={fixed[name]!r} and a search over it; leave one of the two out")
            for end in values.of(options.get(name, 0.0)).ends:
                if name in NUMBERS:
                    number: dict[str, Any] = {name: end}
                    replace(COMMON, **number)
                else:
                    create_model(model, in_dim=in_dim, n_classes=n_classes, **{**given, name: end})


@dataclass(frozen=True)
class Found:
    """A plan with what was found, and the ``record`` of how: trials, those pruned or failed, the best values."""

    plan: TrainingPlan
    record: dict[str, Any]


def search_fold(
    plan: TrainingPlan, search: Search, fold: int, store: Path, *, tell: Callable[[str], None] = lambda _: None
) -> Found:
    """Train a fold with other options, trial by trial, and give the plan with those of least validation loss.

    Trials are drawn by TPE and pruned by the median from the second half of the epochs on, before which budgets still
    tighten. ``store`` is the study's SQLite file: a search that was killed goes on, and draws what an undisturbed one
    would have drawn, since each trial has a seed of its own.
    Raises: UsageError if the store holds another study; DtcwsiError if no trial came through.
    """
    with _study(plan, search, fold, store) as (study, distributions):
        for number in range(len(_finished(study)), search.trials):
            study.sampler = _sampler(plan.seed_of(fold), number)
            _try(plan, fold, study, study.ask(distributions), tell)
        finished = _finished(study)
        states = [trial.state.name for trial in finished]
        if "COMPLETE" not in states:
            raise DtcwsiError(f"none of {len(finished)} trials came through; search a smaller space")
        best = {name: study.best_params[name] for name in sorted(study.best_params)}
        counts = {"pruned": states.count("PRUNED"), "failed": states.count("FAIL")}
        record = {**search.told, **counts, "best": best, "val_loss": study.best_value}
    return Found(changed(plan, best), record)


def changed(plan: TrainingPlan, values: Mapping[str, Any]) -> TrainingPlan:
    """Give a plan other options and numbers of the recipe; options that follow from others follow from these."""
    numbers = {name: value for name, value in values.items() if name in NUMBERS}
    given = {**plan.given, **{name: value for name, value in values.items() if name not in NUMBERS}}
    with torch.random.fork_rng():
        n_classes = len(plan.cohort.class_names)
        options = create_model(plan.model, in_dim=plan.cohort.in_dim, n_classes=n_classes, **given).options
    return replace(plan, given=given, options=options, recipe=replace(plan.recipe, **numbers))


def _try(
    plan: TrainingPlan, fold: int, study: "optuna.Study", trial: "optuna.Trial", tell: Callable[[str], None]
) -> None:
    import optuna

    def on_epoch(row: Epoch) -> None:
        trial.report(row.val_loss, row.epoch)
        if trial.should_prune():
            raise optuna.TrialPruned

    name = f"fold {fold} trial {len(_finished(study)) + 1}: {shown(trial.params)}"
    try:
        module = fit_fold(changed(plan, trial.params), fold, on_epoch=on_epoch)
        losses = [row.val_loss for row in module.history if row.epoch == module.best_epoch]
        if not losses:
            raise DtcwsiError("the validation loss was never finite")
    except optuna.TrialPruned:
        study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        tell(f"{name}: pruned")
    except (DtcwsiError, ValueError, RuntimeError) as error:  # torch's out of memory is a RuntimeError
        reason = next(iter(f"{error}".splitlines()), type(error).__name__)
        trial.set_user_attr("reason", reason)
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
        tell(f"{name}: failed: {reason}")
    else:
        study.tell(trial, losses[0])
        tell(f"{name}: validation loss {losses[0]:.4f}")


def _opened(store: Path, address: str) -> "optuna.storages.RDBStorage":
    """Open a fold's store.  Raises: UsageError if the file is none or cannot be opened."""
    import optuna
    from sqlalchemy.exc import DatabaseError, OperationalError

    try:
        return optuna.storages.RDBStorage(address)
    except OperationalError as error:  # locked, or no file can be made there
        raise UsageError(f"{store} cannot be opened ({error.orig}); end what uses it, or make it writable") from error
    except DatabaseError as error:
        raise UsageError(
            f"{store} is no store of a search ({error.orig}); delete it, and the fold is searched anew"
        ) from error


@contextmanager
def _study(
    plan: TrainingPlan, search: Search, fold: int, store: Path
) -> Iterator[tuple["optuna.Study", dict[str, "optuna.distributions.BaseDistribution"]]]:
    """Open a fold's study, or begin it; trials that a kill cut off are set aside."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    store.parent.mkdir(parents=True, exist_ok=True)
    name = str(store).replace("{", "{{").replace("}", "}}")  # optuna fills braces in
    storage = _opened(store, f"sqlite:///{name}")
    warm_up = plan.recipe.epochs // 2
    pruner = optuna.pruners.MedianPruner(n_startup_trials=_UNPRUNED_TRIALS, n_warmup_steps=warm_up)
    try:
        study = optuna.create_study(storage=storage, study_name="fold", pruner=pruner, load_if_exists=True)
        made = digest(fold=fold, search=search.told, settings=plan.settings())
        if study.user_attrs.get("digest", made) != made:
            raise UsageError(f"{store} holds a search of other settings; delete it or use another run folder")
        study.set_user_attr("digest", made)
        for trial in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
            study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        yield (
            study,
            {
                name: _distribution(values.of(plan.options.get(name, 0.0)))
                for name, values in sorted(search.space.items())
            },
        )
    finally:
        storage.remove_session()
        storage.engine.dispose()


def shown(values: Mapping[str, Any]) -> str:
    """Write values for a person: lr 0.001, stages 3."""
    return ", ".join(
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}" for name, value in values.items()
    )


def _finished(study: "optuna.Study") -> "list[optuna.trial.FrozenTrial]":
    """List trials that came to an end of their own, good or bad."""
    return [
        trial
        for trial in study.get_trials(deepcopy=False)
        if trial.state.name in ("COMPLETE", "PRUNED") or (trial.state.name == "FAIL" and "reason" in trial.user_attrs)
    ]


def _sampler(seed: int, number: int) -> "optuna.samplers.BaseSampler":
    import optuna

    mixed = int(digest(seed=seed, trial=number)[:8], 16)
    return optuna.samplers.TPESampler(seed=mixed, n_startup_trials=_RANDOM_TRIALS)


def _distribution(values: Range | Choice) -> "optuna.distributions.BaseDistribution":
    from optuna import distributions

    if isinstance(values, Choice):
        return distributions.CategoricalDistribution(values.values)
    if isinstance(values.low, int) and isinstance(values.high, int):
        return distributions.IntDistribution(values.low, values.high, log=values.log)
    return distributions.FloatDistribution(values.low, values.high, log=values.log)
