"""AdamW with learning rates that follow the width, and the schedule of a run.

Under Adam the best learning rate of a matrix falls as one over its inputs, while embeddings and
vectors keep theirs (Yang et al. 2022, muP, table 3). So one rate, tuned at `BASE_WIDTH`, serves
the ladder. There a matrix's rate follows the width of the model: along a ladder of one shape its
inputs are in proportion to it. Families whose MLPs differ in shape at one width need
``per_input``, the rule to the letter: without it the output matrix of a wide MLP learns too fast
and that of a narrow expert less so, which looks like a gain of the experts.
"""

import math

from .models import is_matrix

BASE_WIDTH = 64
EMBEDDING = 10  # the embedding's rate over the base rate; found together with `run_config.LR`
SCHEDULES = ("linear", "cosine", "constant")
FLOOR = 0.1  # cosine ends here, as in Hoffmann et al. (2022); linear ends at zero


def make(model, lr: float, weight_decay: float, *, per_input: bool = False):
    """AdamW (0.9, 0.95). Weight decay on matrices; none on the embedding and on vectors.

    A matrix's rate is ``lr`` times `BASE_WIDTH` over the model's width, or with ``per_input`` over
    the matrix's own inputs. A filter of one channel counts as a vector.
    """
    import torch

    embedding = model.get_input_embeddings().weight
    width = model.config.hidden_size
    matrices: dict[int, list] = {}  # by what divides their rate
    for weight in model.parameters():
        if is_matrix(weight) and weight is not embedding:
            matrices.setdefault(weight.shape[-1] if per_input else width, []).append(weight)
    vectors = [weight for weight in model.parameters() if not is_matrix(weight)]
    groups = [
        {"params": weights, "lr": lr * BASE_WIDTH / inputs, "weight_decay": weight_decay}
        for inputs, weights in matrices.items()
    ]
    groups += [
        {"params": vectors, "lr": lr, "weight_decay": 0.0},
        {"params": [embedding], "lr": lr * EMBEDDING, "weight_decay": 0.0},
    ]
    for group in groups:
        group["peak"] = group["lr"]
    return torch.optim.AdamW(groups, betas=(0.9, 0.95), eps=1e-8, fused=True)


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
    """Every group at ``share`` of its peak."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * share
