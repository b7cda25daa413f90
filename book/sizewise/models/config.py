"""From what a person writes (a name, a path, a hub id) to a `transformers` configuration.

A configuration is data. It is read as JSON, its sizes are checked before anything is built
from them, and code that it names is never fetched or run.
"""

import json
import os
import re
import socket
import threading
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from sizewise import units
from sizewise.data import catalog

from . import checkpoint, foreign

MAX_LAYERS = 2_000  # eight times the deepest open model; each is built to be counted
MAX_DEPTH = 500  # layers of one stage of an image model, each of which is built
MAX_LABELS = 100_000  # `transformers` keeps a name for each
MAX_EXPERTS = 20_000  # over the 16,384 of Doge, the most that any class has by default
MAX_SIZE = 10**12  # one dimension of one tensor
MAX_NESTING = 32  # the deepest default configuration of `transformers` has five levels
HUB = "https://huggingface.co"
HUB_SECONDS = 1.5  # that it may take to answer at all
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
# What is built one by one, and so costs time: {field: the most of it}.
MOST = {
    re.compile(r"(\w+_)?depths"): MAX_DEPTH,
    re.compile(r"(\w+_)?(layers?|blocks?|depths?)"): MAX_LAYERS,
    re.compile(r"(\w+_)?labels"): MAX_LABELS,
    re.compile(r"(\w+_)?experts"): MAX_EXPERTS,
}
NOT_NEGATIVE = re.compile(r"(\w+_)?(layers|experts|heads|dim)|(\w+_)?(hidden|intermediate)_size")
SHAPE = ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
# No model has none of these.
AT_LEAST_ONE = re.compile(
    r"hidden_size|vocab_size|d_model|n_embd|num_(attention|key_value)_heads|n_head|"
    r"(num_hidden|num|n)_layers?"
)


@dataclass(frozen=True)
class Spec:
    """A model as data: what its ``config.json`` says, and where it came from.

    ``stored`` are the headers of its checkpoint where there is one; ``notes`` what had to be
    assumed to read it. ``may_estimate``: an architecture without a class may be estimated.
    """

    name: str
    fields: dict[str, Any] = field(repr=False)
    source: str = ""  # "catalogue", a path, or "hub"
    stored: checkpoint.Checkpoint | None = field(default=None, repr=False)
    notes: tuple[str, ...] = ()
    may_estimate: bool = False


class NoClass(ValueError):
    """`transformers` has no class for this configuration."""


def load(model: "str | Path | Spec", *, estimate: bool = False) -> Spec:
    """The model that ``model`` names: the catalogue's, a file's or the hub's.

    A file is a ``config.json`` or its folder, Meta's, Mistral's or DeepSeek's ``params.json``, a
    GGUF or safetensors file, or the ``index.json`` of a sharded checkpoint. A configuration that
    names code of its own (``auto_map``) is read with `transformers`' own class of its type, and
    says so. ``estimate``: an architecture without a class is estimated from its fields even where
    its configuration names no code.
    Raises ValueError, in one line, for a name that is none of these, a file that is missing or no
    configuration, and sizes out of range.
    """
    if isinstance(model, Spec):
        return model
    name = str(model)
    if name in catalog.models():
        return Spec(name, dict(catalog.model(name).config), "catalogue")
    path, is_folder = _path(name)
    stored = None
    if path and path.is_file() and checkpoint.is_checkpoint(path):
        stored = checkpoint.read(path)
        beside = path.parent / "config.json"
        if stored.kind == "gguf" or not beside.is_file():
            return Spec(name, {}, str(path), stored)
        path = beside
    if path and path.is_file():
        spec = Spec(name, _read_json(path), str(path), stored or _weights(path))
    elif is_folder or name.endswith(".json") or name.startswith(("/", ".", "~")):
        raise ValueError(f"no such file: {path or name}")
    elif entry := catalog.by_repository(name):
        return Spec(entry.name, dict(entry.config), "catalogue")
    elif row := catalog.conformance(name):
        note = f"its configuration as of {row['as_of']}, {row['source']}"
        spec = Spec(name, dict(row["config"]), "conformance", notes=(note,))
    elif HUB_ID.fullmatch(name):
        spec = Spec(name, _read_json(_from_hub(name)), "hub")
    else:
        raise catalog.unknown_model(name)
    return _checked(spec, estimate)


def _weights(path: Path) -> checkpoint.Checkpoint | None:
    """The headers of the weights beside a configuration; None where there are none to read."""
    try:
        return checkpoint.folder(path.parent) if path.name == "config.json" else None
    except ValueError:  # counting needs the configuration alone
        return None


