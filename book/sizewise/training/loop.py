"""The training loop: one `plan.Run` in, its losses out.

On the CPU a run that was interrupted and resumed ends with the loss of an unbroken one, bit for
bit, with the same number of threads. On a GPU matrices are multiplied in bf16, the text lies in
its memory, and nothing waits for the processor between looks at the losses; there the last digits
differ from run to run. A long run is compiled; a run of a tiny model, whose kernels are shorter
than their launch, can be replayed as a CUDA graph (``graphs``), or share the GPU with others
(`engine.run_all`, ``per_gpu``).
"""

import math
import os
import time
from collections.abc import Callable
from pathlib import Path

from . import batches, flops, loss, models, optimizer, run_config, step

COMPILE_FROM = 2_000  # steps; below, compiling costs more than it gains
LOOK_EVERY = 32  # steps between looks at the losses on a GPU, where a look makes it wait
VALIDATION_ROWS = 64  # sequences at a time


def train(run: run_config.Run, tokens, **options) -> dict:
    """Train and validate. Keys and units are the measured columns of ``data/isoflop.md``.

    ``options`` and errors are those of `fit`.
    """
    return fit(run, tokens, **options)[1]


def fit(
    run: run_config.Run,
    tokens,
    *,
    checkpoint: Path | None = None,
    every: float = 60.0,
    device=None,
    graphs: bool = False,
    told: Callable[[int], None] | None = None,
) -> tuple:
    """(model, measured) of a run.

    ``tokens`` is a `tokens.Tokens` of the run's vocabulary. With ``checkpoint`` the state is saved
    there every ``every`` seconds, taken up again if it is there, and removed at the end. A loss
    that is not finite ends the run: ``ended`` says so, and the losses are None. ``told`` is called
    with the steps done. Raises ValueError for tokens of another vocabulary, for the checkpoint of
    another run, and for ``graphs`` where `update.check` refuses them.
    """
    import torch

    if tokens.vocabulary != run.vocabulary:
        raise ValueError(
            f"the run wants {run.vocabulary} entries, {tokens.name} has {tokens.vocabulary}"
        )
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if graphs:
        step.check(run, device)
    size = flops.size(models.spec(run.family, run.width, run.vocabulary, run.context))
    model, adam = start(run, device)
    losses = _resume(checkpoint, run, model, adam, device)
    taken = steps(
        run,
        tokens,
        model,
        adam,
        losses,
        checkpoint=checkpoint,
        every=every,
        graphs=graphs,
        told=told,
    )
    measured = {
        "params": size.params,
        "params_non_embedding": size.params_non_embedding,
        "operations": size.operations_per_token * len(losses) * run.batch * run.context,
        "train_loss": _last_tenth(losses),
        "val_loss": None,
        "bits_per_byte": None,
        "steps": len(losses),
        "ended": "not finite",
    }
    if step.finite(losses):
        nats, per_byte = validate(model, tokens, run, device)
        if math.isfinite(nats):
            measured |= {"val_loss": nats, "bits_per_byte": per_byte, "ended": "done"}
    if device.type == "cuda":
        measured["tokens_per_second"] = taken
    if checkpoint is not None:
        checkpoint.unlink(missing_ok=True)
    return model, measured


def start(run: run_config.Run, device="cpu") -> tuple:
    """(model, optimizer) before the first step."""
    import torch

    # `transformers` looks on the device whether positions restart, and masks if they might.
    causal = torch.device(device).type == "cuda" and models.kind(run.family) in models.CAUSAL
    spec = models.spec(run.family, run.width, run.vocabulary, run.context)
    model = models.build(spec, run.seed, models.unmasked() if causal else "sdpa").to(device)
    return model, optimizer.make(model, run.lr, run.weight_decay)


def validate(model, tokens, run: run_config.Run, device="cpu") -> tuple[float, float]:
    """Loss in nats a token and in bits a byte on the run's fixed validation windows.

    Bits a byte compare across tokenizers: all bits over the bytes of the predicted tokens.
    """
    import torch

    rows = max(1, run.validation_tokens // run.context)
    ids, targets = batches.fixed(tokens.validation, run.context, rows)
    total = 0.0
    model.eval()
    with torch.no_grad(), step.format_of(device):
        for some, right in zip(
            ids.split(VALIDATION_ROWS), targets.split(VALIDATION_ROWS), strict=True
        ):
            nats = loss.next_token(model, some.to(device), right.to(device))
            total += nats.item() * right.numel()
    told = int(tokens.bytes_of[targets.numpy()].sum(dtype="int64"))
    return total / targets.numel(), total / math.log(2) / told


def steps(
    run,
    tokens,
    model,
    adam,
    losses: list[float],
    *,
    checkpoint: Path | None = None,
    every: float = 60.0,
    graphs: bool = False,
    told: Callable[[int], None] | None = None,
) -> float | None:
    """Run the steps that are left, adding to ``losses``; tokens a second, None if none was."""
    first, began, saved = len(losses), time.perf_counter(), time.monotonic()
    on_gpu = model.device.type == "cuda"
    text = batches.on(tokens.train, model.device)
    look = LOOK_EVERY if on_gpu else 1
    compiled = on_gpu and run.steps - first >= COMPILE_FROM
    take = None if graphs else step.eager(run, model, adam, compiled)
    model.train()
    waiting = []
    for number in range(first, run.steps):
        ids, targets = batches.batch(text, run.context, run.batch, run.seed, number)
        if take is None:
            take = step.Graph(run, model, adam, ids, targets, compiled)
        share = optimizer.factor(number, run.steps, run.warmup, run.schedule)
        waiting.append(take(ids, targets, share))
        if len(waiting) < look and number + 1 < run.steps:
            continue
        losses += _read(waiting)
        waiting = []
        if told is not None:
            told(len(losses))
        if not step.finite(losses[-look:]):
            del losses[next(i for i, one in enumerate(losses) if not math.isfinite(one)) + 1 :]
            break
        if checkpoint is not None and time.monotonic() - saved >= every:
            _save(checkpoint, run, model, adam, losses)
            saved = time.monotonic()
    seconds = time.perf_counter() - began
    return (len(losses) - first) * run.batch * run.context / seconds if losses[first:] else None


def _read(waiting: list) -> list[float]:
    """The losses as numbers, in one copy."""
    import torch

    return torch.stack(waiting).tolist()


def _last_tenth(losses: list[float]) -> float | None:
    """Mean training loss over the last tenth of the steps, None if one is not finite."""
    last = losses[-max(1, len(losses) // 10) :]
    return sum(last) / len(last) if last and step.finite(last) else None


def _save(file: Path, run, model, adam, losses: list[float]) -> None:
    """Write the state aside and put it in place whole, so that a kill leaves the old one."""
    import torch

    file.parent.mkdir(parents=True, exist_ok=True)
    aside = file.with_suffix(f".{os.getpid()}")
    state = {
        "run": run.as_dict(),
        "model": model.state_dict(),
        "adam": adam.state_dict(),
        "losses": losses,
    }
    torch.save(state, aside)
    os.replace(aside, file)


def _resume(file: Path | None, run, model, adam, device) -> list[float]:
    """Load the state and return the losses so far; none without a checkpoint."""
    import torch

    if file is None or not file.exists():
        return []
    state = torch.load(file, map_location=device, weights_only=True)  # tensors and numbers only
    if state["run"] != run.as_dict():
        raise ValueError(f"{file} is the checkpoint of another run")
    model.load_state_dict(state["model"])
    adam.load_state_dict(state["adam"])
    return state["losses"]
