"""Exact parameter counts of any `transformers` configuration, on the meta device.

The model's own class is built without storage and its tensors are counted; of a checkpoint file,
the tensors that its header lists. What `transformers` has no class for is estimated from its
fields (`estimate`), and says so.

**Active parameters** are those that one token's forward pass can multiply with: everything,
less the routed experts that the token is not sent to. The input embedding is in `active` and
left out of `active_without_input_embedding`, since a look-up multiplies nothing; a matrix that
also serves as the output head stays in both. Vendors use either convention.
"""

import math
import re
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sizewise.data import catalog

from . import config as configs
from . import estimate, foreign, from_config
from .architecture import Model, Tensors, from_json
from .checkpoint import Checkpoint

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# First match wins. The names are those of `transformers`' modules, without layer numbers.
KINDS = (
    ("routed experts", r"\bexperts\b(?!.*\brouter\b)"),
    ("router", r"router|\bgate\b|shared_expert_gate|moe_statics"),
    ("shared experts", r"shared_expert|shared_mlp"),
    ("norm", r"norm\b|\bnorm|\bln_|_ln\b|layer_norm|layernorm|LayerNorm"),
    (
        "state space",
        r"mamba|linear_attn|rg_lru|temporal_block\.(linear|conv)|mlstm|forget_gate|"
        r"mixer\.(A_log|D|dt|conv1d|in_proj|out_proj|x_proj)|time_|\bconv\b",
    ),
    ("attention", r"attn|[Aa]ttention|self_att|(mixer|temporal_block)\.[qkvo]_proj"),
    (
        "mlp",
        r"mlp|feed_forward|\bffn?s?\b|fc[12]|mixer\.(up|down)_proj|intermediate|"
        r"DenseReluDense|output\.dense",
    ),
)


# Modules for images and sound, whatever they are called.
VISION = re.compile(
    r"vision|visual|audio|multi_modal|mm_proj|image_newline|image_proj|speech|resampler|connector"
)
MIN_BITS, MAX_BITS = 1, 70  # of a stored weight, scales included: ternary codes to F64


@dataclass(frozen=True)
class Count:
    """Parameters of one model, by several conventions. All figures are numbers of elements."""

    model: str
    model_type: str
    built_as: str  # the transformers class that was counted
    total: int
    active: int | None  # None where the configuration does not say how many experts a token uses
    active_without_input_embedding: int | None
    embedding: int  # the input token embedding
    embedding_and_head: int  # every embedding table (positions too) and an untied output head
    routed: int  # all routed experts together
    experts: int | None
    experts_per_token: int | None
    tied: bool  # the output head is the input embedding
    buffers: int = 0  # stored with the weights, not trained
    vision: int = 0  # towers for images and sound and what joins them to the text part
    mtp: int = 0  # layers for multi-token prediction, stored beside the model: not in the total
    estimated: bool = False  # from fields, since there is no class
    by_kind: dict[str, int] = field(default_factory=dict)
    layers: dict[str, tuple[int, ...]] = field(default_factory=dict)  # list -> parameters of each
    tensors: tuple[Tensors, ...] = field(default=(), repr=False)
    assumptions: tuple[str, ...] = ()

    @property
    def non_embedding(self) -> int:
        """Parameters outside every embedding table and the head, as Kaplan et al. count N."""
        return self.total - self.embedding_and_head

    @property
    def depth(self) -> int:
        """Layers of the longest stack."""
        return max((len(sizes) for sizes in self.layers.values()), default=0)

    def as_dict(self, *, layers: bool = True) -> dict:
        """Plain data; ``layers=False`` leaves out the line for each layer."""
        plain = {k: v for k, v in vars(self).items() if k != "tensors"}
        if not layers:
            plain.pop("layers")
        return plain | {"non_embedding": self.non_embedding}


def count(model: "str | Path | configs.Spec") -> Count:
    """Count whatever `config.load` takes: a name, a configuration, a checkpoint, a `config.Spec`.

    Raises ValueError, in one line, for whatever `config.load` and `config.build` refuse, and for
    shapes that the model's class refuses.
    """
    spec = configs.load(model)
    entry = catalog.shape(spec.name) if spec.source == "catalogue" else None
    if entry is not None:
        return _catalogued(spec.name, entry)[0]
    with _usable(spec):
        return _counted(spec)[0]