def build(spec: "str | Path | Spec"):
    """The `transformers` configuration object of ``spec``.

    A ``model_type`` that `transformers` does not have takes the class that ``architectures``
    names. What a multimodal file leaves open about tied embeddings follows its text part, as the
    released checkpoints do.
    Raises `NoClass` if there is none, and ValueError for fields that its class refuses.
    """
    import transformers
    from transformers import CONFIG_MAPPING

    spec = load(spec)
    fields = {k: v for k, v in spec.fields.items() if k not in _NOT_SHAPE}
    text = fields.get("text_config")
    if isinstance(text, dict):
        inner = _known_type(text, CONFIG_MAPPING)
        fields["text_config"] = {k: v for k, v in text.items() if k not in _NOT_SHAPE}
        if inner:
            fields["text_config"]["model_type"] = inner
    for part in (fields, fields.get("text_config")):
        _spell_out(part)
    model_type = fields.pop("model_type")
    class_type = _known_type(spec.fields, CONFIG_MAPPING)
    if class_type is None:
        raise NoClass(
            f"{spec.name}: transformers {transformers.__version__} has no class for model_type "
            f"{units.shortened(str(model_type), 60)!r}"
        )
    if isinstance(text, dict) and fields.get("tie_word_embeddings") is None:
        fields["tie_word_embeddings"] = _text_ties(class_type, text, CONFIG_MAPPING)
    try:
        config = CONFIG_MAPPING[class_type].from_dict(fields)
    except Exception as error:  # each class refuses in its own way; a reader needs one
        raise ValueError(f"{spec.name}: {class_type} refuses it: {one_line(error)}") from error
    config._attn_implementation = "eager"  # shapes do not depend on the kernel
    if not isinstance(text, dict):
        for name in ("hidden_size", "num_hidden_layers"):
            read = getattr(config.get_text_config(), name, None)
            if type(stated := fields.get(name)) is int and read not in (None, stated):
                raise NoClass(f"{spec.name}: the class of {class_type!r} does not read its {name}")
    return config


def _spell_out(fields: Any) -> None:
    """Writes EXAONE 4's pattern in letters as a list of layers; its class computes with a number.

    "LLLG" is three layers with a local window and a global one, over again; the last is global.
    """
    pattern = fields.get("sliding_window_pattern") if isinstance(fields, dict) else None
    depth = fields.get("num_hidden_layers") if isinstance(pattern, str) else None
    if pattern and type(depth) is int and set(pattern) <= {"L", "G"} and depth <= MAX_LAYERS:
        letters = (pattern * depth)[: max(depth - 1, 0)] + "G"
        kinds = {"L": "sliding_attention", "G": "full_attention"}
        fields.setdefault("layer_types", [kinds[letter] for letter in letters])
        fields["sliding_window_pattern"] = len(pattern)


def unstated(spec: Spec, config) -> list[str]:
    """A note of what a configuration leaves of its shape to its class's defaults."""
    text = config.get_text_config()
    inner, default = spec.fields.get("text_config"), type(text)()
    parts = (spec.fields, inner if isinstance(inner, dict) else {})
    left = [
        f"{name} {value:,}"
        for name in SHAPE
        if type(value := getattr(text, name, None)) is int
        and value == getattr(default, name, None)
        and not any(_names(text, name) & part.keys() for part in parts)
    ]
    return [f"by default of its class: {', '.join(left)}"] if left else []


def _names(text, name: str) -> set[str]:
    """What a configuration may call a field of its class; LongCat has two layers in each of its."""
    return {name, text.attribute_map.get(name, name), name.replace("num_hidden_", "num_")}


def _known_type(fields: dict[str, Any], mapping) -> str | None:
    """The configuration's type, or that of the class that its ``architectures`` names."""
    model_type = fields.get("model_type")
    if model_type in mapping:
        return model_type
    import transformers

    for name in fields.get("architectures") or ():
        model_class = getattr(transformers, str(name), None)
        config_class = getattr(model_class, "config_class", None)
        if config_class is not None and getattr(config_class, "model_type", "") in mapping:
            return config_class.model_type
    return None


def _text_ties(model_type: str, text: dict[str, Any], mapping) -> bool:
    """Whether the text part ties its embeddings, by its own field or its class's default."""
    if text.get("tie_word_embeddings") is not None:
        return bool(text["tie_word_embeddings"])
    text_type = text.get("model_type")
    if text_type not in mapping:
        text_type = getattr(mapping[model_type](), "text_config", mapping[model_type]()).model_type
    return bool(getattr(mapping[text_type](), "tie_word_embeddings", False))


def gguf_config(spec: Spec):
    """A plain configuration of a GGUF file's keys; a lone safetensors file has none."""
    if spec.stored is None or spec.stored.kind != "gguf":
        raise ValueError(
            f"{spec.name}: no config.json beside it, so its cache is not known; its "
            "parameters and bytes are (sizewise count)"
        )
    shapes = {tensor.name: tensor.shape for tensor in spec.stored.tensors}
    if "token_embd.weight" not in shapes:
        raise ValueError(f"{spec.name}: holds no token embedding, so it is no language model")
    return foreign.gguf_config(spec.stored.metadata, shapes["token_embd.weight"][0], spec.name)


