"""Number formats: what a stored weight or cache value takes, and what each quantizer leaves alone.

No quantizer touches every weight. Norms, biases and routers stay in 16 bits with all of them,
embeddings and the output head with most; a GGUF file mixes several types. `scheme` says which
format each kind of tensor gets; `weights` counts the bytes.
"""

import fnmatch
import re
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from sizewise import units


@dataclass(frozen=True)
class Format:
    """Bits of one stored value, with everything that is stored beside it.

    ``per_row`` bits come once for every row of a weight matrix, or once for every stored vector
    of a cache (one head's key or value of one token). ``keeps``: which kinds of tensor a
    quantizer of this format leaves in 16 bits; empty where every weight has the format. Of a GGUF
    mixture ``bits`` is the mean over a typical model; the bytes of a known one are exact.
    """

    name: str
    bits: float
    per_row: float = 0.0
    note: str = ""
    keeps: frozenset[str] = frozenset()
    mixture: str = ""  # a GGUF file type whose tensors have several types
    aliases: tuple[str, ...] = ()


# Kinds as `parameters` names them. A quantizer replaces linear layers: these are none, or are
# left out by default because they are few and matter.
KEPT = frozenset(
    ("input embedding", "other embeddings", "output head", "norm", "router", "vision", "other")
)
ONLY_EXPERTS = KEPT | {"attention", "mlp", "shared experts", "state space"}


def _table(*formats: Format) -> dict[str, Format]:
    return {entry.name: entry for entry in formats}


def _linear(name: str, bits: float, note: str, *aliases: str, per_row: float = 0) -> Format:
    """A format that linear layers alone have."""
    return Format(name, bits, per_row, note, KEPT, aliases=aliases)


def _mlx_format(bits: int) -> Format:
    keeps = frozenset(("norm", "vision", "other"))
    note = "16-bit scale and bias for 64, embeddings and head too"
    return Format(f"mlx-{bits}bit", bits + 32 / 64, 0, note, keeps, aliases=(f"mlx-{bits}",))


def _gguf(name: str, bits: float, note: str, *aliases: str) -> Format:
    return Format(name, bits, note=f"GGUF: {note}", mixture=name.upper(), aliases=aliases)


