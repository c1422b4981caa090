"""A teacher that follows its student as a running mean, and what it hides (Tang et al. 2023)."""

import copy
import math
import warnings
from typing import Generic, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from dtcwsi.errors import OptionError
from dtcwsi.nn.hiding import Hiding, hidden_tokens
from dtcwsi.nn.segment import offsets_of, segment_ids
from dtcwsi.options import check_number, check_share

__all__ = ["Teaching"]

Student = TypeVar("Student", bound=nn.Module)


class Teaching(Generic[Student]):
    """Copies a student once ``warm_up`` of training is done, and follows it from step to step with memory ``ema``.

    Hides ``hide_random`` of a bag's tokens, the ``hide_low`` of least and the ``hide_high`` of most attention, of which
    a share ``high_drawn`` of the candidates is drawn; this kind falls to 0 along a cosine once there is a teacher.
    ``agreement`` weighs the comparison of bag vectors at ``temperature``. It is no module: no state dict holds the
    teacher, and a training that goes on from one has a new teacher, a copy of the student.
    Raises: OptionError if an option is out of range.
    """

    def __init__(
        self,
        *,
        warm_up: float,
        ema: float,
        hide_random: float,
        hide_low: float,
        hide_high: float,
        high_drawn: float,
        agreement: float,
        temperature: float,
    ) -> None:
        self._warm_up, self._ema = check_share("warm_up", warm_up), check_share("ema", ema)
        self._hiding = Hiding(
            check_share("hide_random", hide_random),
            check_share("hide_low", hide_low),
            check_share("hide_high", hide_high),
            check_number("high_drawn", high_drawn, lambda share: 0 < share <= 1, "a share above 0, up to 1"),
        )
        if self._hiding.high > self._hiding.high_drawn:
            raise OptionError(
                f"got hide_high={hide_high} and high_drawn={high_drawn}; expected hide_high at most high_drawn, since "
                "hide_high / high_drawn of a bag are its candidates"
            )
        self._agreement = check_number("agreement", agreement, lambda weight: 0 <= weight < math.inf, "0 or more")
        self._temperature = check_number("temperature", temperature, lambda t: 0 < t < math.inf, "above 0")
        self._progress, self._heard = 1.0, False
        self.teacher: Student | None = None

    def set_progress(self, progress: float, student: Student) -> None:
        """End an optimiser step: the teacher follows, or appears; a smaller ``progress`` begins another training."""
        if progress < self._progress or progress >= 1:
            self.teacher = None
        elif progress > self._progress and self.teacher is not None:
            self._follow(self.teacher, student)
        if self.teacher is None and self._warm_up <= progress < 1:
            self.teacher = copy.deepcopy(student).requires_grad_(requires_grad=False).train()
        self._progress, self._heard = progress, True

    def teacher_of(self, student: Student) -> Student | None:
        """Give the teacher, on the student's device and of its type; None before it appears.

        Warns, once, where training never said how far it is.
        """
        if not self._heard:
            self._heard = True
            warnings.warn(
                "mhim trains as its baseline, without a teacher, as long as nobody says how far training is; "
                "call model.set_progress(share) before every step",
                stacklevel=2,
            )
        return None if self.teacher is None else self.teacher.to(next(student.parameters()))

    def seen(
        self, looked: Float[Tensor, "tokens *heads"], offsets: Int[Tensor, "bags_plus_one"]
    ) -> tuple[Int[Tensor, "seen"], Int[Tensor, "bags_plus_one"]]:
        """Choose the tokens that stay, by the teacher's attention.

        Returns: their rows, and the bags' offsets among them.
        """
        taught = max(0.0, self._progress - self._warm_up) / (1 - self._warm_up)
        high = self._hiding.high * 0.5 * (1 + math.cos(math.pi * taught))
        now = Hiding(self._hiding.drawn, self._hiding.low, high, self._hiding.high_drawn)
        rows = (~hidden_tokens(looked, offsets, now)).nonzero().squeeze(1)
        ids = segment_ids(offsets, len(looked))
        return rows, offsets_of(ids[rows].bincount(minlength=len(offsets) - 1))

    def losses(self, ours: Float[Tensor, "bags width"], theirs: Float[Tensor, "bags width"]) -> dict[str, Tensor]:
        """Compare bag vectors as distributions over channels: cross-entropy, a mean over bags."""
        wanted = (theirs / self._temperature).softmax(dim=1)
        apart = -(wanted * ours.log_softmax(dim=1)).sum(dim=1).mean()
        return {"teacher_disagreement": self._agreement * apart}

    @torch.no_grad()
    def _follow(self, teacher: nn.Module, student: nn.Module) -> None:
        for theirs, ours in zip(teacher.parameters(), student.parameters(), strict=True):
            theirs.lerp_(ours, 1 - self._ema)