def quantization(fields: dict[str, Any]) -> dict[str, Any] | None:
    """The fields that say in which format weights are stored; None for plain ones."""
    text = fields.get("text_config")
    inner = text if isinstance(text, dict) else {}
    named = {
        key: fields.get(key) or inner.get(key)
        for key in ("quantization_config", "compression_config", "quantization", "expert_dtype")
    }
    named = {key: value for key, value in named.items() if value}
    return named or None


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
    return units.shortened(" ".join(str(error).split()) or type(error).__name__, 200)


def as_path(name: str) -> Path | None:
    """The path of this name; None if it can be none."""
    try:
        path = Path(name).expanduser()
        path.exists()
    except (OSError, RuntimeError, ValueError):  # too long, ~ of nobody, a null byte
        return None
    return path


def _path(name: str) -> tuple[Path | None, bool]:
    """The file that ``name`` may be, None if it can be none, and whether it names a folder."""
    path = as_path(name)
    if path is None or not name or not path.is_dir():
        return path, False
    files = [path / "config.json", path / "params.json", *sorted(path.glob("*.gguf"))]
    return next((file for file in files if file.is_file()), files[0]), True


def _read_json(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > 10_000_000:
            raise ValueError("over 10 MB, which no configuration is")
        fields = json.loads(path.read_bytes())  # in UTF-8, or as Windows writes it
    except (ValueError, RecursionError) as error:  # no text, no JSON, a number of 5,000 digits
        raise ValueError(f"{path}: not JSON ({one_line(error)})") from error
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from error
    if isinstance(fields, dict) and fields.get("model_type") in (None, "mamba"):
        fields = foreign.translated(fields) or fields
    if not isinstance(fields, dict) or not isinstance(fields.get("model_type"), str):
        raise ValueError(f"{path}: no model configuration (it states no model_type)")
    return fields


def _checked(spec: Spec, may_estimate: bool) -> Spec:
    notes = [spec.fields.pop("_note")] if "_note" in spec.fields else []
    names_code = False
    for path, value in _leaves(spec.fields, spec.name):
        names_code = names_code or ("auto_map" in path and bool(value))
        if path[-1:] == ("backbone",) and isinstance(value, str):
            raise ValueError(f"{spec.name}: names another model (backbone), which is not fetched")
        if type(value) is int and (wrong := _wrong(path, value)):
            raise ValueError(f"{spec.name}: {'.'.join(map(str, path))} = {wrong}")
    if names_code:
        notes.append("the code that it names (auto_map) was not fetched, read or run")
    text = spec.fields.get("text_config")
    parts = (spec.fields, text) if isinstance(text, dict) else ()
    if parts and all(part.get("tie_word_embeddings") is None for part in parts):
        notes.append("tie_word_embeddings is not stated: taken as its text part's class has it")
    may_estimate = may_estimate or names_code
    return replace(spec, notes=(*spec.notes, *notes), may_estimate=may_estimate)


def _wrong(path: tuple, value: int) -> str:
    """What is wrong with this number of a configuration; nothing for most."""
    field = next(step for step in reversed(path) if isinstance(step, str))
    limit = next((limit for fields, limit in MOST.items() if fields.fullmatch(field)), MAX_SIZE)
    if abs(value) > limit:
        return f"{_short(value)} is over {limit:,}"
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


def hub_answers() -> bool:
    """Whether the hub, or the proxy before it, takes a connection within `HUB_SECONDS`.

    Asked before its own client is, which tries again for some twenty seconds where no network is.
    """
    address = urlsplit(getproxies().get("https") or os.environ.get("HF_ENDPOINT") or HUB)
    answers = []

    def connect():  # in a thread, since looking a name up has no time limit of its own
        with suppress(OSError):
            port = address.port or (80 if address.scheme == "http" else 443)
            socket.create_connection((address.hostname, port), timeout=HUB_SECONDS).close()
            answers.append(True)

    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(HUB_SECONDS)
    return bool(answers)


def _from_hub(model: str) -> Path:
    """The hub's ``config.json`` of ``model``, from the local cache or the network."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    from huggingface_hub import hf_hub_download
    from huggingface_hub.utils import logging

    logging.set_verbosity(logging.CRITICAL)  # its retries would be lines beside our one
    alone = not hub_answers()
    try:
        return Path(hf_hub_download(model, "config.json", etag_timeout=10, local_files_only=alone))
    except Exception as error:  # offline, gated, absent: all mean "no configuration"
        reason = "it does not answer: no network?" if alone else one_line(error)
        raise ValueError(
            f"{model}: neither in the catalogue nor fetched from the hub ({reason})"
        ) from error