def describe(model: "str | Path | configs.Spec") -> Model:
    """The `architecture.Model` of anything that `count` takes, with its counts filled in."""
    spec = configs.load(model)
    entry = catalog.shape(spec.name) if spec.source == "catalogue" else None
    if entry is not None:
        return _catalogued(spec.name, entry)[1]
    with _usable(spec):
        result, config = _counted(spec)
        whole = described(spec, result, config or configs.gguf_config(spec))
        hash(whole.layers)  # so that a list where a number belongs is found here
        return whole


@contextmanager
def _usable(spec: "configs.Spec"):
    """What follows from a field of a wrong type, as a ValueError in one line."""
    try:
        yield
    except (TypeError, AttributeError, LookupError, ArithmeticError) as error:
        reason = configs.one_line(error)
        raise ValueError(f"{spec.name}: a field has no usable value: {reason}") from error


def _catalogued(name: str, entry: dict[str, Any]) -> tuple[Count, Model]:
    """Count and description of a catalogue's model as `scripts/model_shapes.py` stored them."""
    model = from_json(entry["model"])
    return tally(name=name, tensors=model.tensors, **entry["count"]), model


def described(spec: "configs.Spec", result: Count, config) -> Model:
    """The `architecture.Model` of a configuration whose parameters are counted."""
    model = from_config.from_config(config, result.total, result.active, spec.name)
    notes = list(result.assumptions)
    stored: tuple[tuple[Tensors, str, int], ...] = ()
    if spec.stored is not None:
        size = spec.stored.tensor_bytes
        if spec.stored.tensors:
            stored = tuple(header_rows(spec.stored))
        elif MIN_BITS * result.total <= 8 * size <= MAX_BITS * result.total:
            everything = Tensors("all", "all weights", (result.total,))
            stored = ((everything, "as its index states", size),)
        else:
            notes.append(
                f"its index states {size:,} bytes, which are not those of {result.total:,} "
                "weights, and is not used"
            )
    text = spec.fields.get("text_config") or {}
    if (
        model.max_context
        and spec.fields
        and not any(n in part for part in (spec.fields, text) for n in from_config.MAX_CONTEXT)
    ):
        notes.append(
            f"its longest context is not stated: its class's default is {model.max_context:,}"
        )
    return replace(
        model,
        vision=result.vision,
        mtp=result.mtp,
        tensors=result.tensors,
        experts=model.experts if result.routed else None,
        experts_per_token=model.experts_per_token if result.routed else None,
        quantization=configs.quantization(spec.fields),
        assumptions=tuple(notes),
        stored=stored,
    )


def _counted(spec: "configs.Spec") -> tuple[Count, Any]:
    """The count, and the configuration that it was made of; None for a header's."""
    if spec.stored is not None and not spec.fields:
        return _from_headers(spec, spec.stored), None
    notes = list(spec.notes)
    try:
        config = configs.build(spec)
    except configs.NoClass as error:
        return _estimated(spec, error)
    try:
        model = skeleton(config)
    except Exception as error:  # a class refuses bad shapes in its own way
        text = _text_config(config)
        if "timm" not in str(error) or text is config:
            raise ValueError(
                f"{spec.name}: {config.model_type} cannot be built: {configs.one_line(error)}"
            ) from error
        # The tower for images comes from a library that is not here: the text part is counted.
        notes.append("only the text part is counted: its vision tower needs the package timm")
        model, config = skeleton(text), text
    notes += _named_otherwise(config, type(model).__name__) + configs.unstated(spec, config)
    result = _tally(spec, config, model, notes)
    experts = from_config.first_stated(estimate.fields(spec.fields), from_config.EXPERTS) or 0
    if experts > 1 and not result.routed and from_config.routing(_text_config(config))[1]:
        model_type = spec.fields["model_type"]
        return _estimated(
            spec, configs.NoClass(f"{spec.name}: the class of {model_type!r} has no experts")
        )
    return result, config


