"""A text's words in, the logits of a tags head out: the network of entities, and the sequence networks' settings for words."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from meddx.errors import RecipeError
from meddx.models.attention import attention
from meddx.models.convolution import conv
from meddx.models.heads import Head
from meddx.models.recurrent import gru, lstm, rnn
from meddx.models.sequence import SequenceEncoder, Spec, masked

_WORD_DROPOUT = 0.3
_LEAST, _TOGETHER = 32, 16  # in evaluation: words of the shortest group (then twice, four times, ...), and texts of a group


class TaggingModel(nn.Module):
    """One encoder with `steps()` -> a dense layer a word -> logits.  `head` says what they mean."""

    def __init__(self, name: str, encoder: nn.Module, head: Head, hidden: int, dropout: float) -> None:
        super().__init__()
        self.names = (name,)
        self.encoders = nn.ModuleList([encoder])
        self.dense = nn.Sequential(nn.Linear(cast(int, encoder.out_features), hidden), nn.ReLU(), nn.Dropout(dropout))
        self.answer = head.answer(hidden)
        self.head, self.hidden = head, hidden

    def forward(self, batch: Mapping[str, Mapping[str, Tensor]]) -> Tensor:
        """Logits [n, head.n_outputs] of {input: its arrays as tensors}."""
        return cast(Tensor, self.answer(*self._words(batch)))

    def embed(self, batch: Mapping[str, Mapping[str, Tensor]]) -> Tensor:
        """[n, hidden]: the mean over a text's words of what the answer is made from; zeros for a text without words."""
        return self._mean(*self._words(batch))

    def both(self, batch: Mapping[str, Mapping[str, Tensor]]) -> tuple[Tensor, Tensor]:
        """(`forward`, `embed`) of one pass."""
        words, mask = self._words(batch)
        return cast(Tensor, self.answer(words, mask)), self._mean(words, mask)

    def _words(self, batch: Mapping[str, Mapping[str, Tensor]]) -> tuple[Tensor, Tensor]:
        """([n, T, hidden], mask bool [n, T]); in training T is the longest text's, else the arrays'."""
        arrays = {key: value for key, value in batch[self.names[0]].items() if key != "present"}
        words, mask = self._read(arrays) if self.training else self._read_by_length(arrays)
        present = batch[self.names[0]].get("present")
        return words, mask if present is None else mask & present.to(torch.bool)[:, None]

    def _read(self, arrays: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        longest = max(1, int(arrays["length"].max())) if len(arrays["length"]) else 1
        return self._steps(_cut(arrays, longest))

    def _steps(self, arrays: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        steps, mask = cast(SequenceEncoder, self.encoders[0]).steps(**arrays)
        return self.dense(steps), mask

    def _read_by_length(self, arrays: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Texts of about one length together, always so many at a time: most are much shorter than the longest that there may be.

        What a text is computed with, and so its last bits, is decided by its own length alone, not by what stands beside it.
        """
        rows, whole = arrays["tokens"].shape
        size = _LEAST * 2 ** torch.ceil(torch.log2(arrays["length"].clamp(min=1).double() / _LEAST)).clamp(min=0).long()
        words = next(self.dense.parameters()).new_zeros(rows, whole, self.hidden)
        mask = torch.zeros(rows, whole, dtype=torch.bool, device=words.device)
        for wide in sorted(set(size.tolist())):
            for some in torch.split(torch.nonzero(size == wide)[:, 0], _TOGETHER):
                filled = torch.cat([some, some[-1:].expand(_TOGETHER - len(some))])
                found, there = self._steps(_cut({key: value[filled] for key, value in arrays.items()}, wide))
                words[some, : found.shape[1]] = found[: len(some)].to(words.dtype)
                mask[some, : found.shape[1]] = there[: len(some)]
        return words, mask

    @staticmethod
    def _mean(words: Tensor, mask: Tensor) -> Tensor:
        return masked(words, mask).sum(1) / mask.sum(1, keepdim=True).clamp(min=1).to(words.dtype)


def _cut(arrays: Mapping[str, Tensor], longest: int) -> dict[str, Tensor]:
    """The arrays [n, L, ...] without the places right of `longest`."""
    return {key: value[:, :longest] if value.ndim > 1 else value for key, value in arrays.items()}


def tagging_model(encoders: Mapping[str, nn.Module], specs: Mapping[str, Spec], head: Head, hidden: int, dropout: float) -> TaggingModel:
    """The network of a tags target.  RecipeError unless there is exactly one input, a text's words."""
    if [spec["kind"] for spec in specs.values()] != ["tokens"]:
        kinds = ", ".join(f"{name} ({spec['kind']})" for name, spec in specs.items())
        raise RecipeError(f"a tags target needs exactly one input, of kind tokens, not {kinds or 'none'}", "inputs")
    ((name, encoder),) = encoders.items()
    if not callable(getattr(encoder, "steps", None)):
        raise RecipeError("a tags target needs a network with `steps`", f"model.encoders.{name}", "use rnn, lstm, gru, conv or attention")
    return TaggingModel(name, encoder, head, hidden, dropout)


def for_words(build: Callable[..., nn.Module], **defaults: int | float) -> Callable[..., nn.Module]:
    """A sequence network's builder for words: its settings, some with other defaults, and three of `TokensFront`.

    `spelling`: how many of a word's features come from its characters (0: two fifths); `word_dropout`: the share of words that training
    hides; `locked_dropout`: the share of features that it hides in all words of a text alike.  What the user may set stands in the
    signature, as for every builder.
    """
    (spec_of, *rest) = inspect.signature(build).parameters.values()
    front = {"spelling": 0, "word_dropout": _WORD_DROPOUT, "locked_dropout": 0.0}

    def builder(spec: Spec, **settings: Any) -> nn.Module:
        mine = {name: settings.pop(name, default) for name, default in front.items()}
        return build({**spec, **mine, "steps": spec["tokens"]}, **{**defaults, **settings})

    keyword = inspect.Parameter.KEYWORD_ONLY
    rest = [one.replace(default=defaults.get(one.name, one.default)) for one in rest]
    rest += [inspect.Parameter(name, keyword, default=default) for name, default in front.items()]
    builder.__signature__ = inspect.Signature([spec_of, *rest])  # type: ignore[attr-defined]
    return builder


TOKEN_ENCODERS: dict[str, Callable[..., nn.Module]] = {
    "rnn": for_words(rnn, units=128, embedding=240, dropout=0.5),
    "lstm": for_words(lstm, units=128, embedding=240, dropout=0.5),
    "gru": for_words(gru, units=128, embedding=240, dropout=0.5),
    "conv": for_words(conv, width=192, dropout=0.3),
    "attention": for_words(attention, d_model=192, dropout=0.3),
}
