"""Exact parameter counts of any `transformers` configuration, on the meta device.

Nothing is estimated: the model's own class is built without storage and its tensors are
counted. Layers of one shape are built once (`repeats`), so ten thousand of them cost little
more than one.

**Active parameters** are those that one token's forward pass can multiply with: everything,
less the routed experts that the token is not sent to. The input embedding is in `active` and
left out of `active_without_input_embedding`, since a look-up multiplies nothing; a matrix that
also serves as the output head stays in both. Vendors use either convention.
"""

import re
from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from . import config as configs
from . import from_config, shared_layers
from .from_config import EXPERTS, TOP_K

# By definition of the architecture: Fedus et al. 2021, section 2.1; NLLB team 2022, section 6.2.
FIXED_TOP_K = {"switch_transformers": 1, "nllb-moe": 2}

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
    buffers: int  # stored with the weights, not trained
    by_kind: dict[str, int] = field(default_factory=dict)
    layers: dict[str, tuple[int, ...]] = field(default_factory=dict)  # list -> parameters of each

    @property
    def non_embedding(self) -> int:
        """Parameters outside every embedding table and the head, as Kaplan et al. count N."""
        return self.total - self.embedding_and_head

    @property
    def depth(self) -> int:
        """Layers of the longest stack."""
        return max((len(sizes) for sizes in self.layers.values()), default=0)

    def as_dict(self) -> dict:
        return asdict(self) | {"non_embedding": self.non_embedding}


def count(model: "str | Path | configs.Spec") -> Count:
    """Count a catalogue name, a ``config.json``, a hub id, or a `configs.Spec`.

    Raises ValueError, in one line, for whatever `configs.load` and `configs.build` refuse, and
    for shapes that the model's class refuses.
    """
    spec = configs.load(model)
    config = configs.build(spec)
    try:
        built = skeleton(config)
    except Exception as error:  # a class refuses bad shapes in its own way
        raise ValueError(
            f"{spec.name}: {config.model_type} cannot be built: {configs.one_line(error)}"
        ) from error
    return _tally(spec.name, config, built)


def describe(model: "str | Path | configs.Spec"):
    """The `architecture.Model` of anything that `count` takes, with its counts filled in."""
    spec = configs.load(model)
    found = count(spec)
    described = from_config.from_config(
        configs.build(spec), total=found.total, active=found.active, name=spec.name
    )
    if spec.source == "catalogue":  # its entries hold what shapes need, not the longest context
        described = replace(described, max_context=None)
    return described


def skeleton(config, *, share_layers: bool = True):
    """The model of ``config`` without storage; equal layers share theirs if ``share_layers``."""
    import torch

    model_class = _model_class(config)
    if model_class.config_class is not type(config):
        text_config = _text_config(config)
        if model_class.config_class is type(text_config):  # the class is that of the text part
            config = text_config
    with torch.device("meta"):
        if not share_layers:
            return model_class(config)
        with shared_layers.shared(model_class):
            model = model_class(config)
        if shared_layers.ties_layers(
            model
        ):  # sharing would hide which tensors the class itself ties
            model = model_class(config)
    return model


def _model_class(config) -> type:
    """The class that the configuration names, else the first automatic class that has it."""
    import transformers

    named = getattr(config, "architectures", None)
    for name in named if isinstance(named, list | tuple) else ():
        found = getattr(transformers, str(name), None)
        known = isinstance(found, type) and issubclass(found, transformers.PreTrainedModel)
        if known and found.config_class is type(config):
            return found
    for auto in (
        transformers.AutoModelForCausalLM,
        transformers.AutoModelForSeq2SeqLM,
        transformers.AutoModelForImageTextToText,
        transformers.AutoModelForMaskedLM,
        transformers.AutoModel,
    ):
        if type(config) in auto._model_mapping:
            found = auto._model_mapping[type(config)]
            return found[0] if isinstance(found, tuple) else found
    raise ValueError("transformers has no model class for it")


def _tally(name: str, config, model) -> Count:
    text_config = _text_config(config)
    experts = _first(text_config, EXPERTS)
    token, head = _ends(model)
    token_weight = getattr(token, "weight", None)
    tied = token_weight is not None and getattr(head, "weight", None) is token_weight
    kinds: Counter[str] = Counter()
    stacks: dict[str, Counter[int]] = {}
    for path, tensor, module in shared_layers.tensors(model):
        kind = _kind(path, tensor, module, token_weight, head, experts)
        kinds[kind] += tensor.numel()
        if stack := re.match(r"(.*?)\.(\d+)\.", path):
            stacks.setdefault(stack[1], Counter())[int(stack[2])] += tensor.numel()
    total, routed = sum(kinds.values()), kinds["routed experts"]
    used = _experts_per_token(config, text_config) if routed else None
    active = _active(total, routed, experts, used)
    embedding = kinds["input embedding"]
    return Count(
        model=name,
        model_type=config.model_type,
        built_as=type(model).__name__,
        total=total,
        active=active,
        active_without_input_embedding=active if tied or active is None else active - embedding,
        embedding=embedding,
        embedding_and_head=embedding + kinds["other embeddings"] + kinds["output head"],
        routed=routed,
        experts=experts if routed else None,
        experts_per_token=used,
        tied=tied,
        buffers=shared_layers.buffers(model),
        by_kind={kind: n for kind, n in kinds.most_common() if n},
        layers={path: tuple(sizes.values()) for path, sizes in stacks.items()},
    )


def _text_config(config):
    """The language part of a configuration; the whole where it has none, or several."""
    try:
        return config.get_text_config()
    except ValueError:
        return config


def _ends(model) -> tuple:
    """The modules that take tokens in and give them out; None where a model has no such thing."""
    try:
        return model.get_input_embeddings(), model.get_output_embeddings()
    except NotImplementedError:  # models of images and sound
        return None, None


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
    for kind, pattern in KINDS:
        if re.search(pattern, plain):
            return kind
    return "other"


def _active(total: int, routed: int, experts: int | None, used: int | None) -> int | None:
    if not routed:
        return total
    if not experts or used is None:
        return None
    return total - routed + routed * min(used, experts) // experts


def _experts_per_token(config, text_config) -> int | None:
    return FIXED_TOP_K.get(config.model_type) or _first(text_config, TOP_K)


def _first(config, names) -> int | None:
    """The first of these fields that the configuration states as a positive integer."""
    for name in names:
        value = getattr(config, name, None)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return None
