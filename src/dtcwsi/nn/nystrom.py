"""Self-attention through landmarks, linear in the number of tokens (Xiong et al. 2021)."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import linear, pad, scaled_dot_product_attention

__all__ = ["NystromAttention", "pseudo_inverse"]


class NystromAttention(nn.Module):
    """Attend as softmax(q k~) (softmax(q~ k~))^+ softmax(q~ k) v, where q~ and k~ are means of runs of tokens.

    As lucidrains' nystrom-attention computes it: tokens are padded with zeros at the front to a multiple of
    ``landmarks``, the pads enter the means and are attended to, and a depthwise convolution of the values over the
    sequence is added. Exact algebra saves what it spends: a mean of a linear map is the map of the mean, all pads are
    one key that weighs as many, and no matrix of tokens by landmarks is kept.
    """

    def __init__(
        self, width: int, *, heads: int, landmarks: int, iterations: int = 6, kernel: int = 33, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.heads, self.landmarks, self.iterations = heads, landmarks, iterations
        self.scale = (width // heads) ** -0.5
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width)
        self.convolution = nn.Conv2d(heads, heads, (kernel, 1), padding=(kernel // 2, 0), groups=heads, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, rows: Float[Tensor, "tokens width"], bias: Float[Tensor, "tokens"]
    ) -> Float[Tensor, "tokens width"]:
        """Attend from every token; ``bias`` is added to the logits of its key."""
        queries, keys, values = self._split(linear(_with_pad(rows), self.qkv.weight)).chunk(3)
        key_marks, marked = self._marked(rows, bias, keys, values)[1:]
        found = scaled_dot_product_attention((queries * self.scale)[:, 1:], key_marks, marked, scale=1.0)
        return self._merged(found + self.convolution(values[None, :, 1:])[0])

    def of_first(
        self, rows: Float[Tensor, "tokens width"], bias: Float[Tensor, "tokens"]
    ) -> tuple[Float[Tensor, "1 width"], Float[Tensor, "tokens"]]:
        """Attend from the first token alone, and say how much to each token, a mean over heads without gradient."""
        width = rows.shape[1]
        query = self._split(linear(rows[:1], self.qkv.weight[:width])) * self.scale
        keys, values = self._split(linear(_with_pad(rows), self.qkv.weight[width:])).chunk(2)
        query_marks, key_marks, marked = self._marked(rows, bias, keys, values)
        found = scaled_dot_product_attention(query, key_marks, marked, scale=1.0)
        centre = self.convolution.weight.shape[2] // 2
        near = values[:, 1 : centre + 2]
        local = (self.convolution.weight[:, 0, centre : centre + near.shape[1]] * near).sum(dim=1, keepdim=True)
        with torch.no_grad():
            shares = self._shares(query, query_marks, key_marks, keys, self._key_bias(rows, bias))
        return self._merged(found + local), shares.mean(dim=1)

    @torch.no_grad()
    def shares_of_first(
        self, rows: Float[Tensor, "tokens width"], bias: Float[Tensor, "tokens"]
    ) -> Float[Tensor, "tokens heads"]:
        """Say how much the first token attends to each token, head by head, without gradient."""
        width = rows.shape[1]
        query = self._split(linear(rows[:1], self.qkv.weight[:width])) * self.scale
        keys = self._split(linear(_with_pad(rows), self.qkv.weight[width : 2 * width]))
        return self._shares(query, *self._marks(rows), keys, self._key_bias(rows, bias))

    def _shares(
        self, query: Tensor, query_marks: Tensor, key_marks: Tensor, keys: Tensor, key_bias: Tensor
    ) -> Float[Tensor, "tokens heads"]:
        weights = (query @ key_marks.mT).softmax(dim=-1) @ self._inverse(query_marks, key_marks)
        heads = []
        for head in range(self.heads):  # one matrix of landmarks by tokens at a time
            reach = (query_marks[head] @ keys[head].T + key_bias).softmax(dim=-1)
            heads.append((weights[head] @ reach)[0, 1:])
        return torch.stack(heads, dim=1)

    def _marked(self, rows: Tensor, bias: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Give the landmarks' queries and keys, and what each landmark is worth to a token that attends to it."""
        query_marks, key_marks = self._marks(rows)
        reach = self._key_bias(rows, bias)[None, None]
        found = scaled_dot_product_attention(query_marks, keys, values, attn_mask=reach, scale=1.0)
        return query_marks, key_marks, self._inverse(query_marks, key_marks) @ found

    def _marks(self, rows: Float[Tensor, "tokens width"]) -> tuple[Tensor, Tensor]:
        group = math.ceil(len(rows) / self.landmarks)
        front = group * self.landmarks - len(rows)
        means = pad(rows, (0, 0, front, 0)).view(self.landmarks, group, -1).mean(dim=1)
        query_marks, key_marks = self._split(linear(means, self.qkv.weight[: 2 * rows.shape[1]])).chunk(2)
        return query_marks * self.scale, key_marks

    def _inverse(self, query_marks: Tensor, key_marks: Tensor) -> Float[Tensor, "heads landmarks landmarks"]:
        return pseudo_inverse((query_marks @ key_marks.mT).softmax(dim=-1), self.iterations)

    def _key_bias(self, rows: Tensor, bias: Tensor) -> Float[Tensor, "tokens_plus_one"]:
        """Put in front of the tokens' biases that of the one key that stands for all pads."""
        front = -len(rows) % self.landmarks
        return pad(bias.to(rows.dtype), (1, 0), value=math.log(front) if front else -math.inf)

    def _split(self, rows: Float[Tensor, "tokens wide"]) -> Float[Tensor, "heads_of_each tokens part"]:
        """Lay out heads first: those of queries, then of keys, then of values."""
        part = self.qkv.in_features // self.heads
        return rows.view(len(rows), -1, part).transpose(0, 1)

    def _merged(self, heads: Float[Tensor, "heads tokens part"]) -> Float[Tensor, "tokens width"]:
        rows: Tensor = self.dropout(self.out(heads.transpose(0, 1).flatten(1)))
        return rows


def pseudo_inverse(matrices: Float[Tensor, "heads size size"], iterations: int) -> Float[Tensor, "heads size size"]:
    """Approximate Moore-Penrose inverses, from the transposes over the largest sums of rows and columns of all heads.

    Source: Razavi et al. 2014, as Xiong et al. 2021 use it.
    """
    sizes = matrices.abs()
    guess = matrices.mT / (sizes.sum(dim=-1).amax() * sizes.sum(dim=-2).amax())
    unit = torch.eye(matrices.shape[-1], dtype=matrices.dtype, device=matrices.device)
    for _ in range(iterations):
        product = matrices @ guess
        guess = 0.25 * guess @ (13 * unit - product @ (15 * unit - product @ (7 * unit - product)))
    return guess


def _with_pad(rows: Float[Tensor, "tokens width"]) -> Float[Tensor, "tokens_plus_one width"]:
    return pad(rows, (0, 0, 1, 0))
