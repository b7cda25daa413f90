"""What the rows of a GPU say in sentences, for the prose of the chapters and their verdicts."""

from . import gpu_weights


def fourth(rows) -> str:
    """What `gpu_weights.fourth` found, in words."""
    times = gpu_weights.fourth(rows)
    if not len(times):
        return "What a layer takes in time was not measured on a GPU."
    ratio = times["layer 4 over the median"]
    models = ", ".join(dict.fromkeys(times["model"]))
    return (
        f"On {rows['device'].iloc[0]}, layer 4 of {models} takes {ratio.min():.3f} to "
        f"{ratio.max():.3f} times as long as the median layer; the other layers take "
        f"{times['least'].min():.3f} to {times['most'].max():.3f} times."
    )
