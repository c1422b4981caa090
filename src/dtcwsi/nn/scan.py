"""Linear recurrences whose decay depends on the input, over a grid: left to right, then top to bottom."""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["scan_grid"]

_STRIP_NUMBERS = 1 << 20
_LONG = 1024


def scan_grid(
    inputs: Float[Tensor, "rows columns channels"],
    steps: Float[Tensor, "rows columns channels"],
    rates: Float[Tensor, "states channels"],
    writes: Float[Tensor, "rows columns states"],
    reads: Float[Tensor, "rows columns states"],
) -> Float[Tensor, "rows columns channels"]:
    """Carry states of every channel along each row, then the states so made down each column, and read them.

    With decay = exp(steps rates), across[i, j] = decay[i, j] across[i, j - 1] + steps[i, j] writes[i, j] inputs[i, j],
    states[i, j] = decay[i, j] states[i - 1, j] + across[i, j], and the result is the sum of reads[i, j] states[i, j].
    ``steps`` >= 0 and ``rates`` <= 0 keep it stable. Time and memory are linear in the cells: states exist for a strip
    of rows at a time and are made again in the backward pass, for which a row of states a strip is kept. It has first
    derivatives only. A side of more than 1,024 cells is scanned in pieces, about the square root of its length, whose
    ends are joined, so that loops stay short.
    Returns: in float32, or float64 if the inputs are.
    Source: Zhang et al. 2025, 2DMamba, and for the recurrence Gu and Dao 2023.
    """
    wide = torch.promote_types(inputs.dtype, torch.float32)
    given = (part.to(wide) for part in (inputs, steps, rates, writes, reads))
    read: Tensor = _Scan.apply(*given)
    return read


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, steps: Tensor, rates: Tensor, writes: Tensor, reads: Tensor) -> Tensor:
        strips, room = _strips(steps, rates, 2)
        found, above = torch.empty_like(steps), steps.new_zeros(steps.shape[1], *rates.shape)
        kept = above.new_empty(len(strips), *above.shape) if any(ctx.needs_input_grad) else None
        for number, strip in enumerate(strips):
            if kept is not None:
                kept[number] = above
            decay, states = _across(inputs[strip], steps[strip], rates, writes[strip], room)
            _down(decay, states, above)
            above.copy_(states[-1])
            torch.sum(states.mul_(reads[strip][..., None]), dim=-2, out=found[strip])
        ctx.save_for_backward(inputs, steps, rates, writes, reads, kept)
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slopes: Tensor) -> tuple[Tensor, ...]:
        inputs, steps, rates, writes, reads, kept = ctx.saved_tensors
        strips, room = _strips(steps, rates, 5)
        made = tuple(torch.zeros_like(part) for part in (inputs, steps, rates, writes, reads))
        below = torch.zeros_like(kept[0])
        for number, strip in reversed(list(enumerate(strips))):
            given = (inputs[strip], steps[strip], rates, writes[strip], reads[strip])
            parts = _strip_slopes(*given, slopes[strip], kept[number], below, room)
            made[2].add_(parts[2])
            for place in (0, 1, 3, 4):
                made[place][strip] = parts[place]
        return made


