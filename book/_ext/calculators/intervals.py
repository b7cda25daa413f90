"""Intervals of a law's loss on the page: what a law's row needs, and how good they are."""

from functools import cache
from statistics import median

from sizewise import scaling_laws
from sizewise.data import records
from sizewise.scaling_laws import NAMES, Hoffmann, Joint

from . import citing

REPLICATION, ITS_ERRORS = "besiroglu", "epoch-notebook"  # entries of facts/laws.yml
CHINCHILLA = "chinchilla-"  # and the number of runs: the tables whose refits the page offers
SHIFTS = ("floor_shift", "size_shift", "data_shift", "alpha_shift", "beta_shift")


@cache
def refits() -> dict[int, tuple[Hoffmann, Joint | None]]:
    """By how many runs were fitted: our law, and its joint uncertainty if that is recorded."""
    joints = {points(row): row for row in recorded("joint")}
    return {
        points(row): (law, joint and Joint.from_row(law, joint))
        for row in recorded("fit")
        for law in [Hoffmann(*(row[name] for name in NAMES))]
        for joint in [joints.get(points(row))]
    }


def recorded(what: str) -> list[dict]:
    """The rows of a kind about Chinchilla's runs."""
    rows = records.read("refit_published")
    return [row for row in rows if row["what"] == what and row["table"].startswith(CHINCHILLA)]


def points(row: dict) -> int:
    """How many of Chinchilla's runs a row is about."""
    return int(row["table"].removeprefix(CHINCHILLA))


def columns(joint: Joint | None) -> dict:
    """What the formulas need of a law with joint uncertainty; without it, no directions."""
    if joint is None:
        return {"directions": None}
    shifts = [
        dict(zip(SHIFTS, (way.E, way.size, way.data, way.alpha, way.beta), strict=True))
        for way in joint.directions
    ]
    return {"middle_params": joint.params, "middle_tokens": joint.tokens, "directions": shifts}


def misses() -> dict[str, list[float]]:
    """How far ends of our intervals are from the bootstrap's own, in shares of its width.

    By place: among the runs, for sizes above the largest run, and elsewhere.
    """
    shares = {"among": [], "larger": [], "elsewhere": []}
    largest = {points(row): row["most_params"] for row in recorded("fit")}
    for row in recorded("loss"):
        joint = refits()[points(row)][1]
        if joint is None:
            continue
        low, high = row["loss_low"], row["loss_high"]
        ours = joint.interval(row["params"], row["tokens"])
        larger = "larger" if row["params"] > largest[points(row)] else "elsewhere"
        place = "among" if row["inside"] else larger
        shares[place] += [
            abs(end - its) / (high - low) for end, its in zip(ours, (low, high), strict=True)
        ]
    return shares


def replication_distance() -> float:
    """How far our refit of the replication's points is from its coefficients, in its errors."""
    errors = scaling_laws.entries()[ITS_ERRORS]["coefficients"]
    law, _ = refits()[min(refits())]
    theirs = scaling_laws.published(REPLICATION)
    return max(abs(getattr(law, name) - getattr(theirs, name)) / errors[name] for name in NAMES)


def note() -> str:
    """How far the intervals may be trusted, in sentences; nothing while none is recorded."""
    off = misses()
    if not all(off.values()):
        return ""
    published = citing.law(REPLICATION).words
    return (
        "The 95 % intervals of our refits are computed from the covariance of their coefficients "
        "over bootstrap resamples. Their ends are not exact: set beside percentiles of the "
        "resampled losses themselves, they are off by "
        f"{median(off['among']):.0%} of the interval's width in the median and "
        f"{max(off['among']):.0%} at most among the fitted runs, by {max(off['larger']):.0%} at "
        "most for models larger than any of the runs, and by "
        f"{max(off['elsewhere']):.0%} at most elsewhere, worst where small models see little "
        f"text. Our refit of {min(refits())} runs is of the same points as {published}, and gives "
        f"each coefficient within {replication_distance():.2f} of the standard error published "
        "there. No covariances were published, so the interval stands with our refit."
    )