def _named_otherwise(config, built_as: str) -> list[str]:
    """A note where a configuration names a class that `transformers` does not have."""
    import transformers

    named = getattr(config, "architectures", None)
    named = [str(name) for name in named] if isinstance(named, list | tuple) else []
    same = built_as.replace("_", "").lower()
    known = any(hasattr(transformers, n) or n.replace("_", "").lower() == same for n in named)
    return [f"transformers has no {named[0]}: counted as {built_as}"] if named and not known else []


def _estimated(spec: "configs.Spec", error: Exception) -> tuple[Count, Any]:
    """The estimate of what has no class; raises ``error`` unless it may and can be made."""
    if not estimate.possible(spec.fields):
        raise error
    if not spec.may_estimate:
        raise configs.NoClass(f"{error} (--estimate reckons with its fields)") from None
    tensors, config = estimate.tensors(spec.fields), estimate.config(spec.fields)
    notes = [*spec.notes, f"an estimate from its fields: {error}", estimate.accuracy()]
    towers = [
        key
        for key in ("vision_config", "audio_config", "img_processor", "vision_tower")
        if spec.fields.get(key)
    ]
    if towers:
        notes.append(f"the text part alone: its {towers[0]} is not counted")
    experts, used = from_config.routing(config)
    return tally(
        name=spec.name,
        model_type=str(spec.fields.get("model_type", "")),
        built_as="estimate",
        tensors=tensors,
        experts=experts,
        experts_per_token=used,
        tied=bool(getattr(config, "tie_word_embeddings", False)),
        estimated=True,
        mtp=_mtp(spec.fields, tensors),
        assumptions=notes,
    ), config


def header_rows(stored: Checkpoint) -> list[tuple[Tensors, str, int]]:
    """A checkpoint's tensors by name, shape and type: (tensors, type, bytes of all of them)."""
    rows: dict[tuple, list] = {}
    for tensor in stored.tensors:
        name, layer = _starred(tensor.name)
        shape = tensor.shape or (1,)
        if tensor.parameters != math.prod(shape):  # packed: its own shape is not the weights'
            shape = (tensor.parameters,)
        sums = rows.setdefault((name, _kind_by_name(name), shape, tensor.type), [0, set(), 0])
        sums[0] += 1
        sums[1] |= layer
        sums[2] += tensor.bytes
    return [
        (Tensors(name, kind, shape, number, tuple(sorted(layers))), label, size)
        for (name, kind, shape, label), (number, layers, size) in rows.items()
    ]


def _starred(path: str) -> tuple[str, set[int]]:
    """A tensor's name with * for its numbers, and the first of them, its layer's."""
    layer = re.search(r"(?<=\.)\d+(?=\.)", path)
    return re.sub(r"(?<=[._])\d+(?=\.)", "*", path), {int(layer[0])} if layer else set()


def _from_headers(spec: "configs.Spec", stored: Checkpoint) -> Count:
    """The count of a checkpoint without a configuration beside it."""
    if stored.parameters is None:
        raise ValueError(
            f"{spec.name}: states {stored.tensor_bytes:,} bytes of tensors; what they are "
            "needs its shards or a config.json beside it"
        )
    tensors = tuple(row for row, _, _ in header_rows(stored) if row.parameters)
    experts, used = foreign.gguf_experts(stored.metadata)
    return tally(
        name=spec.name,
        model_type=str(stored.metadata.get("general.architecture", stored.kind)),
        built_as=f"{stored.kind} header",
        tensors=tensors,
        experts=experts,
        experts_per_token=used,
        tied=all(row.kind != "output head" for row in tensors),
        assumptions=spec.notes,
    )


