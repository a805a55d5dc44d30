"""Sequences decoded together: each step gives every row its next token, and rows come and go between steps.

Owns the KV cache of the batch. Rows are padded on the left, so that their ends align; positions are passed, so padding
changes no row's result. Sliding windows keep working, because distances within a row do not change. Must not know:
requests, text, sampling.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch

Tensor = Any


class Batch:
    """The rows being decoded. Row numbers are the order of joining, with the gaps of `leave` closed."""

    def __init__(self, model: Any, device: str) -> None:
        self._model = model
        self._device = device
        self._extra = _last_logits_only(model)
        self._cache: Any = None
        self.lengths: list[int] = []
        """Tokens of each row in the cache."""

    def new_cache(self) -> Any:
        """Full attention in every layer, whatever the model's windows: only then can rows be aligned and merged."""
        from transformers import DynamicCache

        return DynamicCache()

    def prefill(self, cache: Any, tokens: Sequence[int]) -> Tensor:
        """Read more of one prompt into a cache of its own; the logits after its last token."""
        seen = cache.get_seq_length()
        return self._forward(cache, [tokens], [seen], torch.ones(1, seen + len(tokens), dtype=torch.long))[0]

    def join(self, cache: Any) -> None:
        """A prefilled sequence becomes the last row."""
        length = cache.get_seq_length()
        if self._cache is None:
            self._cache = cache
        else:
            for ours, theirs in zip(self._cache.layers, cache.layers, strict=True):
                if ours.is_initialized:
                    ours.keys, ours.values = (_stack(ours.keys, theirs.keys), _stack(ours.values, theirs.values))
        self.lengths.append(length)

    def leave(self, rows: Sequence[int]) -> None:
        """Rows are done; what padding nobody needs any more goes with them."""
        keep = [row for row in range(len(self.lengths)) if row not in set(rows)]
        if len(keep) == len(self.lengths):
            return
        self.lengths = [self.lengths[row] for row in keep]
        if not keep:
            self._cache = None
            return
        index, longest = torch.tensor(keep, device=self._device), max(self.lengths)
        for layer in self._cache.layers:
            if layer.is_initialized:
                layer.keys = layer.keys[index, :, -longest:].contiguous()
                layer.values = layer.values[index, :, -longest:].contiguous()

    def step(self, tokens: Sequence[int]) -> Tensor:
        """Give each row the token drawn last; the logits for the next, one row each."""
        longest = max(self.lengths)
        places = torch.arange(longest + 1)
        mask = (places[None, :] >= torch.tensor([longest - length for length in self.lengths])[:, None]).long()
        logits = self._forward(self._cache, [[token] for token in tokens], self.lengths, mask)
        self.lengths = [length + 1 for length in self.lengths]
        return logits

    def _forward(self, cache: Any, tokens: Sequence[Sequence[int]], starts: Sequence[int], mask: Tensor) -> Tensor:
        ids = torch.tensor([list(row) for row in tokens], device=self._device)
        positions = torch.tensor(starts, device=self._device)[:, None] + torch.arange(ids.shape[1], device=self._device)
        with torch.inference_mode():
            output = self._model(
                input_ids=ids,
                attention_mask=mask.to(self._device),
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                **self._extra,
            )
        return output.logits[:, -1]


def _stack(upper: Tensor, lower: Tensor) -> Tensor:
    """Two blocks of rows [rows, heads, length, size], both padded on the left to the longer one."""
    longest = max(upper.shape[2], lower.shape[2])
    padded = [torch.nn.functional.pad(part, (0, 0, longest - part.shape[2], 0)) for part in (upper, lower)]
    return torch.cat(padded)


def _last_logits_only(model: Any) -> dict[str, int]:
    """Models that can leave out the logits of all but the last token: for a long prompt they are the larger part."""
    known = "logits_to_keep" in inspect.signature(model.forward).parameters
    return {"logits_to_keep": 1} if known else {}
