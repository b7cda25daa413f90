"""What the rows of a GPU say in sentences, for the prose of the chapters and their verdicts."""

from . import gpu_weights


def fourth(rows) -> str:
    """What `gpu_report.fourth` found, in words."""
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


def answer(rows, model: str = gpu_weights.MAIN) -> str:
    """What the chapter says in a sentence: the time of one sequence's token against bf16."""
    steps = gpu_weights.decoding(rows, model)
    one = steps[(steps["batch"] == 1) & steps["against bf16"].notna()]
    others = one[one["format"] != "bf16"]
    if not len(others):
        return "How fast a GPU is with them was not measured."
    told = ", ".join(
        f"{1 / row['against bf16']:.2f} times as long in {row['format']} ({row['mode']})"
        for row in others.to_dict("records")
    )
    plain = one.loc[one["format"] == "bf16", "mode"].iloc[0]
    return (
        f"On {rows['device'].iloc[0]}, each format in its fastest mode, a token of one sequence "
        f"takes {told} as in bf16 ({plain})."
    )


def why(rows, model: str = gpu_weights.MAIN) -> str:
    """Why LLM.int8() takes the time it does, in words: its detour, its kernels, larger batches."""
    table = gpu_weights.detour(rows, model)
    both = table.dropna().sort_values(["batch", "int8"])
    steps, prompts = both[both["mode"] != "prompt"], both[both["mode"] == "prompt"]
    if not len(steps):
        return "What its parts cost here was not measured."
    first = steps.iloc[0]
    last = table[table["mode"] == first["mode"]].sort_values("batch").iloc[-1]
    share = gpu_weights.of(rows, "decode", model=model, format="int8")["outlier_share"].max()
    said = [
        f"On {rows['device'].iloc[0]}, at batch {first['batch']:.0f} in the mode {first['mode']}, "
        f"it takes {first['int8 over bf16']:.2f} times as long as bf16; without looking for large "
        f"inputs it would be {first['plain over bf16']:.2f}."
    ]
    if share == share:
        said.append(f"At most {share:.2%} of the columns of its inputs were large.")
    if last["batch"] > first["batch"]:
        said.append(f"At batch {last['batch']:.0f} it is {last['int8 over bf16']:.2f} times.")
    said += [
        f"A prompt of {row['tokens']:,.0f} tokens takes {row['int8 over bf16']:.2f} times as long "
        f"as in bf16, without looking for large inputs {row['plain over bf16']:.2f} times."
        for row in prompts.tail(1).to_dict("records")
    ]
    counts = gpu_weights.of(rows, "kernels", model=model, ended="done", batch=1)
    counts = counts.sort_values("kernels").drop_duplicates("format").set_index("format")["kernels"]
    if {"bf16", "int8"} <= set(counts.index):
        said.append(
            f"A step is {counts['int8']:,.0f} kernels in int8 and {counts['bf16']:,.0f} in bf16."
        )
    return " ".join(said)
