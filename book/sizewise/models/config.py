"""From what a person writes (a name, a path, a hub id) to a `transformers` configuration.

A configuration is data. It is read as JSON, its sizes are checked before anything is built
from them, and code that it names is never fetched or run.
"""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sizewise import units
from sizewise.data import catalog

MAX_LAYERS = 10_000  # forty times the deepest open model; more is a typing error
MAX_DEPTH = 500  # layers of one stage of an image model, each of which is built
MAX_LABELS = 100_000  # `transformers` keeps a name for each
MAX_EXPERTS = 20_000  # over the 16,384 of Doge, the most that any class has by default
MAX_SIZE = 10**12  # one dimension of one tensor
MAX_NESTING = 32  # the deepest default configuration of `transformers` has five levels
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
# What is built one by one, and so costs time: {field: the most of it}.
MOST = {
    re.compile(r"(\w+_)?depths"): MAX_DEPTH,
    re.compile(r"(\w+_)?(layers?|blocks?|depths?)"): MAX_LAYERS,
    re.compile(r"(\w+_)?labels"): MAX_LABELS,
    re.compile(r"(\w+_)?experts"): MAX_EXPERTS,
}
NOT_NEGATIVE = re.compile(r"(\w+_)?(layers|experts|heads|dim)|(\w+_)?(hidden|intermediate)_size")
# No model has none of these.
AT_LEAST_ONE = re.compile(
    r"hidden_size|vocab_size|d_model|n_embd|num_attention_heads|n_head|(num_hidden|num|n)_layers?"
)


@dataclass(frozen=True)
class Spec:
    """A model as data: what its ``config.json`` says, and where it came from."""

    name: str
    fields: dict[str, Any] = field(repr=False)
    source: str = ""  # "catalogue", a path, or "hub"


def load(model: "str | Path | Spec", *, ignore_code: bool = False) -> Spec:
    """The configuration of a catalogue name, a ``config.json`` (or its folder), or a hub id.

    ``ignore_code=True`` accepts a configuration that names code of its own (``auto_map``) and
    uses the class that `transformers` itself has for its ``model_type``.
    Raises ValueError, in one line, for a name that is none of the three, a file that is missing
    or no configuration, sizes out of range, and configurations that name code.
    """
    if isinstance(model, Spec):
        return model
    name = str(model)
    if name in catalog.models():
        return Spec(name, dict(catalog.model(name).config), "catalogue")
    path, folder = _path(name)
    if path and path.is_file():
        spec = Spec(name, _read_json(path), str(path))
    elif folder or name.endswith(".json") or name.startswith(("/", ".", "~")):
        raise ValueError(f"no such file: {path or name}")
    elif HUB_ID.fullmatch(name):
        spec = Spec(name, _read_json(_from_hub(name)), "hub")
    else:
        raise units.unknown("model", name, catalog.models())
    return _checked(spec, ignore_code)


def build(spec: "str | Path | Spec"):
    """The `transformers` configuration object of ``spec``.

    Raises ValueError for a ``model_type`` that `transformers` does not have, and for fields that
    its class refuses.
    """
    from transformers import CONFIG_MAPPING

    spec = load(spec)
    fields = {k: v for k, v in spec.fields.items() if k not in _NOT_SHAPE}
    model_type = fields.pop("model_type")
    if model_type not in CONFIG_MAPPING:
        raise ValueError(f"{spec.name}: {units.unknown('model_type', model_type, CONFIG_MAPPING)}")
    try:
        config = CONFIG_MAPPING[model_type].from_dict(fields)
    except Exception as error:  # each class refuses in its own way; a reader needs one
        raise ValueError(f"{spec.name}: {model_type} refuses it: {one_line(error)}") from error
    config._attn_implementation = "eager"  # shapes do not depend on the kernel
    return config


# Fields that say how weights are stored or run, not what shape they have.
_NOT_SHAPE = {
    "auto_map",
    "quantization_config",
    "compression_config",
    "attn_implementation",
    "_attn_implementation",
    "_attn_implementation_internal",
    "torch_dtype",
    "dtype",
}


def one_line(error: BaseException) -> str:
    """The message of any exception on one line of at most 200 characters."""
    words = " ".join(str(error).split()) or type(error).__name__
    return words if len(words) <= 200 else words[:197] + "..."


def _path(name: str) -> tuple[Path | None, bool]:
    """The file that ``name`` may be, None if it can be none, and whether it names a folder."""
    try:
        path = Path(name).expanduser()
        folder = bool(name) and path.is_dir()
    except (OSError, RuntimeError, ValueError):  # too long, ~ of nobody, a null byte
        return None, False
    return (path / "config.json" if folder else path), folder


def _read_json(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > 10_000_000:
            raise OverflowError("over 10 MB, which no configuration is")
        fields = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # no text, no JSON, a number of 5,000 digits
        raise ValueError(f"{path}: not JSON ({one_line(error)})") from error
    except OverflowError as error:
        raise ValueError(f"{path}: {error}") from error
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from error
    if not isinstance(fields, dict) or not isinstance(fields.get("model_type"), str):
        raise ValueError(f"{path}: no model configuration (it states no model_type)")
    return fields


def _checked(spec: Spec, ignore_code: bool) -> Spec:
    for path, value in _leaves(spec.fields, spec.name):
        if "auto_map" in path and value and not ignore_code:
            raise ValueError(
                f"{spec.name}: names code of its own (auto_map), which is never run; "
                "--ignore-code counts it with transformers' own class for its model_type"
            )
        if path[-1:] == ("backbone",) and isinstance(value, str):
            raise ValueError(f"{spec.name}: names another model (backbone), which is not fetched")
        if type(value) is int and (wrong := _wrong(path, value)):
            raise ValueError(f"{spec.name}: {'.'.join(map(str, path))} = {wrong}")
    return spec


def _wrong(path: tuple, value: int) -> str:
    """What is wrong with this number of a configuration; nothing for most."""
    field = next(step for step in reversed(path) if isinstance(step, str))
    most = next((most for fields, most in MOST.items() if fields.fullmatch(field)), MAX_SIZE)
    if abs(value) > most:
        return f"{_short(value)} is over {most:,}"
    if field != path[-1]:  # in a list, where a layer may be counted from the end
        return ""
    if value < 0 and NOT_NEGATIVE.fullmatch(field):
        return f"{value} is negative"
    return f"{value} is under 1" if value < 1 and AT_LEAST_ONE.fullmatch(field) else ""


def _leaves(value: Any, name: str, path: tuple = ()):
    """Every (path, value) of a configuration and of what is nested in it."""
    if len(path) > MAX_NESTING:
        raise ValueError(f"{name}: nested over {MAX_NESTING} levels deep")
    if isinstance(value, dict | list) and value:
        for step, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _leaves(inner, name, (*path, step))
    else:
        yield path, value


def _short(value: int) -> str:
    digits = str(value)
    return digits if len(digits) <= 24 else f"{digits[:6]}... ({len(digits)} digits)"


def _from_hub(model: str) -> Path:
    """The hub's ``config.json`` of ``model``, from the local cache or the network."""
    import os

    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    from huggingface_hub import hf_hub_download
    from huggingface_hub.utils import logging

    logging.set_verbosity(logging.CRITICAL)  # its retries would be lines beside our one
    try:
        return Path(hf_hub_download(model, "config.json", etag_timeout=10))
    except Exception as error:  # offline, gated, absent: all mean "no configuration"
        raise ValueError(
            f"{model}: neither in the catalogue nor fetched from the hub ({one_line(error)})"
        ) from error
