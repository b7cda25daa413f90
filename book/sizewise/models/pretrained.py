"""Real models by name, as ordinary modules: language models and sentence encoders.

`sources` finds and checks their files. No code that comes with a model is run, and nothing is
unpickled: GGUF, safetensors and ONNX hold tensors.

>>> from sizewise.models import pretrained
>>> model = pretrained.load("smollm2-135m").model            # doctest: +SKIP
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sizewise import units
from sizewise.data.hub_files import Entry, entry, fetch, names
from sizewise.validation import whole

__all__ = ["Encoder", "Loaded", "encoder", "entry", "fetch", "from_gguf", "load", "names"]

DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
BATCH = 32  # texts that an encoder takes at once


@dataclass(frozen=True)
class Loaded:
    """A causal language model, its tokenizer, and the file that its weights came from."""

    model: Any = field(repr=False)
    tokenizer: Any = field(repr=False)
    entry: Entry
    file: Path
    sha256: str


@dataclass(frozen=True)
class Encoder:
    """A sentence encoder: ``model`` is a torch module, or an onnxruntime session for ONNX."""

    model: Any = field(repr=False)
    tokenizer: Any = field(repr=False)
    entry: Entry
    hidden: Callable = field(repr=False)  # (ids, mask), (b, t) int64 each, to (b, t, d) float32

    def embed(self, texts: Sequence[str], batch: int = BATCH) -> np.ndarray:
        """Unit vectors (n, d) float32: the mean over each text's tokens, normalised.

        Texts of like length go through together, and what is longer than ``entry.context``
        tokens is cut, as the model's own settings say.
        """
        batch = whole("the batch", batch)
        if not len(texts):
            raise ValueError("no text to embed")
        encoded = self.tokenizer(list(texts), truncation=True, max_length=self.entry.context)
        ids = encoded["input_ids"]
        order = sorted(range(len(ids)), key=lambda number: len(ids[number]))
        rows: dict[int, np.ndarray] = {}
        for first in range(0, len(order), batch):
            numbers = order[first : first + batch]
            padded = np.zeros((len(numbers), len(ids[numbers[-1]])), np.int64)  # (b, t)
            mask = np.zeros_like(padded)
            for row, number in enumerate(numbers):
                padded[row, : len(ids[number])] = ids[number]
                mask[row, : len(ids[number])] = 1
            padded[mask == 0] = self.tokenizer.pad_token_id
            weights = mask[..., None] / mask.sum(1)[:, None, None]  # (b, t, 1)
            means = (self.hidden(padded, mask) * weights).sum(1)  # (b, d)
            rows |= zip(numbers, means / np.linalg.norm(means, axis=1, keepdims=True), strict=True)
        return np.stack([rows[number] for number in range(len(ids))]).astype(np.float32)


def load(name: str, dtype: str = "fp32") -> Loaded:
    """A causal language model as an ordinary `transformers` class, with its tokenizer.

    The weights of a GGUF file are turned back into ``dtype`` and put into the plain class, so
    that the model can be saved, quantized and trained like any other; what its earlier
    quantization (``entry.stored``) took away stays away. It is on the CPU, in evaluation mode.
    Raises ValueError for an unknown name or dtype, an encoder, and whatever `fetch` refuses.
    """
    if dtype not in DTYPES:
        raise units.unknown("dtype", dtype, DTYPES)
    if entry(name).kind != "causal":
        raise ValueError(f"{name} is no causal language model; try pretrained.encoder({name!r})")
    pinned = fetch(name)
    file = pinned.files[0]
    model, tokenizer = from_gguf(pinned.folder, file.name, dtype)
    return Loaded(model, tokenizer, pinned, pinned.folder / file.name, file.sha256)


def from_gguf(folder: Path, file: str, dtype: str = "fp32"):
    """A plain `transformers` model in evaluation mode, and its tokenizer, from one GGUF file."""
    for package in ("gguf", "accelerate"):
        _needs(package, "a GGUF file")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    read = {"gguf_file": file, "local_files_only": True, "trust_remote_code": False}
    marked = AutoModelForCausalLM.from_pretrained(
        folder, dtype=getattr(torch, DTYPES[dtype]), **read
    )
    tokenizer = AutoTokenizer.from_pretrained(folder, **read)
    settings = marked.config.to_dict()
    settings.pop("quantization_config", None)  # the mark that forbids saving and quantizing
    state = marked.state_dict()
    plain = type(marked)(type(marked.config).from_dict(settings))
    del marked
    plain.load_state_dict(state, assign=True)
    plain.tie_weights()
    return plain.eval(), tokenizer


def encoder(name: str) -> Encoder:
    """A sentence encoder in fp32 with its own tokenizer, mean pooling and unit vectors.

    Raises ValueError for an unknown name, a language model, and whatever `fetch` refuses; and
    for an ONNX model where onnxruntime is not installed.
    """
    if entry(name).kind != "encoder":
        raise ValueError(f"{name} is no encoder; try pretrained.load({name!r})")
    onnx = entry(name).files[0].name.endswith(".onnx")
    if onnx:
        _needs("onnxruntime", name)
    pinned = fetch(name)
    speller = fetch(pinned.tokenizer) if pinned.tokenizer else pinned
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(speller.folder, local_files_only=True)
    model, hidden = (_session if onnx else _module)(pinned.folder / pinned.files[0].name)
    return Encoder(model, tokenizer, pinned, hidden)


def _module(file: Path):
    import torch
    from transformers import AutoModel

    model = AutoModel.from_pretrained(
        file.parent,
        dtype=torch.float32,
        use_safetensors=True,
        local_files_only=True,
        trust_remote_code=False,
    ).eval()

    def hidden(ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        device = next(model.parameters()).device
        with torch.no_grad():
            output = model(
                input_ids=torch.from_numpy(ids).to(device),
                attention_mask=torch.from_numpy(mask).to(device),
            )
        return output.last_hidden_state.float().cpu().numpy()

    return model, hidden


def _session(file: Path):
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    inputs_named = {entry.name for entry in session.get_inputs()}

    def hidden(ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        outputs = session.run(None, {name: inputs[name] for name in inputs_named})
        return next(array for array in outputs if array.ndim == 3)

    return session, hidden


def _needs(package: str, purpose: str) -> None:
    from importlib.util import find_spec

    if find_spec(package) is None:
        raise ValueError(f"{purpose} needs the package {package} (pip install {package})")
