"""Self-attention through landmarks, linear in the number of tokens (Xiong et al. 2021)."""

import math
from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import pad, scaled_dot_product_attention
from torch.utils.checkpoint import checkpoint

from dtcwsi.nn.inverse import FactoredInverse, inverse_of
from dtcwsi.nn.linear import Linear, linear

__all__ = ["NystromAttention", "convolved", "normed_behind_pad"]

_KEYS_AT_ONCE, _TOKENS_AT_ONCE = 4096, 4096
_LEFT_FOR_ONE = 2  # iterations of the inverse: three cost a training step more than they spare
_MAPPED_AT_ONCE = 1 << 23  # numbers of a layer's input: one product for all heads is quicker, and takes as much again
_SCORES_AT_ONCE = 1 << 25  # of landmarks and tokens, on a GPU: 128 MiB

_Marks = tuple[Tensor, Tensor, Tensor | None]  # queries, keys, logs of how many landmarks each is


class NystromAttention(nn.Module):
    """Attend as softmax(q k~) (softmax(q~ k~))^+ softmax(q~ k) v, where q~ and k~ are means of runs of tokens.

    As lucidrains' nystrom-attention computes it: tokens are padded with zeros at the front to a multiple of
    ``landmarks``, the pads enter the means and are attended to, and a depthwise convolution of the values over the
    sequence is added. Exact algebra saves what it spends: a mean of a linear map is the map of the mean, all pads are
    one key that weighs as many, and so are all landmarks of pads alone, of which a small bag has most; a large bag's
    heads are computed one at a time, no matrix of tokens by landmarks is kept, and where only the first token attends
    no values are made: it attends to rows, and the value of their mean is taken. On a GPU as many heads at once as
    have `_SCORES_AT_ONCE`, and no tricks that spare arithmetic for launches.
    """

    def __init__(
        self, width: int, *, heads: int, landmarks: int, iterations: int = 6, kernel: int = 33, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.heads, self.landmarks, self.iterations = heads, landmarks, iterations
        self.scale = (width // heads) ** -0.5
        self.qkv = Linear(width, 3 * width, bias=False)
        self.out = Linear(width, width)
        self.convolution = nn.Conv2d(heads, heads, (kernel, 1), padding=(kernel // 2, 0), groups=heads, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, padded: Float[Tensor, "pad_and_tokens width"], bias: Float[Tensor, "tokens"]
    ) -> Float[Tensor, "tokens width"]:
        """Attend from every token; ``bias`` is added to the logits of its key.

        The first of the rows is zero and stands for all pads, see `normed_behind_pad`.
        """
        return self._attended(padded, bias)[0]

    def looked(
        self, padded: Float[Tensor, "pad_and_tokens width"], bias: Float[Tensor, "tokens"]
    ) -> tuple[Float[Tensor, "tokens width"], Callable[[Tensor], Tensor]]:
        """Attend as `forward` does.

        Returns: the rows; and what says, of the weights of now and without gradient, how much tokens that are weighed
        attended to each token, a mean over heads: (tokens,) to (tokens,).
        """
        made, reach, (query_marks, key_marks, weights) = self._attended(padded, bias)
        marks = query_marks.detach(), key_marks.detach(), weights
        maps = self._weights()[:2].detach().clone()
        return made, partial(self._taken_from, padded.detach(), reach.detach(), marks, maps)

    def _attended(self, padded: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, _Marks]:
        rows = padded[1:]
        reach, heads = self._key_bias(rows, bias), []
        marks = query_marks, key_marks, weights = self._marks(rows)
        inverse = self._inverse(marks, left=1)
        for some in self._heads_at_once(rows):
            queries, keys, values = self._mapped(padded, self._weights()[:, some])
            reached = _attend_from_few(query_marks[some], keys, values, reach)
            marked = inverse.of(some).before(reached).contiguous()
            found = _attend_to_few(queries[:, 1:], key_marks[some] * self.scale, marked, weights)
            found = found + convolved(values[:, 1:], self.convolution.weight[some, 0, :, 0])
            heads.append(found.transpose(0, 1).flatten(1))
        return self._merged(heads), reach, marks

    def of_first(
        self, padded: Float[Tensor, "pad_and_tokens width"], bias: Float[Tensor, "tokens"]
    ) -> tuple[Float[Tensor, "1 width"], Float[Tensor, "tokens"]]:
        """Attend from the first token alone, and say how much to each token, a mean over heads without gradient."""
        of_value, rows = self._weights()[2], padded[1:]
        shares = self._shares(padded, bias)
        found = of_value @ (shares.T @ rows)[:, :, None]
        half = self.convolution.weight.shape[2] // 2
        near = rows[: half + 1]
        kernels = self.convolution.weight[:, 0, half : half + len(near), 0]
        local = of_value @ (kernels @ near)[:, :, None]
        return self._merged(list((found + local).mT)), shares.detach().mean(dim=1)

    @torch.no_grad()
    def shares_of_first(
        self, padded: Float[Tensor, "pad_and_tokens width"], bias: Float[Tensor, "tokens"]
    ) -> Float[Tensor, "tokens heads"]:
        """Say how much the first token attends to each token, head by head, without gradient."""
        return self._shares(padded, bias)

    @torch.no_grad()
    def _taken_from(
        self,
        padded: Float[Tensor, "pad_and_tokens width"],
        reach: Float[Tensor, "pad_and_tokens"],
        marks: _Marks,
        of_query_and_key: Float[Tensor, "2 heads part width"],
        over: Float[Tensor, "tokens"],
    ) -> Float[Tensor, "tokens"]:
        query_marks, key_marks, weights = marks
        inverse = self._inverse(marks, left=_LEFT_FOR_ONE)
        at_once, heads = len(padded) if _wants_few_launches(padded) else _TOKENS_AT_ONCE, []
        for some in self._heads_at_once(padded[1:]):
            queries, keys = self._mapped(padded, of_query_and_key[:, some])
            queries = queries[:, 1:] * self.scale
            near = queries.new_zeros(len(queries), 1, key_marks.shape[1])
            for part, share in zip(torch.split(queries, at_once, dim=1), torch.split(over, at_once), strict=True):
                near = near + share @ _softmax(part @ key_marks[some].mT, weights)[:, None]
            heads.append(_over_landmarks(inverse.of(some).behind(near), query_marks[some], keys, reach, at_once))
        return torch.cat(heads)[:, 0, 1:].mean(dim=0)

    def _shares(self, padded: Tensor, bias: Tensor) -> Float[Tensor, "tokens heads"]:
        """Go from the first token over the landmarks to the tokens; pads have no value, only weight."""
        of_query, of_key, _ = self._weights()
        rows, few = padded[1:], _wants_few_launches(padded)
        reach = self._key_bias(rows, bias)
        marks = query_marks, key_marks, weights = self._marks(rows)
        query = linear(rows[:1], of_query.flatten(0, 1)).view(self.heads, 1, -1) * self.scale
        near = _softmax(query @ key_marks.mT, weights)
        over = self._inverse(marks, left=_LEFT_FOR_ONE).behind(near)
        heads, keys = [], self._mapped(padded, of_key[None])[0] if padded.numel() <= _MAPPED_AT_ONCE else None
        for some in self._heads_at_once(rows):
            these = self._mapped(padded, of_key[None, some])[0] if keys is None else keys[some]
            given = over[some], query_marks[some], these, reach, len(padded) if few else _KEYS_AT_ONCE
            heads.append(checkpoint(_over_landmarks, *given, use_reentrant=False)[:, 0, 1:])
        return torch.cat(heads).T

    def _marks(self, rows: Float[Tensor, "tokens width"]) -> _Marks:
        """Give the landmarks' queries and keys, of means of groups of tokens; pads of 0 fill the first groups.

        Groups of pads alone are one landmark. Also the logs of how many each landmark is, None where all are one.
        """
        group = math.ceil(len(rows) / self.landmarks)
        empty, pads = divmod(group * self.landmarks - len(rows), group)
        split = -pads % group
        mixed = pad(rows[:split], (0, 0, pads, 0))
        means = torch.cat([_means(mixed, group), _means(rows[split:], group)])
        counts = rows.new_ones(len(means))
        if empty:
            means, counts = pad(means, (0, 0, 1, 0)), pad(counts, (1, 0), value=float(empty))
        marks = linear(means, self.qkv.weight[: 2 * self.qkv.in_features]).view(len(means), 2, self.heads, -1)
        query_marks, key_marks = marks[:, 0].transpose(0, 1) * self.scale, marks[:, 1].transpose(0, 1)
        return query_marks, key_marks, counts.log() if empty > 1 else None

    def _inverse(self, marks: _Marks, *, left: int) -> FactoredInverse:
        """Invert how landmarks attend to each other, with ``left`` iterations to go, on a GPU none."""
        query_marks, key_marks, weights = marks
        left = 0 if _wants_few_launches(query_marks) else min(left, self.iterations)
        middle = _softmax(query_marks @ key_marks.mT, weights)
        counts = None if weights is None else weights.exp()
        return inverse_of(middle, self.iterations, left=left, counts=counts)

    def _key_bias(self, rows: Tensor, bias: Tensor) -> Float[Tensor, "tokens_plus_one"]:
        """Put in front of the tokens' biases that of the one key that stands for all pads."""
        front = -len(rows) % self.landmarks
        return pad(bias.to(rows.dtype), (1, 0), value=math.log(front) if front else -math.inf)

    def _heads_at_once(self, rows: Tensor) -> list[slice]:
        """Take heads one by one where their matrices are large, together where they are small."""
        most = _SCORES_AT_ONCE // self.landmarks if _wants_few_launches(rows) else _TOKENS_AT_ONCE
        count = min(self.heads, max(1, most // len(rows)))
        return [slice(first, first + count) for first in range(0, self.heads, count)]

    def _mapped(
        self, rows: Float[Tensor, "tokens width"], weights: Float[Tensor, "maps some part width"]
    ) -> Float[Tensor, "maps some tokens part"]:
        return linear(rows, weights.flatten(0, 2)).view(len(rows), *weights.shape[:3]).permute(1, 2, 0, 3)

    def _weights(self) -> Float[Tensor, "3 heads part width"]:
        """Lay out the weights of queries, keys and values head by head."""
        return self.qkv.weight.view(3, self.heads, -1, self.qkv.in_features)

    def _merged(self, heads: list[Tensor]) -> Float[Tensor, "tokens width"]:
        """Map what the heads found, side by side; the list is emptied, so that a large bag has it in memory once."""
        found = torch.cat(heads, dim=1)
        heads.clear()
        rows: Tensor = self.dropout(self.out(found))
        return rows


def normed_behind_pad(
    norm: nn.LayerNorm, rows: Float[Tensor, "pad_and_tokens width"]
) -> Float[Tensor, "pad_and_tokens width"]:
    """Normalise rows, but for the first, which stands for all pads and becomes zero."""
    made: Tensor = norm(rows)
    made[0] = 0
    return made


def convolved(
    rows: Float[Tensor, "heads tokens width"], kernels: Float[Tensor, "heads taps"]
) -> Float[Tensor, "heads tokens width"]:
    """Convolve columns with their head's odd kernel, zeros beyond the ends, as products with banded matrices."""
    taps, count = kernels.shape[1], rows.shape[1]
    block = 2 * taps
    shift = torch.arange(block + taps - 1, device=rows.device)[:, None] - torch.arange(block, device=rows.device)
    inside = (shift >= 0) & (shift < taps)
    bands = torch.where(inside, kernels[:, shift.clamp(0, taps - 1)], 0)
    blocks = math.ceil(count / block)
    room = pad(rows, (0, 0, taps // 2, blocks * block - count + taps // 2))
    seen = room.unfold(1, block + taps - 1, block)
    made = (seen.flatten(1, 2) @ bands).view(*seen.shape[:3], block)
    return made.mT.flatten(1, 2)[:, :count]


def _softmax(logits: Float[Tensor, "*rows keys"], weights: Float[Tensor, "keys"] | None) -> Tensor:
    return (logits if weights is None else logits + weights).softmax(dim=-1)


def _attend(
    queries: Float[Tensor, "heads queries part"],
    keys: Float[Tensor, "heads keys part"],
    values: Float[Tensor, "heads keys part"],
    bias: Float[Tensor, "keys"] | None = None,
) -> Float[Tensor, "heads queries part"]:
    mask = None if bias is None else bias[None, None, None]
    return scaled_dot_product_attention(queries[None], keys[None], values[None], attn_mask=mask, scale=1.0)[0]


def _attend_to_few(
    queries: Float[Tensor, "heads queries part"],
    keys: Float[Tensor, "heads keys part"],
    values: Float[Tensor, "heads keys part"],
    weights: Float[Tensor, "keys"] | None,
) -> Float[Tensor, "heads queries part"]:
    """Attend from many queries to few keys; without gradient by products that a processor does quicker."""
    if _wants_few_launches(keys) or torch.is_grad_enabled():
        return _attend(queries, keys, values, weights)
    made = torch.empty_like(queries)
    for head, (mine, to, of) in enumerate(zip(queries, keys, values.mT.contiguous(), strict=True)):
        parts = torch.split(made[head], _TOKENS_AT_ONCE), torch.split(mine, _TOKENS_AT_ONCE)
        for part, some in zip(*parts, strict=True):
            part.copy_(linear(_softmax(linear(some, to), weights), of))
    return made


def _attend_from_few(
    queries: Float[Tensor, "heads queries part"],
    keys: Float[Tensor, "heads keys part"],
    values: Float[Tensor, "heads keys part"],
    bias: Float[Tensor, "keys"],
) -> Float[Tensor, "heads queries part"]:
    """Attend from few queries to many keys; a GPU's fused kernel would keep but a few of its processors busy."""
    if not _wants_few_launches(keys):
        return _attend(queries, keys, values, bias)
    if not torch.is_grad_enabled():
        return _weighed(queries, keys, values, bias)
    return checkpoint(_weighed, queries, keys, values, bias, use_reentrant=False)


def _weighed(queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor) -> Tensor:
    return torch.baddbmm(bias, queries, keys.mT).softmax(dim=-1) @ values


def _wants_few_launches(rows: Tensor) -> bool:
    """Tell a GPU, which is slow to begin and quick to end, from a CPU, which is quick where all lies in its cache."""
    return rows.device.type != "cpu"


def _over_landmarks(
    over: Float[Tensor, "heads 1 landmarks"],
    query_marks: Float[Tensor, "heads landmarks part"],
    keys: Float[Tensor, "heads keys part"],
    bias: Float[Tensor, "keys"],
    at_once: int,
) -> Float[Tensor, "heads 1 keys"]:
    """Weigh each landmark's softmax over the keys; parts of it are changed in place, which spares time in memory."""
    parts = zip(torch.split(keys, at_once, dim=1), torch.split(bias, at_once), strict=True)
    reach = [_scores(query_marks, some, biases) for some, biases in parts]
    peak = torch.stack([part.detach().amax(dim=2) for part in reach]).amax(dim=0)[:, :, None]
    reach = [part.sub_(peak).exp_() for part in reach]
    share = over / torch.stack([part.sum(dim=2) for part in reach]).sum(dim=0)[:, None]
    return torch.cat([share @ part for part in reach], dim=2)


def _scores(
    queries: Float[Tensor, "heads queries part"], keys: Float[Tensor, "heads keys part"], bias: Float[Tensor, "keys"]
) -> Float[Tensor, "heads queries keys"]:
    if _wants_few_launches(keys):
        return torch.baddbmm(bias, queries, keys.mT)
    each = [linear(some, mine) + bias[:, None] for some, mine in zip(keys, queries, strict=True)]
    return (each[0][None] if len(each) == 1 else torch.stack(each)).mT


def _means(rows: Float[Tensor, "tokens width"], group: int) -> Float[Tensor, "groups width"]:
    return rows.view(len(rows) // group, group, rows.shape[1]).mean(dim=1)