EXPONENT = "8-bit exponent for 32: OCP Microscaling v1.0"
TENSOR = "one scale a tensor, not counted"
DOUBLE = 8 / 64 + 32 / (64 * 256)  # bits of scales that are quantized themselves
PLAIN = (
    Format("fp32", 32, aliases=("float32", "f32")),
    Format("bf16", 16, aliases=("bfloat16",)),
    Format("fp16", 16, aliases=("float16", "f16", "half")),
)
WEIGHTS = _table(
    *PLAIN,
    _linear("fp8", 8, f"{TENSOR}; head and embeddings in 16 bits", "float8", "fp8-dynamic", "e4m3"),
    _linear("fp8-block", 8 + 32 / 128**2, "fp32 scale for 128 x 128: DeepSeek-V3, section 3.3"),
    _linear("mxfp8", 8 + 8 / 32, EXPONENT),
    _linear(
        "int8",
        8,
        "fp32 scale an output row: LLM.int8(), Dettmers et al. 2022",
        *("llm-int8", "bnb-8bit", "w8a8", "w8a16"),
        per_row=32,
    ),
    _linear("nf4", 4 + 32 / 64, "fp32 scale for 64: QLoRA, section 3", "bnb-4bit"),
    _linear("nf4-dq", 4 + DOUBLE, "scales in 8 bits: QLoRA, section 3", "qlora"),
    _linear("fp4", 4 + 32 / 64, "bitsandbytes: fp32 scale for 64"),
    _linear("fp4-dq", 4 + DOUBLE, "bitsandbytes: scales in 8 bits"),
    _linear("mxfp4", 4 + 8 / 32, f"{EXPONENT}; of sparse models the experts alone, as in gpt-oss"),
    _linear("nvfp4", 4 + 8 / 16, "fp8 scale for 16; one fp32 a tensor not counted"),
    Format("int4", 4, 0, "every weight and no scales: a bound, not a format"),
    _linear("int4-g32", 4 + 16 / 32, "16-bit scale for 32, symmetric"),
    _linear(
        "int4-g128",
        4 + 16 / 128,
        "fp16 scale for 128, symmetric: GPTQ",
        *("gptq", "w4a16", "marlin", "int4-gptq"),
    ),
    _linear(
        "int4-g128-zero",
        4 + 20 / 128,
        "fp16 scale and 4-bit zero point for 128: AWQ",
        *("awq", "int4-awq"),
    ),
    _mlx_format(4),
    _mlx_format(8),
    _gguf("q8_0", 8.5, "fp16 scale for 32", "q8"),
    _gguf("q6_k", 6.5625, "210 bytes for 256", "q6"),
    _gguf("q5_k_m", 5.69, "q5_k, and q6_k in half of the value and down projections", "q5_k", "q5"),
    _gguf("q5_k_s", 5.54, "q5_k, q6_k in the head"),
    _gguf("q5_1", 6.0, "fp16 scale and minimum for 32"),
    _gguf("q5_0", 5.5, "fp16 scale for 32"),
    _gguf("q4_k_m", 4.85, "q4_k, and q6_k in half of the value and down projections", "q4_k", "q4"),
    _gguf("q4_k_s", 4.58, "q4_k, and q5_k in the first layers' value and down projections"),
    _gguf("q4_1", 5.0, "fp16 scale and minimum for 32"),
    _gguf("q4_0", 4.5, "fp16 scale for 32"),
    _gguf("iq4_nl", 4.5, "fp16 scale for 32, values of a table"),
    _gguf("iq4_xs", 4.25, "136 bytes for 256", "iq4"),
    _gguf("q3_k_l", 4.27, "q3_k, and q5_k in value, output and down projections"),
    _gguf("q3_k_m", 3.91, "q3_k, and q4_k in value, output and down projections", "q3_k", "q3"),
    _gguf("q3_k_s", 3.5, "q3_k, q6_k in the head"),
    _gguf("q2_k", 3.0, "q2_k, and q3_k in value, output and down projections", "q2"),
)
CACHES = _table(
    *PLAIN,
    Format("fp8", 8, note=TENSOR, aliases=("fp8_e4m3", "fp8_e5m2")),
    Format("int8", 8, note="scales not counted"),
    Format("int8-token", 8, 16, note="fp16 scale a vector"),
    Format("q8_0", 8 + 16 / 32, note="GGUF: fp16 scale for 32", aliases=("q8",)),
    Format("q5_1", 5 + 32 / 32, note="GGUF: fp16 scale and minimum for 32"),
    Format("q5_0", 5 + 16 / 32, note="GGUF: fp16 scale for 32"),
    Format("q4_1", 4 + 32 / 32, note="GGUF: fp16 scale and minimum for 32"),
    Format("q4_0", 4 + 16 / 32, note="GGUF: fp16 scale for 32", aliases=("q4",)),
    Format("int4", 4 + 32 / 64, note="fp16 scale and zero point for 64"),
    Format("int2", 2 + 32 / 32, note="fp16 scale and zero point for 32: KIVI, Liu et al. 2024"),
    Format("nf4", 4 + 16 / 64, note="fp16 scale for 64"),
    Format("tq4", 4, 16, note="TurboQuant, 4 bits a coordinate, fp16 norm a vector"),
    Format("tq3", 3, 16, note="TurboQuant, 3 bits a coordinate, fp16 norm a vector"),
    Format("tq2", 2, 16, note="TurboQuant, 2 bits a coordinate, fp16 norm a vector"),
)


@cache
def weight_format(name: str | Format) -> Format:
    """A weight format by name or alias, or as it is. Raises ValueError with the nearest name."""
    return _lookup("weight format", name, WEIGHTS)


