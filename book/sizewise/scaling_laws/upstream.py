"""Run tables that others published: fetched from their repository, checked, and never kept here.

``SIZEWISE_PUBLISHED`` names a folder that holds the files instead, for a machine with no web.
"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .forms import OPERATIONS
from .runs import Runs


@dataclass(frozen=True)
class Upstream:
    """A file of a public repository at a commit; ``name`` is what a local folder calls it."""

    name: str
    repository: str
    commit: str
    path: str
    sha256: str

    @property
    def url(self) -> str:
        return f"https://raw.githubusercontent.com/{self.repository}/{self.commit}/{self.path}"


CHINCHILLA = Upstream(
    name="chinchilla_figure4_points.csv",
    repository="epoch-research/analyzing-chinchilla",
    commit="92258837425e1b5f2851d624287f0120583a3d0e",
    path="data/svg_extracted_data.csv",
    sha256="193478df4e90f040016431996c45682659306840ecdadf83cfb9cd5ca0aa1b30",
)
OBSCALING = {
    "repository": "ryoungj/ObsScaling",
    "commit": "4d6e1e43fd2635d04654aa77d1df9d5266ea0382",
}
BENCHMARKS = Upstream(
    name="obs_base_benchmarks.csv",
    path="eval_results/base_llm_benchmark_eval.csv",
    sha256="511996815735a4c46251dc585dcc525e370d148201f86561e6f927f9df2d0db8",
    **OBSCALING,
)
EMERGENT = Upstream(
    name="obs_emergent.csv",
    path="eval_results/base_llm_emergent_capability_eval.csv",
    sha256="a156beee73c39b7833c3c53535c473939105512d85e90b0143be7325e516ef7c",
    **OBSCALING,
)
OUTLIERS = 5  # runs of the highest losses, left out by the replication (Besiroglu et al. 2024)


def fetch(table: Upstream) -> Path:
    """The file, from ``SIZEWISE_PUBLISHED`` or else from the repository by way of a user cache.

    Raises ValueError if it is not there, cannot be fetched, or is not the file that was pinned.
    """
    folder = os.environ.get("SIZEWISE_PUBLISHED", "")
    if folder:
        file = Path(folder) / table.name
        if not file.is_file():
            raise ValueError(f"SIZEWISE_PUBLISHED: no {table.name} in {folder}")
        if hashlib.sha256(file.read_bytes()).hexdigest() != table.sha256:
            raise ValueError(f"{file} is not the file of {table.repository}: its SHA-256 differs")
        return file
    import pooch

    try:
        found = pooch.retrieve(
            table.url, f"sha256:{table.sha256}", table.name, pooch.os_cache("sizewise")
        )
    except (OSError, ValueError) as error:  # requests' errors are OSErrors
        said = str(error).split("\n")[0][:120]
        raise ValueError(
            f"cannot fetch {table.url} ({said}); a folder that holds {table.name} can stand in, "
            "named by SIZEWISE_PUBLISHED"
        ) from None
    return Path(found)


def chinchilla(outliers: bool = False) -> Runs:
    """The runs of Hoffmann et al. 2022, figure 4, as Epoch read them off the vector drawing.

    245 runs, or 240 without the five of the highest losses. The drawing tells sizes and
    operations; tokens are C / 6 N. Source: Besiroglu et al. 2024, section 2.
    """
    import pandas

    table = pandas.read_csv(fetch(CHINCHILLA))
    params, spent = table["Model Size"].to_numpy(), table["Training FLOP"].to_numpy()
    runs = Runs.of(params, spent / (OPERATIONS * params), table["loss"].to_numpy())
    if outliers:
        return runs
    kept = np.ones(len(runs), bool)
    kept[np.argsort(runs.loss, kind="stable")[-OUTLIERS:]] = False
    return runs.subset(kept)
