"""Layers of a packed cache: what a layer of a model holds of its tokens, and gives back of them.

A layer has two sides, keys and values, each a `store.Store`; what it returns to attention is
decoded.
"""

from transformers.cache_utils import CacheLayerMixin


class PackedLayer(CacheLayerMixin):
    """A layer that attends to all tokens, or to the last ``sliding_window`` of them: it then holds
    one fewer than those. (KIVI's keys are dropped in whole groups.)
    """

    is_compileable = False
    supports_early_init = False

    def __init__(self, make, sliding_window: int | None = None):
        super().__init__()
        self._make = make  # (side, dim) -> Store
        self.sides, self.seen = (), 0
        self.sliding_window, self.is_sliding = sliding_window, sliding_window is not None

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
        visible, first = self.get_mask_sizes(key_states.shape[2])
        self.seen = first + visible
        both = []
        for side, states in zip(self.sides, (key_states, value_states), strict=True):
            side.append(states)
            both.append(side.decoded(self.dtype)[:, :, -visible:])
            if self.is_sliding:
                side.drop_first(max(0, len(side) - (self.sliding_window - 1)))
        return tuple(both)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Tokens that ``query_length`` new ones may see, themselves included, and the first's
        position."""
        before = min(self.seen, self.sliding_window - 1) if self.is_sliding else self.seen
        return before + query_length, self.seen - before

    def get_seq_length(self) -> int:
        return self.seen

    def get_max_length(self) -> int:
        return self.sliding_window if self.is_sliding else -1

    def reset(self) -> None:
        """Forget all tokens and give the memory back."""
        self.sides, self.seen, self.is_initialized = (), 0, False

    def reorder_cache(self, beam_idx) -> None:
        for side in self.sides:
            side.rows(lambda tensor: tensor.index_select(0, beam_idx.to(tensor.device)))

    def trim(self) -> None:
        for side in self.sides:
            side.trim()

    def tensors(self) -> list:
        return [tensor for side in self.sides for tensor in side.tensors()]

    @property
    def nbytes(self) -> int:
        return sum(side.nbytes for side in self.sides)