@cache
def cache_format(name: str | Format) -> Format:
    """A cache format by name or alias, or as it is. Raises ValueError with the nearest name."""
    return _lookup("cache format", name, CACHES)


def _lookup(kind: str, name: str | Format, table: dict[str, Format]) -> Format:
    if isinstance(name, Format):
        return name
    plain = re.sub(r"[-_ ]", "", str(name).lower())
    for entry in table.values():
        if plain in (re.sub(r"[-_]", "", scheme) for scheme in (entry.name, *entry.aliases)):
            return entry
    raise units.unknown(kind, name, table)


@dataclass(frozen=True)
class Stored:
    """How a checkpoint's own configuration says its weights are stored.

    ``ignored`` are its patterns of modules left in 16 bits; ``groups`` are (patterns, format) of
    modules that have a format of their own, first match first; ``experts`` that of the routed
    experts where they have one.
    """

    format: Format
    ignored: tuple[str, ...] = ()
    experts: Format | None = None
    groups: tuple[tuple[tuple[str, ...], Format], ...] = ()

    @property
    def name(self) -> str:
        others = dict.fromkeys(form.name for _, form in self.groups)
        expert_format = f", experts {self.experts.name}" if self.experts else ""
        return "+".join(dict.fromkeys([self.format.name, *others])) + expert_format


# Fields that list the modules that a quantizer leaves.
_LEFT_ALONE = (
    *("modules_to_not_convert", "ignored_layers", "ignore"),
    *("exclude_modules", "llm_int8_skip_modules", "exclude"),
)


def stored(fields: dict[str, Any] | None) -> Stored:
    """What a configuration says of the stored weights: `config.quantization`; else bf16.

    Raises ValueError for a method that is not known here, or one whose fields make no sense: a
    silent default would be wrong by up to a factor of four.
    """
    fields = fields or {}
    config = fields.get("quantization_config") or fields.get("compression_config")
    if not config and isinstance(fields.get("quantization"), dict):  # as MLX writes it
        config = {"quant_method": "mlx", **fields["quantization"]}
    if not config:
        return Stored(WEIGHTS["bf16"])
    if not isinstance(config, dict):
        raise ValueError(f"quantization_config is no object of fields, but {config!r}")
    method = str(config.get("quant_method") or config.get("quant_algo") or "").lower()
    if not method and (config.get("load_in_4bit") or config.get("load_in_8bit")):
        method = "bitsandbytes"
    method = {"gptq_marlin": "gptq", "autoround": "auto-round"}.get(method, method)
    groups: list[tuple[tuple[str, ...], Format]] = []
    if "config_groups" in config or method.startswith("compressed"):
        result, groups = _compressed(config)
    elif method in _METHODS:
        result = _METHODS[method](config)
    else:
        raise _unknown(method)
    patterns = [str(entry) for key in _LEFT_ALONE for entry in config.get(key) or ()]
    if config.get("weight_block_size") and "config_groups" in config:
        # NVFP4 experts in a file of block-wise fp8: what the groups leave alone stays in fp8.
        beside = tuple(p for p in patterns if not re.search(r"head|mtp|embed|norm|gate$", p))
        groups.append((beside, WEIGHTS["fp8-block"]))
    if config.get("lm_head") is True:  # GPTQ: the head is quantized too
        groups.append((("lm_head",), result))
    if "head_bits" in config:
        groups.append((("lm_head",), _bits(_number(config, ("head_bits",), 6), 0, 0, "exl-head")))
    for name, entry in (config.get("quantized_layers") or {}).items():  # modelopt's mixtures
        groups.append(((str(name),), _modelopt(entry)))
    if method == "mlx":
        groups += [
            ((str(name),), _mlx(entry))
            for name, entry in config.items()
            if isinstance(entry, dict) and "bits" in entry
        ]
    # DeepSeek-V4: fp8, its experts in 4 bits.
    experts = WEIGHTS["mxfp4"] if fields.get("expert_dtype") == "fp4" else None
    return Stored(result, tuple(patterns), experts, tuple(groups))


