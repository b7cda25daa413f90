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


def size(spec: config.Spec) -> Size:
    """Parameters by `models.parameters`, FLOPs by the formula above, at the longest context.

    Short convolutions are parameters that no class has; like all depthwise filters they do not
    count as FLOPs.
    """
    count, fields = parameters.count(spec), spec.fields
    context = fields["max_position_embeddings"]
    vectors, scan = _mixers(fields, context)
    matrices = count.active_without_input_embedding - count.by_kind.get("norm", 0) - vectors
    filters = fields.get("short_convolution", 0)
    filters *= fields.get("convolved_sublayers", 0) * fields["hidden_size"]
    filters *= fields["num_hidden_layers"]
    return Size(
        params=count.total + filters,
        params_non_embedding=count.non_embedding + filters,
        params_active=count.active + filters,
        matrices=matrices,
        operations_per_token=6 * matrices + 12 * context * _attention(fields) + round(3 * scan),
    )


def _attention(fields: dict[str, Any]) -> int:
    """Attention width, summed over the layers that attend."""
    if "num_attention_heads" not in fields:
        return 0
    layers = len(fields.get("attn_layer_indices", range(fields["num_hidden_layers"])))
    return layers * fields["num_attention_heads"] * fields["head_dim"]


def _mixers(fields: dict[str, Any], context: int) -> tuple[int, float]:
    """Of all Mamba-2 mixers: elements that are in no product, operations of a token's scan."""
    if fields["model_type"] == "mamba2":
        layers = fields["num_hidden_layers"]
        names = ("num_heads", "head_dim", "state_size", "n_groups", "chunk_size")
    elif fields["model_type"] == "bamba":
        layers = fields["num_hidden_layers"] - len(fields["attn_layer_indices"])
        names = tuple(
            f"mamba_{name}" for name in ("n_heads", "d_head", "d_state", "n_groups", "chunk_size")
        )
    else:
        return 0, 0.0
    heads, head, state, groups, chunk = (fields[name] for name in names)
    vectors = 3 * heads + heads * head + 2 * groups * state  # A, D, biases of time and convolution
    inside = chunk * (state + head)  # C B^T, then its product with the inputs
    with_state = 2 * head * state  # into the chunk's state, and out of it
    between = (-(-context // chunk) + 1) ** 2 * head * state / context
    return layers * vectors, layers * 2 * heads * (inside + with_state + between)
