"""Layers of a packed cache: what a layer of a model holds of its tokens, and gives back of them.

A layer has two sides, keys and values, each a `store.Store`; what it returns to attention is
decoded.
"""

from transformers.cache_utils import CacheLayerMixin

from sizewise.validation import whole


class PackedLayer(CacheLayerMixin):
    """A layer that attends to all tokens."""

    is_compileable = False
    is_croppable = True
    is_sliding = False
    supports_early_init = False

    def __init__(self, make):
        super().__init__()
        self._make = make  # (side, dim) -> Store
        self.sides, self.seen = (), 0

    def lazy_initialization(self, key_states, value_states) -> None:
        self.dtype, self.device = key_states.dtype, key_states.device
        self.sides = tuple(
            self._make(side, states.shape[-1])
            for side, states in (("keys", key_states), ("values", value_states))
        )
        self.is_initialized = True

    def update(self, key_states, value_states, *args, **kwargs):
        """Store new keys and values (batch, kv heads, new, d); all that the new tokens may see."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        new = key_states.shape[2]
        self.seen += new
        both = []
        for side, states in zip(self.sides, (key_states, value_states), strict=True):
            side.append(states)
            both.append(side.decoded(self.dtype)[:, :, -self._visible(new) :])
        self._forget_old()
        return tuple(both)

    def _visible(self, new: int) -> int:
        return self.seen

    def _forget_old(self) -> None:
        pass

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.seen + query_length, 0

    def get_seq_length(self) -> int:
        return self.seen

    def get_max_length(self) -> int:
        return -1

    def reset(self) -> None:
        """Forget all tokens and give the memory back."""
        self.sides, self.seen, self.is_initialized = (), 0, False

    def crop(self, tokens_to_remove: int) -> None:
        """Remove the newest ``-tokens_to_remove`` tokens, a number of 0 or below as elsewhere."""
        if tokens_to_remove > 0:
            raise ValueError(f"crop takes 0 or a negative number, got {tokens_to_remove}")
        count = min(-tokens_to_remove, self.seen)
        for side in self.sides:
            side.drop_last(count)
        self.seen -= count

    def reorder_cache(self, beam_idx) -> None:
        self._rows(lambda tensor: tensor.index_select(0, beam_idx.to(tensor.device)))

    def batch_repeat_interleave(self, repeats: int) -> None:
        self._rows(lambda tensor: tensor.repeat_interleave(repeats, 0))

    def batch_select_indices(self, indices) -> None:
        self._rows(lambda tensor: tensor[indices])

    def _rows(self, pick) -> None:
        for side in self.sides:
            side.rows(pick)

    def trim(self) -> None:
        for side in self.sides:
            side.trim()

    def tensors(self) -> list:
        return [tensor for side in self.sides for tensor in side.tensors()]

    @property
    def nbytes(self) -> int:
        return sum(side.nbytes for side in self.sides)


class PackedWindowLayer(PackedLayer):
    """A layer that attends to the last ``sliding_window`` tokens: it holds one fewer than those.

    (KIVI's keys are dropped in whole groups.)
    """

    is_sliding = True

    def __init__(self, make, sliding_window: int):
        super().__init__(make)
        self.sliding_window = whole("the window", sliding_window)
        self.record_past = False

    def activate_past_recording(self) -> None:
        """Hold what leaves the window until the next crop, so that a crop can bring it back."""
        self.record_past = True

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        before = min(self.seen, self.sliding_window - 1)
        return before + query_length, self.seen - before

    def get_max_length(self) -> int:
        return self.sliding_window

    def crop(self, tokens_to_remove: int) -> None:
        if tokens_to_remove and self.seen >= self.sliding_window and not self.record_past:
            raise RuntimeError(
                "tokens before the window are gone: call activate_past_recording before crop"
            )
        super().crop(tokens_to_remove)
        self._cut()

    def _visible(self, new: int) -> int:
        return min(self.seen, self.sliding_window - 1 + new)

    def _forget_old(self) -> None:
        if not self.record_past:
            self._cut()

    def _cut(self) -> None:
        for side in self.sides:
            side.drop_first(max(0, len(side) - (self.sliding_window - 1)))
