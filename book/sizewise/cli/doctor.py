"""The command that says what is installed, what the caches hold, and what the machine is."""

import importlib.metadata as metadata
import os
import platform
import sys
from pathlib import Path
from typing import Any

from .options import Json

PARTS = {  # packages by what they are for; none is imported, so that this takes no time
    "counting and sizing": ("numpy", "scipy", "pyyaml", "torch", "transformers"),
    "models that run here": ("safetensors", "gguf", "tokenizers", "bitsandbytes", "triton"),
    "comparing": ("requests", "genai-prices"),
    "the book": ("jupyter-book", "papermill", "matplotlib", "pandas"),
    "sweeps on a cluster": ("ray",),
}


def doctor(json: Json = False):
    """Say what is installed, what the caches hold, and whether a GPU is here.

    Nothing is downloaded, imported or changed. Keys are named, never shown.
    """
    from sizewise.units import si

    from . import output

    report = examine()
    if json:
        output.as_json(report)
        return
    rows = output.table("", "", "")
    rows.add_row("sizewise", f"{report['version']}, python {report['python']}")
    rows.add_row(
        "machine",
        f"{report['system']}, {report['cores']} cores, {si(report['memory_bytes'], 'B')} memory",
    )
    rows.add_row("GPU", "; ".join(report["gpus"]) or "none")
    rows.add_row("the book", report["book"] or "not here: installed without its chapters")
    for part, packages in report["packages"].items():
        versions = (f"{name} {version or 'missing'}" for name, version in packages.items())
        rows.add_row(part, ", ".join(versions))
    for name, cache in report["caches"].items():
        size = f"{si(cache['bytes'], 'B')} in {cache['files']} files: " if cache["files"] else ""
        rows.add_row(name, f"{size or 'empty: '}{cache['folder']}")
    rows.add_row("keys set", ", ".join(report["keys"]) or "none")
    output.print_table(rows)


def examine() -> dict[str, Any]:
    """What `doctor` prints: versions (None for what is missing), GPUs, caches, the machine."""
    import psutil

    from sizewise import __version__, paths
    from sizewise.data import downloads, records

    try:
        book = str(paths.root())
    except (OSError, ValueError):
        book = None
    hub = (
        os.environ.get("HF_HUB_CACHE")
        or Path(os.environ.get("HF_HOME") or "~/.cache/huggingface").expanduser() / "hub"
    )
    mac = sys.platform == "darwin" and platform.machine() == "arm64"
    apple = ["Apple GPU, memory shared with the system"] if mac else []
    return {
        "version": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "gpus": records.gpus("name,memory.total") or apple,
        "book": book,
        "packages": {
            part: {name: _version(name) for name in names} for part, names in PARTS.items()
        },
        "caches": {
            "texts and models of the book": _usage(downloads.cache()),
            "models of the hub": _usage(Path(hub)),
        },
        "keys": [name for name in sorted(os.environ) if name.endswith(("API_KEY", "HF_TOKEN"))],
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _usage(folder: Path) -> dict[str, Any]:
    """How much a cache holds; links are not followed, so that nothing counts twice."""
    size = files = 0
    for where, _, names in os.walk(folder):
        for name in names:
            path = Path(where) / name
            if not path.is_symlink():
                size, files = size + path.stat().st_size, files + 1
    return {"folder": str(folder), "files": files, "bytes": size}
