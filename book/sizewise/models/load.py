"""From what a person names to a causal model with weights: what it is, what it takes, and loading.

Weights are read from safetensors or GGUF; nothing is unpickled, and code that a model brings is
never run.
"""

import re
from contextlib import redirect_stderr
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from sizewise import units
from sizewise.data import catalog

from . import checkpoint, parameters, pretrained
from . import config as configs
from .config import one_line
from .from_config import GENERATES
from .pretrained import DTYPES

BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}
GGUF = "gguf_file"  # transformers' name of its option


@dataclass(frozen=True)
class Source:
    """Where a model comes from. ``parameters`` is known before anything is loaded, if it can be."""

    name: str
    kind: str  # folder, gguf, pretrained or hub
    path: Path | None = None
    parameters: int | None = None
    notes: tuple[str, ...] = ()


def find(name: str) -> Source:
    """A folder, a ``.gguf`` file, a pinned model's name or a hub id, not loaded yet.

    Raises ValueError, in one line, for what is none of them, for folders and hub repositories
    without weights in safetensors, for encoders and for models that are quantized already. Of a
    hub id only the configuration and the list of its files are fetched.
    """
    path = configs.as_path(name)
    if path and path.suffix.lower() == ".gguf":
        return Source(name, "gguf", path, checkpoint.read(path).parameters)
    if path and path.is_dir():
        spec = configs.load(path)
        if not any(path.glob("*.safetensors")):
            raise ValueError(f"{name}: no weights in safetensors beside its config.json")
        return _checked(name, "folder", path, spec)
    if path and path.exists():
        raise ValueError(f"{name}: is no model folder and no GGUF file")
    if name.startswith(("/", ".", "~")):
        raise ValueError(f"{name}: no such file or folder")
    if name in pretrained.names():
        entry = pretrained.entry(name)
        if entry.kind != "causal":
            raise ValueError(f"{name}: is no causal language model, but an {entry.kind}")
        return Source(name, "pretrained", None, entry.parameters)
    if name in catalog.models():
        raise ValueError(
            f"{name}: the catalogue has its configuration and not its weights; "
            "give a folder, a GGUF file or a hub id"
        )
    if not configs.HUB_ID.fullmatch(name):
        raise catalog.unknown_model(name, [*pretrained.names("causal"), *catalog.models()])
    source = _checked(name, "hub", None, configs.load(name))
    if not _in_safetensors(name):
        raise ValueError(f"{name}: the hub has no weights of it in safetensors")
    return source


def _checked(name: str, kind: str, path: Path | None, spec: configs.Spec) -> Source:
    """Raises ValueError unless a configuration is that of a causal model in full weights.

    One that names code of its own (``auto_map``) is loaded with `transformers`' class of its type.
    """
    configs.build(spec)
    classes = spec.fields.get("architectures") or []
    if classes and not any(str(name).endswith(GENERATES) for name in classes):
        raise ValueError(f"{name}: {classes[0]} is no causal language model")
    if spec.fields.get("quantization_config"):
        raise ValueError(f"{name}: is quantized already; start from its full weights")
    return Source(name, kind, path, parameters.count(spec).total, spec.notes)


def needed(source: Source, dtype: str = "fp32") -> int | None:
    """Bytes of the weights while they are loaded; None if the parameters are not known before.

    What comes from GGUF is held twice for a moment, as it was read and in its plain class.
    """
    if source.parameters is None:
        return None
    return source.parameters * BYTES[dtype] * (1 if source.kind in ("folder", "hub") else 2)


def free(device: str = "cpu") -> int:
    """Bytes of memory that are free on a device now."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.mem_get_info(device)[0]
    import psutil

    return psutil.virtual_memory().available


def check_memory(source: Source, dtype: str, device: str) -> None:
    """Raise ValueError, before anything is loaded, if the weights do not fit."""
    need = needed(source, dtype)
    for place in dict.fromkeys(("cpu", device)):  # loaded on the one, held on the other
        have = free(place)
        if need is not None and need > have:
            need_text = f"needs {units.si(need, 'B')} to be loaded in {dtype}"
            raise ValueError(
                f"{source.name}: {need_text}, and {units.si(have, 'B')} are free on {place}"
            )


def load(source: Source, dtype: str = "fp32") -> tuple[Any, Any, checkpoint.Checkpoint | None]:
    """(model, tokenizer, what a GGUF file stores) of a source, on the CPU, in evaluation mode.

    Raises ValueError in one line if it cannot be loaded.
    """
    from transformers.utils import logging

    logging.disable_progress_bar()  # who loads shows how far it is
    where, options = _where(source)
    try:
        if GGUF in options:
            file = Path(where) / options[GGUF]
            with redirect_stderr(StringIO()):  # a bar that no setting turns off
                model, tokenizer = pretrained.from_gguf(file.parent, file.name, dtype)
            return model, tokenizer, checkpoint.read(file)
        return *_safetensors(where, options, dtype), None
    except Exception as error:  # each file is wrong in a way of its own
        raise ValueError(f"{source.name}: cannot be loaded ({one_line(error)})") from error


def reader(source: Source) -> tuple[Any, int | None]:
    """The tokenizer and the most tokens of a window, as far as known, without the weights.

    A pinned model is fetched for it. Raises ValueError in one line if they cannot be read.
    """
    from transformers import AutoConfig, AutoTokenizer

    where, options = _where(source)
    try:
        with redirect_stderr(StringIO()):
            tokenizer = AutoTokenizer.from_pretrained(where, **options)
            config = AutoConfig.from_pretrained(where, **options)
    except Exception as error:  # each file is wrong in a way of its own
        raise ValueError(f"{source.name}: cannot be loaded ({one_line(error)})") from error
    return tokenizer, getattr(config.get_text_config(), "max_position_embeddings", None)


def _where(source: Source) -> tuple[str, dict[str, Any]]:
    """The folder or hub id that `transformers` reads, and how; a pinned model is fetched."""
    options = {"trust_remote_code": False, "local_files_only": source.kind != "hub"}
    if source.kind == "pretrained":
        entry = pretrained.fetch(source.name)
        return str(entry.folder), options | {GGUF: entry.files[0].name}
    path = source.path and source.path.resolve()
    if path and source.kind == "gguf":
        return str(path.parent), options | {GGUF: path.name}
    return str(path or source.name), options


def _safetensors(where: str, options: dict[str, Any], dtype: str) -> tuple[Any, Any]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(where, **options)
    loaded: Any = AutoModelForCausalLM.from_pretrained(
        where,
        dtype=getattr(torch, DTYPES[dtype]),
        output_loading_info=True,
        use_safetensors=True,
        **options,
    )
    model, report = loaded
    if missing := sorted(report.get("missing_keys", ())):
        raise ValueError(f"{len(missing)} tensors are missing, such as {missing[0]}")
    return model.eval(), tokenizer


def _in_safetensors(name: str) -> bool:
    """False if the hub lists a repository without such weights.

    Where it cannot be asked, what is in the cache may be loaded, or loading refuses it.
    """
    from huggingface_hub import HfApi

    if not configs.hub_answers():
        return True
    try:
        listed = HfApi().model_info(name, timeout=10).siblings or ()
    except Exception:  # offline, or the hub is: each way raises something else
        return True
    return any(re.fullmatch(r"[^/]+\.safetensors", file.rfilename) for file in listed)
