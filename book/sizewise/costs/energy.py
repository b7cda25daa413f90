"""Watts and joules of a busy accelerator: what the stated power hides.

A GPU that serves draws neither its stated power nor a power that follows its bytes. Most of it is
standing power of a busy chip; the rest goes with the share of the peak that arithmetic reaches:

    watts = TDP x (idle + memory x u_mem + flops x sqrt(u_flops))

with u the floor's seconds over the seconds that passed. Energy is watts times seconds, so a
forecast of energy is a forecast of time. The three numbers were fitted on the measured
configurations of ML.ENERGY (Chung et al. 2025) by `scripts/silicon_energy.py`.
"""

from functools import cache

from sizewise.data import records

NAMES = ("idle", "memory", "flops")


def watts_share(memory_share, flops_share, numbers):
    """Watts over the stated power, from the shares of bandwidth and peak that are reached."""
    return numbers["idle"] + numbers["memory"] * memory_share + numbers["flops"] * flops_share**0.5


@cache
def numbers() -> dict[str, float]:
    """The recorded numbers. Raises ValueError where data/silicon_energy.jsonl is missing."""
    for row in records.read("silicon_energy"):
        if row["what"] == "watts":
            return row["numbers"]
    raise ValueError("data/silicon_energy.jsonl is missing: run scripts/silicon_energy.py")


def joules_per_token(
    device, devices: int, seconds: float, memory_seconds: float, flops_seconds: float, tokens: int
) -> float:
    """Joules a token of devices that take ``seconds`` for ``tokens``.

    ``memory_seconds`` and ``flops_seconds`` are the floor's: what bytes and FLOPs would take at
    the stated rates. Raises ValueError for a device without a stated power.
    """
    if device.tdp_watts is None:
        raise ValueError(f"{device.name} states no power")
    share = watts_share(memory_seconds / seconds, flops_seconds / seconds, numbers())
    return device.tdp_watts * share * devices * seconds / tokens
