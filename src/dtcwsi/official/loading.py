"""Weights of the methods' published implementations: their key names in, a model of this library out."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from dtcwsi.catalog import list_models, parts_of
from dtcwsi.classifier import Classifier
from dtcwsi.errors import OptionError, UnknownNameError, UsageError
from dtcwsi.models import create_model
from dtcwsi.official import clam, dsmil, hipt, mamba2d, mhim, panther, transmil
from dtcwsi.official.checkpoint import check_apart, unwrapped
from dtcwsi.official.published import Published, State

__all__ = ["load_official"]

_PUBLISHED: dict[str, tuple[Published, ...]] = {
    "abmil": (clam.ABMIL, mhim.ABMIL),
    "clam-mb": (clam.CLAM_MB,),
    "clam-sb": (clam.CLAM_SB,),
    "dsmil": (dsmil.DSMIL,),
    "hipt": (hipt.HIPT,),
    "mamba2d": (mamba2d.MAMBA2D,),
    "mhim-abmil": (mhim.MHIM_ABMIL,),
    "mhim-transmil": (mhim.MHIM_TRANSMIL,),
    "panther": (panther.PANTHER,),
    "transmil": (transmil.TRANSMIL,),
}
_READ = ("in_dim", "n_classes")  # of the weights, whatever is asked for
_TOLD = 20  # keys by name


def load_official(name: str, state_dict: Mapping[str, Tensor], **settings: Any) -> Classifier:
    """Build a model with the weights of its published implementation, in evaluation mode.

    ``state_dict`` has the published key names, with or without the ``module.`` of parallel training, which may stand
    anywhere, or a ``model.`` in front of all; a checkpoint that holds it under ``state_dict``, as Lightning's do, is
    taken as well. Sizes are read from its shapes, other ``settings`` are options of the model. A classifier of one
    class (a single sigmoid) has no counterpart here. PANTHER's prior and its head are two state dicts there; join them:
    {**prior, **head}. HIPT's slide part alone, without keys under ``local_vit.``, gives `hipt` with
    ``regions="given"``: its tokens are features of regions. CLAM's ABMIL is its single branch trained on bags alone:
    instance classifiers in it are left out.
    Raises: UnknownNameError if no published names are known for the model; UsageError if it is no state dict, numbers
    are not finite, the keys are another method's or of a variant that there is not, or some are missing or unexpected;
    OptionError if a setting is unknown, or another width or number of classes than the weights have.
    """
    _check_name(name)
    given = unwrapped(state_dict)
    published = _kind(name, given)
    kept = published.kept(given)
    names = {key: published.renamed(key) for key in kept}
    check_apart(names)
    state = {ours: kept[key] for key, ours in names.items() if ours is not None}
    options = _options(published, kept, state)
    for setting in _READ:
        if settings.get(setting, options[setting]) != options[setting]:
            raise OptionError(
                f"got {setting}={settings[setting]!r}; the weights of {published.title} have {options[setting]}, and "
                "it is read from them: leave it out"
            )
    state = {**published.added(state), **state}
    try:
        model = create_model(name, **{**options, **settings})
    except OptionError as error:
        if settings:
            raise
        raise UsageError(f"the state dict of {published.title} has weights of other shapes: {error}") from error
    wanted = model.state_dict()
    absent = {published.published_name(key, kept) for key in set(wanted) - set(state)} | published.lacking(kept)
    _check_fit(name, kept, names, wanted, sorted(absent))
    model.load_state_dict(state)
    return model.eval()


def _check_fit(name: str, kept: State, names: dict[str, str | None], wanted: State, missing: list[str]) -> None:
    """Refuse weights that are not those of the model, which are ``wanted`` by our names.  Raises: UsageError."""
    unexpected = sorted(key for key, ours in names.items() if ours not in wanted)
    if missing or unexpected:
        lists = [_listed(keys) for keys in (missing, unexpected)]
        advice = "" if missing else "; leave out what is unexpected if the model does not use it"
        raise UsageError(f"the state dict does not fit {name}: missing {lists[0]}; unexpected {lists[1]}{advice}")
    wrong = []
    for key, ours in names.items():
        got, expected = kept[key], wanted[str(ours)]
        if got.shape != expected.shape:
            wrong.append(f"{key} {tuple(got.shape)} for {tuple(expected.shape)}")
        if expected.is_floating_point() and not got.is_floating_point():
            wrong.append(f"{key} of {got.dtype}")
    if wrong:
        raise UsageError(f"the state dict does not fit {name}: {'; '.join(wrong)}")


def _options(published: Published, kept: State, state: State) -> dict[str, Any]:
    """Read the options of the model off the weights, under their names and ours.  Raises: UsageError."""
    title, foreign = published.title, published.foreign_in(kept)
    if foreign:
        raise UsageError(f"the state dict of {title} has {foreign}, which have no counterpart here")
    try:
        options = published.options(state)
    except KeyError as error:
        name = published.published_name(str(error.args[0]), kept)
        raise UsageError(f"the state dict of {title} lacks {name}; expected {published.whole}") from error
    except ValueError as error:
        key = str(error.args[0])
        name, shape = published.published_name(key, kept), tuple(state[key].shape)
        raise UsageError(f"the state dict of {title} has {name} of other dimensions: {shape}") from error
    if options["n_classes"] < 2:
        raise UsageError(
            f"the state dict of {title} has one class, a single sigmoid; expected two or more, whose logits are "
            "compared: it has no counterpart here"
        )
    return options


def _check_name(name: str) -> None:
    """Refuse a model that was published under no such name.  Raises: UnknownNameError."""
    asked = name if isinstance(name, str) else ""
    if asked in _PUBLISHED:
        return
    behind = parts_of(asked)[1] if asked in list_models() else ""
    if behind in _PUBLISHED:
        raise UnknownNameError(
            f"no published weights are known for {name!r}; load {behind!r} and give its weights to the other: "
            f"create_model({name!r}, ...).aggregator"
            f".load_state_dict(load_official({behind!r}, ...).aggregator.state_dict())"
        )
    known = ", ".join(_PUBLISHED)
    raise UnknownNameError(f"no published weights are known for {name!r}; expected one of {known}")


def _kind(name: str, state: State) -> Published:
    """Tell which implementation the weights are of.  Raises: UsageError naming the one of another method."""
    for published in _PUBLISHED[name]:
        if published.owns(state):
            return published
    others = [published for several in _PUBLISHED.values() for published in several if published.owns(state)]
    nearest = max(_PUBLISHED[name], key=lambda published: published.known(state))
    if not others and 2 * nearest.known(state) > len(nearest.kept(state)):
        return nearest  # what is missing will be told
    most = max(others, key=lambda published: published.known(state), default=None)
    if most is not None:
        taken = next(known for known, several in _PUBLISHED.items() if most in several)
        looks = f"this looks like a {most.title} checkpoint, which load_official({taken!r}, ...) takes"
    else:
        looks = f"got keys such as {sorted(state)[:3]}{_advice(_PUBLISHED[name], state)}"
    wanted = " or ".join(published.title for published in _PUBLISHED[name])
    raise UsageError(f"the state dict is not one of {wanted}: {looks}")


def _advice(wanted: tuple[Published, ...], state: State) -> str:
    """Say what to do with keys that are nobody's."""
    if any(key.startswith("aggregator.") for key in state):
        return "; those are dtcwsi's own names: create_model(...).load_state_dict takes them"
    heads = {key.partition(".")[0] for key in state}
    behind = {key.partition(".")[2]: tensor for key, tensor in state.items()}
    if len(heads) == 1 and any(published.owns(behind) for published in wanted):
        return f"; take {heads.pop() + '.'!r} off all of them"
    return ""


def _listed(keys: list[str]) -> str:
    """Write down some keys, and how many more there are."""
    more = f" and {len(keys) - _TOLD} more" if len(keys) > _TOLD else ""
    return (", ".join(keys[:_TOLD]) or "nothing") + more