# Names of tensors in GGUF files, where they differ from what `KINDS` finds.
GGUF_KINDS = (
    ("input embedding", r"^token_embd\b|embed_tokens|\bwte\b|word_embeddings\.weight"),
    ("output head", r"^output\.weight|lm_head|embed_out"),
    ("routed experts", r"_exps\b|_exps\.|\bexperts\b"),
    ("router", r"ffn_gate_inp|exp_probs"),
    ("shared experts", r"_shexp"),
    ("norm", r"norm"),
    ("state space", r"ssm_"),
    ("attention", r"attn"),
    ("mlp", r"ffn_"),
)


def _kind_by_name(name: str) -> str:
    if VISION.search(name) or name.startswith(("v.", "mm.")):
        return "vision"
    kinds = (kind for kind, pattern in (*GGUF_KINDS, *KINDS) if re.search(pattern, name))
    return next(kinds, "other")


def skeleton(config):
    """The model of ``config`` without storage."""
    import torch
    from transformers.initialization import no_init_weights

    model_class, text = _model_class(config), _text_config(config)
    if model_class.config_class is type(text):  # the class may be that of the text part
        config = text
    with torch.device("meta"), no_init_weights():
        model = model_class(config)
    model.tie_weights()
    return model


AUTO = ("CausalLM", "Seq2SeqLM", "SpeechSeq2Seq", "ImageTextToText", "MaskedLM")


def _model_class(config) -> "type[PreTrainedModel]":
    """The class that the configuration names, else the first automatic class that has it."""
    import transformers

    named = getattr(config, "architectures", None)
    for name in named if isinstance(named, list | tuple) else ():
        model_class = getattr(transformers, str(name), None)
        if (
            isinstance(model_class, type)
            and issubclass(model_class, transformers.PreTrainedModel)
            and model_class.config_class is type(config)
        ):
            return model_class
    for auto in (
        *(getattr(transformers, f"AutoModelFor{task}") for task in AUTO),
        transformers.AutoModel,
    ):
        if type(config) in auto._model_mapping:
            model_class = auto._model_mapping[type(config)]
            return model_class[0] if isinstance(model_class, tuple) else model_class
    raise ValueError("transformers has no model class for it")


def _tally(spec, config, model, notes: list[str]) -> Count:
    """The count of a built model."""
    experts, used = from_config.routing(_text_config(config))
    try:
        token, head = model.get_input_embeddings(), model.get_output_embeddings()
    except NotImplementedError:  # models of images and sound
        token = head = None
    if zero := from_config.first_stated(_text_config(config), ("zero_expert_num",)) or 0:
        notes.append(f"active: at most, as {zero} experts that a token may take have no weights")
    token_weight = getattr(token, "weight", None)
    rows: dict[tuple[str, str, tuple[int, ...]], list[set[int]]] = {}
    modules = dict(model.named_modules())
    for path, tensor in model.named_parameters():  # a tied one comes once
        module = modules[path.rpartition(".")[0]]
        kind = _kind(path, tensor, module, token_weight, head, experts)
        if kind != "input embedding" and VISION.search(path):
            kind = "vision"
        (name, layer), shape = _starred(path), tuple(tensor.shape)
        # LongCat's class keeps rows for its experts without weights, which no checkpoint has.
        if experts and zero and kind == "routed experts" and shape[0] == experts + zero:
            shape = (experts, *shape[1:])
        rows.setdefault((name, kind, shape), []).append(layer)
    tensors = tuple(
        Tensors(*key, len(layers), tuple(sorted(set().union(*layers))))
        for key, layers in rows.items()
    )
    tied = token_weight is not None and getattr(head, "weight", None) is token_weight
    if (
        token_weight is not None
        and tied
        and config.is_encoder_decoder
        and spec.fields.get("tie_word_embeddings") is False
    ):
        # T5's classes tie whatever is stated; the files of T5 1.1, mT5 and FLAN-T5 hold a head.
        config.tie_word_embeddings = tied = False
        tensors += (Tensors("lm_head.weight", "output head", tuple(token_weight.shape)),)
    return tally(
        name=spec.name,
        model_type=config.model_type,
        built_as=type(model).__name__,
        tensors=tensors,
        experts=experts,
        experts_per_token=used,
        tied=tied,
        buffers=sum(
            tensor.numel()
            for module in modules.values()
            for name, tensor in module._buffers.items()
            if tensor is not None and name not in module._non_persistent_buffers_set
        ),
        mtp=_mtp(spec.fields, tensors),
        assumptions=notes,
    )


