"""The figure of the ledger: one square a claim."""

from matplotlib.patches import Rectangle

from .style import INK, beside

COLOURS = {  # as the marks of the page have them, in tones for white and black
    "supported": "#0a9168",
    "partly": "#1f7bbf",
    "misleading": "#b8860b",
    "contradicted": "#c8452f",
    "undecidable in part": "#5d6570",
    "undecidable": "#8a8f96",
    "open": "#aeb2b7",
    "not checked": "#d0d3d6",
}


def waffle(axes, table) -> str:
    """One square a claim, one row a topic, squares in the order of verdicts.

    ``table`` has ``topic`` (its title) and ``verdict``. Returns the counts as a sentence.
    """
    topics, sentences = list(dict.fromkeys(table["topic"])), []
    for line, topic in enumerate(topics):
        counts = table.loc[table["topic"] == topic, "verdict"].value_counts()
        beside(axes, topic, 0, line, dx=0, dy=17, ha="left")
        start = 0
        for verdict, colour in COLOURS.items():
            count = int(counts.get(verdict, 0))
            for column in range(start, start + count):
                axes.add_patch(Rectangle((column, line - 0.18), 0.88, 0.5, color=colour))
            start += count
        parts = ", ".join(f"{counts[v]} {v}" for v in COLOURS if v in counts)
        sentences.append(f"{topic}: {parts}.")
    longest = table["topic"].value_counts().max()
    step = longest / 2.85
    for column, verdict in enumerate(v for v in COLOURS if v in set(table["verdict"])):
        across, down = (column % 3) * step, len(topics) + 0.45 * (column // 3)
        axes.add_patch(Rectangle((across, down - 0.14), 0.8, 0.28, color=COLOURS[verdict]))
        axes.annotate(verdict, (across + 1.1, down), va="center", color=INK, fontsize=9)
    axes.set(xlim=(-0.1, longest + 0.5), ylim=(len(topics) + 1.2, -0.75))
    axes.axis("off")
    return "One square a claim, by topic. " + " ".join(sentences)
