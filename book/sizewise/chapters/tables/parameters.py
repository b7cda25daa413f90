"""Parameter counts by formula: by hand for a Llama, and for papers' models without a class.

These are the independent check on `counting`, and the only way to count models whose authors
published a table of shapes and no code.
"""

from sizewise.data import records


def llama(
    *,
    vocab: int,
    width: int,
    layers: int,
    heads: int,
    kv_heads: int,
    head_dim: int,
    inner: int,
    tied: bool,
) -> dict[str, int]:
    """Parameters of a dense Llama by part: no biases, gated MLP, grouped keys and values.

    Source: Touvron et al. 2023 (Llama 2), section 2.2 and table 1.
    """
    return {
        "input embedding": vocab * width,
        "attention": layers * 2 * width * head_dim * (heads + kv_heads),
        "mlp": layers * 3 * width * inner,
        "norm": (2 * layers + 1) * width,
        "output head": 0 if tied else vocab * width,
    }


def chinchilla(
    *, d_model: int, d_ff: int, kv_size: int, heads: int, layers: int, vocab: int = 32_000
) -> int:
    """Parameters of a model of Hoffmann et al. 2022, table A9.

    One embedding for input and output, biases everywhere, and Transformer-XL's relative
    positions: a projection and two vectors in every layer. Attention is kv_size * heads wide,
    which is not always d_model.
    """
    inner = kv_size * heads
    attention = 4 * d_model * inner + 3 * inner + d_model
    positions = d_model * inner + 2 * inner
    mlp = 2 * d_model * d_ff + d_ff + d_model
    norms = 4 * d_model
    return vocab * d_model + layers * (attention + positions + mlp + norms) + 2 * d_model


def chinchilla_square(*, d_model: int, layers: int, d_ff: int, vocab: int = 32_000) -> int:
    """The same with attention taken to be d_model wide and no biases, as is often written."""
    return vocab * d_model + layers * (5 * d_model**2 + 2 * d_model * d_ff)


def palm(*, width: int, layers: int, heads: int, head_dim: int = 256, vocab: int = 256_000) -> int:
    """Parameters of a PaLM: one key-value head, SwiGLU of four widths, parallel blocks.

    One norm a layer and no biases; one embedding for input and output.
    Source: Chowdhery et al. 2022, section 2 and table 1.
    """
    attention = 2 * width * heads * head_dim + 2 * width * head_dim
    mlp = 3 * width * 4 * width
    return vocab * width + layers * (attention + mlp + width) + width


def peers():
    """How other calculators do on the conformance file: one row a calculator and what was asked."""
    import pandas

    rows = []
    for (peer, version, question), group in records.table("peers").groupby(
        ["peer", "version", "asked"]
    ):
        error = (group["answer"] / group["expected"] - 1).abs()
        rows.append(
            {
                "calculator": f"{peer} {version}",
                "asked for": {"total": "total parameters"}.get(question, "KV cache bytes a token"),
                "models": len(group),
                "answered": int(group["answer"].notna().sum()),
                "exact": int((error == 0).sum()),
                "within 1 %": int((error <= 0.01).sum()),
                "off by over 10 %": int((error > 0.1).sum()),
            }
        )
    return pandas.DataFrame(rows)
