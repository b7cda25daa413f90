"""The training loop: one `run_config.Run` in, a trained model and its losses out.

On the CPU a run that was interrupted and resumed ends with the loss of an unbroken one, bit for
bit, with the same number of threads. On a GPU matrices are multiplied in bf16, and the last digits
differ from run to run.
"""

import math
import os
import pickle
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import torch

from . import batches, flops, loss, models, optimizer, run_config

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
) -> tuple:
    """(model, measured) of a run.

    ``tokens`` is a `tokenizer.Tokens` of the run's vocabulary. With ``checkpoint`` the state is
    saved there every ``every`` seconds, taken up again if it is there, and removed at the end. A
    loss that is not finite ends the run: ``ended`` says so, and the losses are None. Raises
    ValueError for tokens of another vocabulary and for the checkpoint of another run.
    """
    if tokens.vocabulary != run.vocabulary:
        raise ValueError(
            f"the run wants {run.vocabulary} entries, {tokens.name} has {tokens.vocabulary}"
        )
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    model, adam = start(run, device)
    losses = _resume(checkpoint, run, model, adam, device)
    speed = steps(run, tokens, model, adam, losses, checkpoint=checkpoint, every=every)
    size = flops.size(models.spec(run.family, run.width, run.vocabulary, run.context))
    last = losses[-max(1, len(losses) // 10) :]
    measured = {
        "params": size.params,
        "params_non_embedding": size.params_non_embedding,
        "operations": size.operations_per_token * len(losses) * run.batch * run.context,
        "train_loss": sum(last) / len(last) if last and _finite(last) else None,
        "val_loss": None,
        "bits_per_byte": None,
        "steps": len(losses),
        "ended": "not finite",
        "tokens_sha256": tokens.sha256,
    }
    if _finite(losses):
        nats, per_byte = validate(model, tokens, run, device)
        if math.isfinite(nats):
            measured |= {"val_loss": nats, "bits_per_byte": per_byte, "ended": "done"}
    if device.type == "cuda":
        measured["tokens_per_second"] = speed
    if checkpoint is not None:
        if measured["ended"] == "done":
            _save(checkpoint, run, model, adam, losses)  # until the row is on the disk
        else:
            checkpoint.unlink(missing_ok=True)
    return model, measured


def start(run: run_config.Run, device) -> tuple:
    """The model and the optimizer of a run at its beginning."""
    spec = models.spec(run.family, run.width, run.vocabulary, run.context)
    model = models.build(spec, run.seed).to(device)
    return model, optimizer.make(model, run.lr, run.weight_decay, per_input=run.per_input)


def validate(model, tokens, run: run_config.Run, device="cpu") -> tuple[float, float]:
    """Loss in nats a token and in bits a byte on the run's fixed validation windows.

    Bits a byte compare across tokenizers: all bits over the bytes of the predicted tokens.
    """
    rows = max(1, run.validation_tokens // run.context)
    ids, targets = batches.fixed(tokens.validation, run.context, rows)
    total = 0.0
    model.eval()
    parts = zip(ids.split(VALIDATION_ROWS), targets.split(VALIDATION_ROWS), strict=True)
    with torch.no_grad(), precision(device):
        for inputs, following in parts:
            nats = loss.next_token(model, inputs.to(device), following.to(device))
            total += nats.item() * following.numel()
    read = int(tokens.bytes_of[targets.numpy()].sum(dtype="int64"))
    return total / targets.numel(), total / math.log(2) / read


def steps(
    run,
    tokens,
    model,
    adam,
    losses: list[float],
    *,
    checkpoint: Path | None = None,
    every: float = 60.0,
) -> float | None:
    """Run the steps that are left, adding to ``losses``; tokens a second, None if none was."""
    first, began, saved = len(losses), time.perf_counter(), time.monotonic()
    device = model.device
    model.train()
    for number in range(first, run.steps):
        ids, targets = batches.batch(tokens.train, run.context, run.batch, run.seed, number)
        optimizer.set_rate(adam, optimizer.factor(number, run.steps, run.warmup, run.schedule))
        with precision(device):
            value = loss.next_token(model, ids.to(device), targets.to(device))
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), run.clip)
        adam.step()
        adam.zero_grad(set_to_none=True)
        losses.append(value.item())
        if not math.isfinite(losses[-1]):
            break
        if checkpoint is not None and time.monotonic() - saved >= every:
            _save(checkpoint, run, model, adam, losses)
            saved = time.monotonic()
    seconds = time.perf_counter() - began
    return (len(losses) - first) * run.batch * run.context / seconds if losses[first:] else None


def precision(device):
    """bf16 products on a GPU, fp32 on a CPU."""
    on_gpu = torch.device(device).type == "cuda"
    return torch.autocast("cuda", torch.bfloat16) if on_gpu else nullcontext()


def _finite(losses: list[float]) -> bool:
    return all(map(math.isfinite, losses))


def _save(file: Path, run, model, adam, losses: list[float]) -> None:
    """Write the state aside and put it in place whole, so that a kill leaves the old one."""
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
    if file is None or not file.exists():
        return []
    try:
        state = torch.load(file, map_location=device, weights_only=True)  # tensors and numbers only
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        why = " ".join(str(error).split())[:100]
        print(f"{file}: cannot be read ({why}); removed, and begun anew", file=sys.stderr)
        file.unlink()
        return []
    if state["run"] != run.as_dict():
        raise ValueError(f"{file} is the checkpoint of another run")
    model.load_state_dict(state["model"])
    adam.load_state_dict(state["adam"])
    return state["losses"]
