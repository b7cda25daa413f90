"""Training a small model: our loop on `transformers`' Llama against one written by hand.

The hand-written side is what one writes who leaves `transformers` aside for speed, in the manner
of nanoGPT (Karpathy 2022): one matrix for queries, keys and values, rotations made beforehand,
torch's own attention, normalization, cross entropy and fused AdamW. Both sides start from the
same weights and see the same batches, so their losses must agree: within `TOLERANCE` while
rounding is still small, and in the end within what rounding alone does. At these learning rates a
difference in the last digit can grow a millionfold in sixty steps, so each pair trains our side a
third time, untimed, from weights moved by one part in ten million.
"""

import time

import torch
from torch import nn
from torch.nn import functional

WIDTH, CONTEXT, BATCH = 128, 128, 16  # 4 layers; 0.8 million parameters outside the embeddings
STEPS = 60
EARLY = 10  # steps in which rounding has not grown yet
TOLERANCE = 1e-4  # nats, in each of them
NUDGE = 1e-7  # relative; about half of what the last bit of single precision is worth
SPREAD = 0.1  # nats; rounding has never been seen to move the end by half of it


def training(number: int, vocabulary: int, threads: int = 1):
    """Seconds of ``STEPS`` steps by hand and by `lab.loop`, and the mean loss of the last tenth.

    One thread on both sides, as each of a sweep's runs has, one to a core. Raises ValueError if
    the two differ by more than `TOLERANCE` in an early step, or end more than `SPREAD` apart.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return _timed(number, vocabulary)
    finally:
        torch.set_num_threads(before)


def _timed(number: int, vocabulary: int) -> tuple[float, float, dict[str, float]]:
    from sizewise.training import tokenizer

    run, text = plan_of(number, vocabulary), tokenizer.prepare("packages", vocabulary)
    by_hand = Decoder.like(_fresh(run)[0])
    seconds_ours, ours = _ours(run, text)
    started = time.perf_counter()
    theirs = train(by_hand, run, text)
    seconds_theirs = time.perf_counter() - started
    _, nudged = _ours(run, text, NUDGE)

    early = max(abs(a - b) for a, b in zip(ours[:EARLY], theirs[:EARLY], strict=True))
    difference, moved = abs(_end(ours) - _end(theirs)), abs(_end(ours) - _end(nudged))
    if not (early <= TOLERANCE and difference <= SPREAD):
        raise ValueError(
            f"training: losses differ by {early:.1e} in the first {EARLY} steps and by "
            f"{difference:.1e} at the end: not the same training"
        )
    return (
        seconds_theirs,
        seconds_ours,
        {
            "threads": torch.get_num_threads(),
            "train_loss": _end(ours),
            "losses_differ_by": difference,
            "early_losses_differ_by": early,
            "nudge_moves_loss_by": moved,
            "tokens_per_second": run.tokens / seconds_ours,
            "tokens_per_second_baseline": run.tokens / seconds_theirs,
        },
    )


def _fresh(run, nudge: float = 0.0):
    """The laboratory's model and optimizer at the start, its weights moved by a share."""
    from sizewise.training import loop

    model, adam = loop.start(run, "cpu")
    with torch.no_grad():
        for weight in model.parameters() if nudge else ():
            weight.mul_(1 + nudge)
    return model, adam


def _ours(run, text, nudge: float = 0.0) -> tuple[float, list[float]]:
    """Seconds of the laboratory's loop, and the loss of each step."""
    from sizewise.training import loop

    model, adam = _fresh(run, nudge)
    losses: list[float] = []
    started = time.perf_counter()
    loop.steps(run, text, model, adam, losses)
    return time.perf_counter() - started, losses


