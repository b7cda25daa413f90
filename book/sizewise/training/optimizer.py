"""AdamW with learning rates that follow the width, and the schedule of a run.

Under Adam the best learning rate of a matrix falls as one over its inputs, while embeddings and
vectors keep theirs (Yang et al. 2022, muP, table 3). So one rate, tuned at `BASE_WIDTH`, serves
the ladder. Depth grows along it too, which the initialisation alone takes care of.
"""

import math

BASE_WIDTH = 64
EMBEDDING = 10  # the embedding's rate over the base rate; found together with `plan.LR`
SCHEDULES = ("linear", "cosine", "constant")
FLOOR = 0.1  # cosine ends here, as in Hoffmann et al. (2022); linear ends at zero


def make(model, lr: float, weight_decay: float, *, fused: bool = True):
    """AdamW (0.9, 0.95). Weight decay on matrices; none on the embedding and on vectors.

    A filter of a state-space layer works on one channel alone, and counts as a vector.
    """
    import torch

    from .models import is_matrix

    embedding = model.get_input_embeddings().weight
    scale = BASE_WIDTH / model.config.hidden_size
    matrices = [p for p in model.parameters() if is_matrix(p) and p is not embedding]
    vectors = [p for p in model.parameters() if not is_matrix(p)]
    groups = [
        {"params": matrices, "lr": lr * scale, "weight_decay": weight_decay},
        {"params": vectors, "lr": lr, "weight_decay": 0.0},
        {"params": [embedding], "lr": lr * EMBEDDING, "weight_decay": 0.0},
    ]
    for group in groups:
        group["peak"] = group["lr"]
    return torch.optim.AdamW(groups, betas=(0.9, 0.95), eps=1e-8, fused=fused)


def factor(step: int, steps: int, warmup: float, schedule: str) -> float:
    """Share of the peak rate at a step: up over ``warmup`` of the run, then down to its end.

    Raises ValueError for an unknown schedule.
    """
    if schedule not in SCHEDULES:
        raise ValueError(f"schedule must be one of {', '.join(SCHEDULES)}, got {schedule!r}")
    rising = max(1, round(warmup * steps))
    if step < rising:
        return (step + 1) / rising
    done = (step - rising) / max(1, steps - rising)
    if schedule == "linear":
        return 1 - done
    if schedule == "cosine":
        return FLOOR + (1 - FLOOR) * (1 + math.cos(math.pi * done)) / 2
    return 1.0


def set_rate(optimizer, share: float) -> None:
    """Every group at ``share`` of its peak; in place where it is a tensor (`update.Graph`)."""
    for group in optimizer.param_groups:
        if hasattr(group["lr"], "fill_"):
            group["lr"].fill_(group["peak"] * share)
        else:
            group["lr"] = group["peak"] * share
