"""Emissions of words and scores of neighbouring tags in, the loss of a linear-chain conditional random field out.

A sentence's tags y have the probability exp(s(y)) / Z with s(y) = start[y_1] + sum_t emission[t, y_t] + sum_t transition[y_t, y_t+1] +
end[y_n], and Z the sum of exp(s) over all tags (Lafferty, McCallum & Pereira 2001, "Conditional random fields").

Tags are BIO: 0 is O, 1 + 2j begins an entity of label j, 2 + 2j is inside one.  What BIO forbids (an inside that does not follow its own
label) has the score -1e4 whatever the network says, so it takes no part in Z and is never learned.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from meddx.models.heads.bio import forbidden

FORBIDDEN = -1e4  # finite: a label that breaks the rule gives a large loss, not a NaN
NO_WORD = -1e9  # all emissions of a place without a word


class Emissions(nn.Module):
    """The last layer of a tagging network: a score a word and tag, and one set of transition, start and end scores."""

    def __init__(self, features: int, tags: int, tokens: int) -> None:
        super().__init__()
        self.tokens = tokens
        self.dense = nn.Linear(features, tags)
        self.transitions = nn.Parameter(torch.zeros(tags, tags))
        self.start = nn.Parameter(torch.zeros(tags))
        self.end = nn.Parameter(torch.zeros(tags))

    def forward(self, steps: Tensor, mask: Tensor) -> Tensor:
        """Logits [n, tokens * tags + tags * tags + 2 * tags] of steps [n, T, features] and mask bool [n, T], T at most `tokens`."""
        wide = torch.promote_types(self.transitions.dtype, torch.float32)
        emissions = self.dense(steps).to(wide).masked_fill(~mask[:, :, None], NO_WORD)
        emissions = nn.functional.pad(emissions, (0, 0, 0, self.tokens - steps.shape[1]), value=NO_WORD)
        chain = torch.cat([self.transitions.flatten(), self.start, self.end]).to(wide)
        return torch.cat([emissions.flatten(1), chain.expand(len(steps), -1)], dim=1)


def negative_log_likelihood(logits: Tensor, tags: Tensor, known: Tensor, count: int) -> Tensor:
    """[n] -log P(tags) of logits as `Emissions` gives them; 0 for a row without known words.

    tags int64 [n, L]; known bool [n, L], true at the left; `count`: how many tags there are.
    """
    rows, tokens = known.shape
    length = known.sum(1)
    longest = max(1, int(length.max())) if rows else 1
    emissions = logits[:, : tokens * count].view(rows, tokens, count)[:, :longest]
    transitions, start, end = torch.split(logits[:, tokens * count :], [count * count, count, count], dim=1)
    into, first = (torch.from_numpy(rule).to(logits.device) for rule in forbidden(count))
    transitions = transitions.reshape(rows, count, count).masked_fill(into, FORBIDDEN)
    start = start.masked_fill(first, FORBIDDEN)
    inside = known[:, :longest]
    whole = log_partition(emissions, transitions, start, end, inside)
    tags = torch.where(inside, tags[:, :longest], torch.zeros_like(tags[:, :longest]))
    return torch.where(length > 0, whole - _path_score(emissions, transitions, start, end, inside, tags), torch.zeros_like(whole))


def log_partition(emissions: Tensor, transitions: Tensor, start: Tensor, end: Tensor, inside: Tensor) -> Tensor:
    """[n] log Z by the forward recursion.  emissions [n, L, T], transitions [n, T, T] from -> to, start, end [n, T], inside bool [n, L]."""
    alpha = start + emissions[:, 0]
    for emission, there in zip(emissions.unbind(1)[1:], inside[:, :, None].unbind(1)[1:], strict=True):
        moved = torch.logsumexp(alpha[:, :, None] + transitions, dim=1) + emission
        alpha = torch.where(there, moved, alpha)
    return torch.logsumexp(alpha + end, dim=1)


def _path_score(emissions: Tensor, transitions: Tensor, start: Tensor, end: Tensor, inside: Tensor, tags: Tensor) -> Tensor:
    """[n] s(tags), over the words inside."""
    own = emissions.gather(2, tags[:, :, None])[:, :, 0].masked_fill(~inside, 0.0).sum(1)
    rows = torch.arange(len(tags), device=tags.device)[:, None]
    moves = transitions[rows, tags[:, :-1], tags[:, 1:]].masked_fill(~inside[:, 1:], 0.0).sum(1)
    last = tags.gather(1, (inside.sum(1, keepdim=True) - 1).clamp(min=0))
    return own + moves + start.gather(1, tags[:, :1])[:, 0] + end.gather(1, last)[:, 0]