def _end(losses: list[float]) -> float:
    """Mean of the last tenth, nats a token."""
    last = losses[-(STEPS // 10) :]
    return sum(last) / len(last)


def plan_of(seed: int, vocabulary: int):
    """The run: a dense rung of the laboratory for a few steps."""
    from dataclasses import replace

    from sizewise.training import run_config

    run = run_config.at_budget(1e12, WIDTH, vocabulary=vocabulary, context=CONTEXT, seed=seed)
    return replace(run, tokens=STEPS * BATCH * CONTEXT, batch=BATCH)


def train(model: "Decoder", run, text) -> list[float]:
    """The plain loop: loss of each step, in nats a token."""
    from sizewise.training import batches, optimizer

    matrices = [p for p in model.parameters() if p.ndim == 2 and p is not model.embedding.weight]
    scale = optimizer.BASE_WIDTH / model.width
    groups = [
        {"params": matrices, "lr": run.lr * scale, "weight_decay": run.weight_decay},
        {
            "params": [p for p in model.parameters() if p.ndim < 2],
            "lr": run.lr,
            "weight_decay": 0.0,
        },
        {
            "params": [model.embedding.weight],
            "lr": run.lr * optimizer.EMBEDDING,
            "weight_decay": 0.0,
        },
    ]
    adam = torch.optim.AdamW(groups, betas=(0.9, 0.95), eps=1e-8, fused=True)
    peaks = [group["lr"] for group in adam.param_groups]
    losses = []
    for step in range(run.steps):
        share = optimizer.factor(step, run.steps, run.warmup, run.schedule)
        for group, peak in zip(adam.param_groups, peaks, strict=True):
            group["lr"] = peak * share
        ids, targets = batches.batch(text.train, run.context, run.batch, run.seed, step)
        logits = model(ids)  # (batch, context, vocabulary)
        loss = functional.cross_entropy(logits.view(-1, logits.shape[-1]), targets.view(-1))
        adam.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), run.clip)
        adam.step()
        losses.append(loss.item())
    return losses


class Decoder(nn.Module):
    """A Llama-shaped decoder with as little around its products as torch allows."""

    def __init__(self, width: int, layers: int, heads: int, mlp: int, vocabulary: int, eps: float):
        super().__init__()
        self.width = width
        self.embedding = nn.Embedding(vocabulary, width)
        self.layers = nn.ModuleList(Layer(width, heads, mlp, eps) for _ in range(layers))
        self.norm = nn.RMSNorm(width, eps)
        self.head = nn.Linear(width, vocabulary, bias=False)
        cosine, sine = rotations(CONTEXT, width // heads)
        self.register_buffer("cosine", cosine, persistent=False)  # (context, head)
        self.register_buffer("sine", sine, persistent=False)

    def forward(self, ids):
        hidden = self.embedding(ids)  # (batch, context, width)
        for layer in self.layers:
            hidden = layer(hidden, self.cosine, self.sine)
        return self.head(self.norm(hidden))

    @classmethod
    def like(cls, model) -> "Decoder":
        """The same weights in the hand-written classes."""
        config = model.config
        copy = cls(
            config.hidden_size,
            config.num_hidden_layers,
            config.num_attention_heads,
            config.intermediate_size,
            config.vocab_size,
            config.rms_norm_eps,
        )
        with torch.no_grad():
            copy.embedding.weight.copy_(model.get_input_embeddings().weight)
            copy.head.weight.copy_(model.get_output_embeddings().weight)
            copy.norm.weight.copy_(model.model.norm.weight)
            for mine, its in zip(copy.layers, model.model.layers, strict=True):
                a, m = its.self_attn, its.mlp
                together = [a.q_proj.weight, a.k_proj.weight, a.v_proj.weight]
                mine.qkv.weight.copy_(torch.cat(together))
                mine.out.weight.copy_(a.o_proj.weight)
                mine.gate.weight.copy_(m.gate_proj.weight)
                mine.up.weight.copy_(m.up_proj.weight)
                mine.down.weight.copy_(m.down_proj.weight)
        return copy


class Layer(nn.Module):
    """Attention and a gated MLP, each behind a norm and added to what came in."""

    def __init__(self, width: int, heads: int, mlp: int, eps: float):
        super().__init__()
        self.heads = heads
        self.before_attention, self.before_mlp = nn.RMSNorm(width, eps), nn.RMSNorm(width, eps)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.gate = nn.Linear(width, mlp, bias=False)
        self.up = nn.Linear(width, mlp, bias=False)
        self.down = nn.Linear(mlp, width, bias=False)

    def forward(self, hidden, cosine, sine):
        batch, context, width = hidden.shape
        qkv = self.qkv(self.before_attention(hidden)).view(batch, context, 3, self.heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (batch, heads, context, head)
        q, k = rotated(q, cosine, sine), rotated(k, cosine, sine)
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        hidden = hidden + self.out(mixed.transpose(1, 2).reshape(batch, context, width))
        inner = self.before_mlp(hidden)
        return hidden + self.down(functional.silu(self.gate(inner)) * self.up(inner))


def rotations(context: int, head: int, base: float = 10_000.0):
    """Cosines and sines of rotary embedding (Su et al. 2021), each (context, head)."""
    speeds = base ** (-torch.arange(0, head, 2) / head)
    angles = torch.outer(torch.arange(context).float(), speeds).repeat(1, 2)
    return angles.cos(), angles.sin()


def rotated(x, cosine, sine):
    """``x`` (..., context, head) with each pair of coordinates turned by its angle."""
    first, second = x.chunk(2, -1)
    return x * cosine + torch.cat((-second, first), -1) * sine
