"""Training FLOPs of a rung, a multiplication and an addition being two.

Forward, one token: two operations for each element of each matrix it is multiplied with (for
mixtures those of the experts it is sent to), and 4 context x attention width a layer for scores
and mixing. Backward is twice that. Masked scores count, as the plain kernels compute them and
Kaplan et al. (2020, section 2.1) count them; look-ups, norms, rotations and the optimizer do not.

A state-space layer counts as its chunked form is computed (Dao and Gu 2024, section 6): products
inside a chunk, with the state, and between chunks. Decays, gates and the sums that make them are
element by element and do not count, as nothing of that kind does.
"""

from dataclasses import dataclass
from typing import Any

from sizewise.models import config, parameters


@dataclass(frozen=True)
class Size:
    """What a rung holds (parameters) and what one token of training costs (operations)."""

    params: int
    params_non_embedding: int
    params_active: int
    matrices: int  # elements that one token is multiplied with
    operations_per_token: int


@dataclass(frozen=True)
class Mixers:
    """The Mamba-2 mixers of a configuration: how many, and the shape of one."""

    layers: int
    heads: int
    head: int
    state: int
    groups: int
    chunk: int

    @property
    def vectors(self) -> int:
        """Elements of one mixer in no product: A, D, time-step and convolution biases."""
        return 3 * self.heads + self.heads * self.head + 2 * self.groups * self.state

    def forward(self, context: int) -> float:
        """Operations of one mixer's scan on one token, forward, in a sequence of ``context``."""
        inside = self.chunk * (self.state + self.head)  # C B^T, then its product with the inputs
        with_state = 2 * self.head * self.state  # into the chunk's state, and out of it
        chunks = -(-context // self.chunk)
        between = (chunks + 1) ** 2 * self.head * self.state / context
        return 2 * self.heads * (inside + with_state + between)


def size(spec: config.Spec) -> Size:
    """Parameters by `models.parameters`, FLOPs by the formula above, at the longest context.

    Short convolutions are parameters that no class has; like all depthwise filters they do not
    count as FLOPs.
    """
    count, fields = parameters.count(spec), spec.fields
    mixers = _mixers(fields)
    matrices = count.active_without_input_embedding - count.by_kind.get("norm", 0)
    matrices -= mixers.layers * mixers.vectors
    context = fields["max_position_embeddings"]
    scan = 3 * mixers.layers * mixers.forward(context) if mixers.layers else 0
    filters = fields.get("short_convolution", 0)
    filters *= fields.get("convolved_sublayers", 0) * fields["hidden_size"]
    filters *= fields["num_hidden_layers"]
    return Size(
        params=count.total + filters,
        params_non_embedding=count.non_embedding + filters,
        params_active=count.active + filters,
        matrices=matrices,
        operations_per_token=6 * matrices + 12 * context * _attention(fields) + round(scan),
    )


def _attention(fields: dict[str, Any]) -> int:
    """Attention width, summed over the layers that attend."""
    if "num_attention_heads" not in fields:
        return 0
    layers = len(fields.get("attn_layer_indices", range(fields["num_hidden_layers"])))
    return layers * fields["num_attention_heads"] * fields["head_dim"]


def _mixers(fields: dict[str, Any]) -> Mixers:
    if fields["model_type"] == "mamba2":
        names = ("num_heads", "head_dim", "state_size", "n_groups", "chunk_size")
        return Mixers(fields["num_hidden_layers"], *(fields[name] for name in names))
    if fields["model_type"] == "bamba":
        layers = fields["num_hidden_layers"] - len(fields["attn_layer_indices"])
        names = ("n_heads", "d_head", "d_state", "n_groups", "chunk_size")
        return Mixers(layers, *(fields[f"mamba_{name}"] for name in names))
    return Mixers(0, 0, 0, 0, 0, 1)
