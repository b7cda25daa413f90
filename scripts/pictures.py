"""Draw the front page's chart for the README and for social cards, into book/_static.

    python scripts/pictures.py

Both pictures are of the figure on the front page, on white, with its finding as title. Run it when
the rows behind that figure have changed; a test says when.
"""

from pathlib import Path

from sizewise import paths
from sizewise.chapters.figures import five_findings, style
from sizewise.chapters.tables import five_findings as tables
from sizewise.experiments import options

CARD = (8.0, 4.2)  # inches at 150 dots: the 1200 x 630 that social cards are cut to
README = (7.2, 3.8)


def main() -> None:
    options.parser(__doc__).parse_args()
    folder = paths.root() / "book" / "_static"
    draw(folder / "front.png", CARD, 150)
    draw(folder / "front.svg", README, 72)


def draw(file: Path, size: tuple[float, float], dpi: int) -> None:
    """The front page's chart at ``size`` inches, in the format of the file's name."""
    import matplotlib.pyplot as plt

    gains = tables.tenfold_gains()
    with style.style():
        figure, axes = plt.subplots(figsize=size)
        five_findings.families(axes, tables.families())
        points = f"{gains.min():.0f} to {gains.max():.0f}"
        title = f"Ten times the memory, {points} more right answers in a hundred"
        axes.grid(color="#dddddd")
        axes.set_title(title, loc="left", fontweight="bold")
        metadata = {"Date": None} if file.suffix == ".svg" else {"Software": None}
        figure.savefig(file, dpi=dpi, facecolor="white", metadata=metadata)
        plt.close(figure)


if __name__ == "__main__":
    main()