def _unknown(method: str) -> ValueError:
    return ValueError(
        f"quantization_config names the method {method or '(none)'!r}, whose bytes are not known "
        "here; --weights FORMAT says what to reckon with"
    )


def _number(config: dict, names: tuple[str, ...], default: float | None = None) -> float:
    """The first of these fields that is stated, as a number; a bool or a text is none."""
    value = next((config[name] for name in names if config.get(name) is not None), default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not -1 <= value <= 1 << 20:
        raise ValueError(f"quantization_config states {names[0]} = {value!r}")
    return value


def _bits(bits: float, group: float, beside: float, name: str, keeps=KEPT) -> Format:
    """A format of ``bits`` with ``beside`` more bits for each ``group``, or row where that is 0."""
    if not 1 <= bits <= 16:
        raise ValueError(f"quantization_config states {bits} bits")
    unit = f"g{group:g}" if group > 0 else "row"
    note = f"{beside:g} bits beside {group if group > 0 else 'a row'}"
    in_group, in_row = (beside / group, 0) if group > 0 else (0, beside)
    return Format(f"{name}-{unit}" if beside else name, bits + in_group, in_row, note, keeps)


def _integer(config: dict, zero: bool) -> Format:
    """Integers with a scale, and a zero point, for each group."""
    bits = _number(config, ("bits", "w_bit", "nbits", "num_bits"), 4)
    group = _number(config, ("group_size", "q_group_size"), 128)
    form = _bits(bits, max(0, group), 16 + (bits if zero else 0), f"int{bits:g}")
    return replace(form, name=form.name + ("-zero" if zero else ""))


def _bitsandbytes(config: dict) -> Format:
    if config.get("load_in_8bit"):
        return WEIGHTS["int8"]
    name = str(config.get("bnb_4bit_quant_type") or "fp4")
    return weight_format(name + ("-dq" if config.get("bnb_4bit_use_double_quant") else ""))


def _floating(bits: float, group: float, strategy: str = "") -> Format:
    if bits == 8:
        return WEIGHTS["mxfp8" if group == 32 else "fp8-block" if strategy == "block" else "fp8"]
    return WEIGHTS["nvfp4" if group == 16 else "mxfp4"]


def _compressed(config: dict) -> tuple[Format, list[tuple[tuple[str, ...], Format]]]:
    """The format of most modules, and of those that other groups target by name."""
    groups = config.get("config_groups") or {}
    main, others = None, []
    for entry in groups.values() if isinstance(groups, dict) else ():
        weights = entry.get("weights") or {}
        form = str(config.get("format") or entry.get("format") or "")
        bits = _number(weights, ("num_bits",), 8)
        size = _number(weights, ("group_size",), 0)
        if weights.get("type") == "float" or "fp" in form or "float" in form:
            result = _floating(bits, size, weights.get("strategy") or "")
        else:
            named = {"bits": bits, "group_size": size}
            result = _integer(named, zero=weights.get("symmetric") is False)
        targets = tuple(str(t) for t in entry.get("targets") or ("Linear",) if t != "Linear")
        if targets:
            others.append((targets, result))
        main = main or result
    algorithm = str(config.get("quant_algo") or "")
    if main is None:
        main = _modelopt(config) if algorithm else WEIGHTS["int8"]
    return main, others if len(groups) > 1 else []


_ALGORITHMS = {
    "FP4": "nvfp4",
    "W4A4": "nvfp4",
    "FP8": "fp8",
    "AWQ": "int4-g128-zero",
    "INT4": "int4-g128",
    "INT8": "int8",
}


def _modelopt(config: dict) -> Format:
    algorithm = str(config.get("quant_algo") or config.get("quant_method") or "").upper()
    for mark, name in _ALGORITHMS.items():
        if mark in algorithm:
            return WEIGHTS[name]
    if algorithm == "MIXED_PRECISION" and config.get("quantized_layers"):
        return WEIGHTS["bf16"]  # each quantized layer is named
    raise _unknown(algorithm.lower())


def _quark(config: dict) -> Format:
    weight = (config.get("global_quant_config") or {}).get("weight") or {}
    kind, group = str(weight.get("dtype") or "fp4"), weight.get("group_size") or 0
    if kind.startswith(("fp4", "mxfp4")):
        return WEIGHTS["mxfp4"]
    if kind.startswith("fp8"):
        return WEIGHTS["fp8"]
    bits = int(re.sub(r"\D", "", kind) or 8)
    return _integer({"bits": bits, "group_size": group}, zero=kind.startswith("uint"))


def _torchao(config: dict) -> Format:
    named = config.get("quant_type")
    named = named.get("default", named) if isinstance(named, dict) else named
    kind = str(named.get("_type") if isinstance(named, dict) else named).lower()
    inner = named.get("_data") or {} if isinstance(named, dict) else config
    if "int4" in kind:  # a scale and a zero point in bf16 for each group
        return _bits(4, _number(inner, ("group_size",), 128), 32, "int4")
    if "float8" in kind or "int8" in kind:
        return WEIGHTS["fp8" if "float8" in kind else "int8"]
    raise _unknown(f"torchao {kind}"[:60])


def _mlx(config: dict) -> Format:
    bits, group = _number(config, ("bits",), 4), _number(config, ("group_size",), 64)
    return replace(_bits(bits, group, 32, "mlx", WEIGHTS["mlx-4bit"].keeps), name=f"mlx-{bits}bit")


def _hqq(config: dict) -> Format:
    inner = (config.get("quant_config") or {}).get("weight_quant_params") or config
    bits, group = _number(inner, ("nbits", "bits"), 4), _number(inner, ("group_size",), 64)
    return _bits(bits, group, 32, "hqq")


def _fp8(config: dict) -> Format:
    return WEIGHTS["fp8-block" if config.get("weight_block_size") else "fp8"]


_METHODS = {
    "fp8": _fp8,
    "fbgemm_fp8": _fp8,
    "finegrained_fp8": _fp8,
    "mxfp4": lambda config: WEIGHTS["mxfp4"],
    "mxfp8": lambda config: WEIGHTS["mxfp8"],
    "quark": _quark,
    "torchao": _torchao,
    "hqq": _hqq,
    "exl2": lambda config: _bits(_number(config, ("bits",)), 0, 0, "exl2"),
    "bitsandbytes": _bitsandbytes,
    "bitsandbytes_4bit": _bitsandbytes,
    "bitsandbytes_8bit": _bitsandbytes,
    # Files of GPTQ's form hold zero points even where all are the same.
    "awq": lambda config: _integer(config, zero=True),
    "gptq": lambda config: _integer(config, zero=True),
    "auto-round": lambda config: _integer(config, zero=True),
    "modelopt": _modelopt,
    "modelopt_fp4": _modelopt,
    "nvfp4": _modelopt,
    "mlx": _mlx,
}


def is_ignored(name: str, patterns: tuple[str, ...]) -> bool:
    """Whether a module of this name is among the patterns that a quantizer leaves.

    A pattern is a module's path, a glob, or a regular expression after ``re:``. Prefixes of the
    wrapping class differ between hub and library and are not compared.
    """
    bare = _bare(name)
    for pattern in patterns:
        if pattern.startswith("re:"):
            if re.match(pattern[3:], name) or re.match(pattern[3:], bare):
                return True
            continue
        module = _bare(pattern)
        if f".{module}." in f".{bare}." or any(
            fnmatch.fnmatchcase(bare, glob) for glob in (module, module + ".*") if "*" in module
        ):
            return True
    return False


def _bare(name: str) -> str:
    return re.sub(r"^(model\.|language_model\.|text_model\.)+", "", name)