def tally(
    *,
    name: str,
    tensors: tuple[Tensors, ...],
    experts: int | None = None,
    experts_per_token: int | None = None,
    tied: bool = False,
    assumptions=(),
    **stated,
) -> Count:
    """The `Count` of a list of tensors; ``stated`` are fields of it that no tensor tells."""
    kinds: dict[str, int] = defaultdict(int)
    stacks: dict[str, dict[int, int]] = defaultdict(lambda: defaultdict(int))
    for row in tensors:
        kinds[row.kind] += row.parameters
        for layer in row.layers:
            stacks[row.name.split(".*.")[0]][layer] += row.parameters // len(row.layers)
    total = sum(kinds.values())
    routed, embedding = kinds["routed experts"], kinds["input embedding"]
    used, notes = experts_per_token if routed else None, list(assumptions)
    active: int | None = total
    if routed and experts and used is not None:
        active = total - routed + routed * min(used, experts) // experts
    elif routed:
        active = None
        notes.append("active: not known, the configuration names no experts per token")
    tables = embedding + kinds["other embeddings"] + kinds["output head"]
    return Count(
        model=name,
        total=total,
        active=active,
        active_without_input_embedding=active if tied or active is None else active - embedding,
        embedding=embedding,
        embedding_and_head=tables,
        routed=routed,
        experts=experts if routed else None,
        experts_per_token=used,
        tied=tied,
        vision=kinds["vision"],
        by_kind=dict(sorted(((k, n) for k, n in kinds.items() if n), key=lambda item: -item[1])),
        layers={path: tuple(sizes[n] for n in sorted(sizes)) for path, sizes in stacks.items()},
        tensors=tensors,
        assumptions=tuple(notes),
        **stated,
    )


def _mtp(fields: dict[str, Any], tensors: tuple[Tensors, ...]) -> int:
    """Parameters of the layers for multi-token prediction that a checkpoint stores beside.

    Each is one more layer like the last, a projection of two states into one, three norms, and
    copies of the embedding and the head unless the configuration denies them: DeepSeek-V3 (2024),
    section 2.2, as its checkpoint and GLM-4.5's store them. 0 where the class builds them itself.
    """
    inner = fields.get("text_config")
    text = inner if isinstance(inner, dict) else fields
    number = from_config.first_stated(
        text, ("num_nextn_predict_layers", "mtp_num_hidden_layers", "num_mtp_modules")
    )
    if not number or any(re.search(r"\bmtp|nextn", row.name) for row in tensors):
        return 0
    text_rows = [row for row in tensors if row.kind != "vision" and row.layers]
    last = max((row.layers[-1] for row in text_rows), default=None)
    if last is None:
        return 0
    layer = sum(row.parameters // len(row.layers) for row in text_rows if last in row.layers)
    vocabulary, width = next(row.shape for row in tensors if row.kind == "input embedding")
    copies = 0 if text.get("mtp_use_dedicated_embeddings") is False else 2 * vocabulary * width
    return number * (layer + 2 * width * width + 3 * width + copies)


def _text_config(config):
    """The language part of a configuration; the whole where it has none, or several."""
    try:
        return config.get_text_config()
    except ValueError:
        return config


def _kind(path, tensor, module, token_weight, head, experts) -> str:
    if tensor is token_weight:
        return "input embedding"
    if head is not None and module is head:
        return "output head"
    plain = re.sub(r"\.\d+(?=\.)", "", path)
    looked_up = "Embedding" in type(module).__name__
    # JetMoE keeps its experts' weights as one (expert, out, in) tensor without the usual name,
    # Doge its many small ones as tables with a row for each.
    if (tensor.ndim == 3 or looked_up) and tensor.shape[0] == experts and "shared" not in plain:
        return "routed experts"
    if looked_up:
        return "other embeddings"
    return next((kind for kind, pattern in KINDS if re.search(pattern, plain)), "other")