def _strips(steps: Tensor, rates: Tensor, parts: int) -> tuple[list[slice], Tensor]:
    """Cut the rows into strips whose states fit a cache; make room for some numbers a state of one strip."""
    rows, columns, _ = steps.shape
    many = min(rows, max(1, _STRIP_NUMBERS // max(1, columns * rates.numel())))
    cuts = [slice(start, min(rows, start + many)) for start in range(0, rows, many)]
    return cuts, steps.new_empty(parts, many, columns, *rates.shape)


def _across(inputs: Tensor, steps: Tensor, rates: Tensor, writes: Tensor, room: Tensor) -> tuple[Tensor, Tensor]:
    """Fill the ``room`` with the decays of a strip, and with its states carried along the rows alone."""
    decay, states = room[0][: len(steps)], room[1][: len(steps)]
    torch.mul(steps[:, :, None], rates, out=decay).exp_()
    torch.mul((steps * inputs)[:, :, None], writes[..., None], out=states)
    _carry(decay.transpose(0, 1), states.transpose(0, 1))
    return decay, states


def _down(decay: Tensor, states: Tensor, above: Tensor) -> None:
    """Carry states down the columns, in place, beginning with those of the row above."""
    states[0].addcmul_(decay[0], above)
    _carry(decay, states)


def _strip_slopes(
    inputs: Tensor,
    steps: Tensor,
    rates: Tensor,
    writes: Tensor,
    reads: Tensor,
    slopes: Tensor,
    above: Tensor,
    below: Tensor,
    room: Tensor,
) -> tuple[Tensor, ...]:
    """Differentiate one strip; ``above`` are the states of the row before.

    ``below`` is the slope of the strip's last states by way of the rows that follow; it becomes that of ``above``.
    Returns: the slopes of inputs, steps, rates, writes and reads.
    """
    decay, across = _across(inputs, steps, rates, writes, room)
    states, of_states, of_decay = room[2:, : len(steps)]
    _down(decay, states.copy_(across), above)
    torch.mul(slopes[:, :, None], reads[..., None], out=of_states)
    of_states[-1] += below
    _carry_back(decay, of_states)
    torch.mul(of_states[0], above, out=of_decay[0])
    torch.mul(of_states[1:], states[:-1], out=of_decay[1:])
    of_reads = states.mul_(slopes[:, :, None]).sum(dim=-1)
    torch.mul(decay[0], of_states[0], out=below)
    _carry_back(decay.transpose(0, 1), of_states.transpose(0, 1))  # now they are the slopes of what the rows carried
    of_decay[:, 1:].addcmul_(of_states[:, 1:], across[:, :-1])
    of_power, written = of_decay.mul_(decay), (steps * inputs)[:, :, None]
    of_rates = torch.mul(of_power, steps[:, :, None], out=states).sum(dim=(0, 1))
    of_writes = torch.mul(of_states, written, out=states).sum(dim=-1)
    of_written = of_states.mul_(writes[..., None]).sum(dim=-2)
    of_steps = of_power.mul_(rates).sum(dim=-2).addcmul_(of_written, inputs)
    return of_written * steps, of_steps, of_rates, of_writes, of_reads


def _carry(decay: Float[Tensor, "length *dims"], states: Float[Tensor, "length *dims"]) -> None:
    """Add decay[t] states[t - 1] to states[t], in place, from the second on."""
    if len(states) <= _LONG:
        rows = states.unbind(0)
        for before, factor, row in zip(rows[:-1], decay.unbind(0)[1:], rows[1:], strict=True):
            row.addcmul_(factor, before)
        return
    length = math.isqrt(len(states))
    whole = len(states) // length * length
    pieces, factors = (part[:whole].view(-1, length, *part.shape[1:]) for part in (states, decay))
    reach = factors.clone()
    for place in range(1, length):
        pieces[:, place].addcmul_(factors[:, place], pieces[:, place - 1])
        reach[:, place].mul_(reach[:, place - 1])
    for number in range(1, len(pieces)):
        pieces[number].addcmul_(reach[number], pieces[number - 1, -1])
    _carry(decay[whole - 1 :], states[whole - 1 :])


def _carry_back(decay: Float[Tensor, "length *dims"], slopes: Float[Tensor, "length *dims"]) -> None:
    """Add decay[t + 1] slopes[t + 1] to slopes[t], in place, from the last but one to the first."""
    if len(slopes) <= _LONG:
        rows, factors = slopes.unbind(0), decay.unbind(0)
        for place in range(len(rows) - 2, -1, -1):
            rows[place].addcmul_(factors[place + 1], rows[place + 1])
        return
    turned = slopes.flip(0)
    _carry(decay.flip(0).roll(1, 0), turned)
    slopes.copy_(turned.flip(0))
