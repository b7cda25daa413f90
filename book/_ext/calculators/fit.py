"""Will it fit, and how fast will it be? `memory.total_memory`, `roofline.decode`, `forecast`."""

from dataclasses import dataclass
from types import SimpleNamespace

from sizewise.costs import memory, roofline
from sizewise.costs.formats import Format
from sizewise.costs.training import Range
from sizewise.data import catalog
from sizewise.models import parameters
from sizewise.models.architecture import Grouped, Layer, Model, Scores, Span, StateSpace

from . import speed, tables
from .parts import COUNT, OWN, SHARE, Answer, Calculator, Curve, Field, Limit, Result, Step

MODEL, DEVICE, CACHE, WEIGHTS, BATCH = "model", "device", "kv", "weights", "batch"


def model_of(s, *layers: Layer) -> Model:
    """The model whose sizes are traced values; only these layers."""
    return Model(
        "the model",
        s.parameters,
        s.active,
        layers,
        s.hidden,
        s.vocab,
        lookup=s.lookup,
        experts=s.experts,
        experts_per_token=s.used,
        mlp_width=s.mlp_width,
        vision=s.vision,
    )


def bare_parts(s) -> roofline.Read:
    """Bytes of weights by how a step reads them, from the counts alone."""
    head = s.vocab * s.hidden
    counts = (s.parameters, head, s.lookup, s.routed, s.vision)
    return roofline.bare_parts(*counts, s.weight_bits, s.kept_bits)


def read_of(s):
    """Bytes of weights that a step reads."""
    parts = roofline.Read(s.always_bytes, s.table_bytes, s.routed_bytes, 0)
    return roofline.read_bytes(parts, s.batch, s.vocab, s.experts, s.used)


WEIGHTS_STORED = (  # of a model of the catalogue the library has counted them, tensor by tensor
    Step(
        "always_bytes",
        "Y_a",
        "bytes of weights that every step reads",
        lambda s: bare_parts(s).always,
        given=True,
    ),
    Step(
        "table_bytes",
        "Y_e",
        "bytes of tables of which a token reads a row",
        lambda s: bare_parts(s).tables,
        given=True,
    ),
    Step(
        "routed_bytes", "Y_r", "bytes of routed experts", lambda s: bare_parts(s).routed, given=True
    ),
    Step(
        "vision_bytes",
        "Y_v",
        "bytes of towers for images, which no token of text reads",
        lambda s: bare_parts(s).vision,
        given=True,
    ),
)
COUNTS = {
    "lookup": (
        "N_l",
        "parameters of which a token reads a row: the input embedding, unless it is the head too",
    ),
    "vision": ("N_v", "parameters of towers for images and sound"),
    "routed": ("N_r", "parameters of routed experts"),
    "kept_bits": (r"\beta_h", "bits of a weight that the format's quantizers leave alone"),
    "keeps": ("K", "1 if they leave embeddings and head in 16 bits, else 0"),
}
STORED = (tables.stored, ("model", "weights"), tables.BYTES)


def device_of(s):
    return SimpleNamespace(
        name="the device",
        memory_bytes=s.memory,
        bandwidth=s.bandwidth,
        flops={"bf16": s.peak},
        tdp_watts=s.watts,
    )


def weight_format(s) -> Format:
    return Format("the format", s.weight_bits)


def cache_format(s) -> Format:
    return Format("the format", s.kv_bits, s.kv_row)


def step_of(s, *layers: Layer) -> roofline.Floor:
    """One step of decoding."""
    return roofline.decode(
        model_of(s, *layers),
        device_of(s),
        s.context,
        s.batch,
        weights=weight_format(s),
        kv=cache_format(s),
        devices=s.devices,
    )


def span_of(s) -> tuple[Span, ...]:
    return (Span(s.vectors, s.width, s.limit, s.stride),)


def state_of(s) -> Layer:
    return Layer(state=StateSpace("a state", (s.conv,), (s.recurrent,)))


@dataclass(frozen=True)
class Part:
    """Attention of which only one span, or one set of scores, is looked at."""

    spans: tuple[Span, ...] = ()
    work: tuple[Scores, ...] = ()

    def read(self, absorbed: bool = True) -> tuple[Span, ...]:
        return self.spans

    def scores(self, absorbed: bool = True) -> tuple[Scores, ...]:
        return self.work


def reads(s) -> Layer:
    """A layer that reads one span."""
    return Layer(Part(spans=span_of(s)))


def attends(s) -> Layer:
    """A layer with one set of scores."""
    return Layer(Part(work=(Scores(s.operations, s.limit, s.stride),)))


def memory_total(s) -> memory.Total:
    return memory.Total(
        "the model",
        "",
        "",
        s.context,
        s.batch,
        s.weights_bytes,
        s.kv_bytes,
        s.activation_bytes,
        None,
        None,
        None,
        None,
        (),
    )


def floor_of(s) -> roofline.Floor:
    """A step whose two phases are known."""
    phases = (SimpleNamespace(seconds=s.weight_seconds), SimpleNamespace(seconds=s.cache_seconds))
    return roofline.Floor(
        "decode",
        "the model",
        "the device",
        s.devices,
        s.context,
        s.batch,
        s.batch,
        *phases,
        None,
        None,
        (),
    )


def weight_phase(s) -> roofline.Phase:
    return roofline.phase(s.weight_read, s.weight_work, device_of(s), "bf16", s.devices)


def cache_phase(s) -> roofline.Phase:
    return roofline.phase(s.cache_read, s.cache_work, device_of(s), "bf16", s.devices)


def answered(case: dict, scope: dict) -> dict:
    """The forecast for a case: of a catalogue's model and device, or of the reader's own."""
    model, device = case[MODEL], case[DEVICE]
    price = scope.get("price_low") and (scope["price_low"], scope["price_high"])
    weights, kv = case[WEIGHTS], case[CACHE]
    return speed.answer(
        own_model(scope) if model == OWN else parameters.describe(model),
        own_device(scope) if device == OWN else catalog.device(device),
        Format("own", scope["weight_bits"]) if weights == OWN else weights,
        Format("own", scope["kv_bits"], scope["kv_row"]) if kv == OWN else kv,
        scope,
        price,
    )


def own_model(scope: dict) -> Model:
    """The model of the reader's own sizes."""
    s = SimpleNamespace(**scope)
    shape = (s.query_heads, s.kv_heads, s.head_dim, s.head_dim)
    layers = [Layer(Grouped(*shape))] * s.full_layers
    layers += [Layer(Grouped(*shape, s.window))] * s.windowed_layers
    sparse = s.experts > 1
    return Model(
        "own",
        s.parameters,
        s.active,
        tuple(layers),
        s.hidden,
        s.vocab,
        lookup=s.lookup,
        mlp_width=s.mlp_width,
        experts=s.experts if sparse else None,
        experts_per_token=s.used if sparse else None,
    )


def own_device(scope: dict):
    """The reader's own device. Its link and its chip are not known."""
    return SimpleNamespace(
        name="own",
        memory_bytes=scope["memory"],
        bandwidth=scope["bandwidth"],
        flops={"bf16": scope["peak"]},
        tdp_watts=scope["watts"],
        sms=None,
        link_bandwidth=None,
    )


def dollars(s, price) -> Range:
    return Range.cast(price) * roofline.hours_per_million(s.devices, s.seconds, s.batch)


FORMATS = (
    Field(WEIGHTS, "Weights in", "choice", "bf16", table="weight_formats", own="my own bits"),
    Field(
        "weight_bits",
        "Size of a weight",
        "number",
        "4.5",
        r"\beta_w",
        "bits",
        when=WEIGHTS,
        least=0.1,
        most=64,
        help="With everything stored beside the weights, such as scales.",
    ),
    Field(CACHE, "Cache in", "choice", "bf16", table="cache_formats", own="my own bits"),
    Field(
        "kv_bits",
        "Size of a cache value",
        "number",
        "4.25",
        r"\beta_k",
        "bits",
        when=CACHE,
        least=0.1,
        most=64,
    ),
    Field(
        "kv_row",
        "Beside each cache vector",
        "number",
        "0",
        r"\rho_k",
        "bits",
        when=CACHE,
        least=0,
        most=1024,
        help="Such as a scale for one head's key of one token.",
    ),
)
USE = (
    Field(
        "context",
        "Context",
        "whole",
        "8192",
        "n",
        "tokens",
        help="Tokens in each sequence; k is 1,000, Ki is 1,024.",
    ),
    Field(BATCH, "Concurrent requests", "whole", "1", "b", COUNT),
    Field(
        "input",
        "Prompt of each",
        "whole",
        "",
        unit="tokens",
        optional=True,
        help="Empty: the context minus half of the answer.",
    ),
    Field(
        "output",
        "Answer to each",
        "whole",
        "",
        unit="tokens",
        optional=True,
        help="Empty: 512, or half of a shorter context.",
    ),
)
OWN_MODEL = (
    Field("parameters", "Parameters", "whole", "70B", "N", COUNT, when=MODEL, most=1e18),
    Field(
        "active",
        "Active parameters",
        "whole",
        "70B",
        "N_a",
        COUNT,
        when=MODEL,
        most="parameters",
        help="Those that one token uses; without experts, all.",
    ),
    Field(
        "experts",
        "Experts a layer",
        "whole",
        "1",
        "E",
        COUNT,
        when=MODEL,
        most=1e6,
        help="1: no experts.",
    ),
    Field("used", "Experts a token", "whole", "1", "k", COUNT, when=MODEL, most="experts"),
    Field(
        "full_layers",
        "Layers with full attention",
        "whole",
        "80",
        r"\ell_f",
        COUNT,
        when=MODEL,
        least=0,
        most=1e6,
    ),
    Field(
        "windowed_layers",
        "Layers with a window",
        "whole",
        "0",
        r"\ell_w",
        COUNT,
        when=MODEL,
        least=0,
        most=1e6,
    ),
    Field("window", "Window", "whole", "4096", "w", "tokens", when=MODEL),
    Field("query_heads", "Query heads", "whole", "64", "h", COUNT, when=MODEL, most=1e6),
    Field("kv_heads", "Key-value heads", "whole", "8", "g", COUNT, when=MODEL, most="query_heads"),
    Field("head_dim", "Head size", "whole", "128", "d", "values", when=MODEL, most=1e6),
    Field("hidden", "Hidden size", "whole", "8192", "m", "values", when=MODEL, most=1e9),
    Field(
        "mlp_width",
        "Inner size of the MLP",
        "whole",
        "28672",
        "f",
        "values",
        when=MODEL,
        most=1e9,
        help="Of all experts that a token uses, together.",
    ),
    Field("vocab", "Vocabulary", "whole", "128256", "V", "tokens", when=MODEL, most=1e9),
    Field(
        "embeddings",
        "Embedding tables",
        "whole",
        "2",
        r"\epsilon",
        COUNT,
        when=MODEL,
        most=2,
        help="1: the input's is the output head too.",
    ),
)
DEVICE_FIELDS = (
    Field(DEVICE, "Device", "choice", "H100", table="devices", own="my own device"),
    Field("memory", "Memory of a device", "number", "80G", "M", "bytes", when=DEVICE, most=1e18),
    Field("bandwidth", "Its bandwidth", "number", "3.35T", "B", "bytes/s", when=DEVICE, most=1e18),
    Field(
        "peak",
        "Its peak in bf16",
        "number",
        "989T",
        "P",
        "FLOPs/s",
        when=DEVICE,
        most=1e21,
        help="Dense: half of a figure given with sparsity.",
    ),
    Field("watts", "Its power", "number", "700", "W", "watts", when=DEVICE, most=1e9),
    Field(
        "gpus",
        "Devices",
        "whole",
        "",
        unit=COUNT,
        most=1e6,
        optional=True,
        sets=("devices", "asked"),
        help="Empty: as few as hold it.",
    ),
    Field(
        "usable",
        "Memory of a device free for it",
        "share",
        "",
        "u",
        SHARE,
        least=0.01,
        most=1,
        optional=True,
        sets=("usable",),
        help="Empty: 90 %, or 75 % of unified memory.",
    ),
    Field(
        "price",
        "Price of a device",
        "range",
        "",
        unit="dollars an hour",
        least=0.0001,
        most=1e6,
        optional=True,
        sets=("price_low", "price_high"),
        help="A range as 2:3. Empty: the published one, where the catalogue cites it.",
    ),
)

NOTHING, NONE = "not even one token", "none"
UNKNOWN = "no forecast: not one request fits, or no peak is stated"
NO_PRICE, NO_POWER = "no published price: give one", "no power stated for this device"


def verdict(s):
    """Which of the answer's sentences holds."""
    return s.fits if s.asked <= 1 else s.fits + 2


def parts(
    kind: str, over: dict[str, str], letters: str, meanings: tuple[str, str], amount
) -> tuple:
    """What a step does with one layer's cache and with its state, and the sum over layers.

    ``amount`` takes a floor's attention; ``letters`` are of span, state and sum.
    """
    layers = {"span": reads if kind == "read" else attends, "state": state_of}
    span, state, total = letters.split()
    return (
        *(
            Step(
                f"{part}_{kind}",
                letter,
                meaning,
                lambda s, layer=layers[part]: amount(step_of(s, layer(s)).attention),
                over=over[part],
                total=True,
            )
            for part, letter, meaning in zip(over, (span, state), meanings, strict=True)
        ),
        Step(
            f"cache_{kind}",
            total,
            f"{'bytes of cache read' if kind == 'read' else 'FLOPs on the cache'} in a step",
            lambda s: getattr(s, f"span_{kind}") + getattr(s, f"state_{kind}"),
            over="layers",
            total=True,
        ),
    )


CALCULATOR = Calculator(
    id="fit",
    title="Will it fit, and how fast will it be?",
    fields=(
        Field(MODEL, "Model", "choice", "llama-3.1-70b", table="models", own="my own sizes"),
        *OWN_MODEL,
        *FORMATS,
        *USE,
        *DEVICE_FIELDS,
    ),
    steps=(
        Step(
            "kept",
            "N_h",
            "parameters of embeddings and head that stay in 16 bits",
            lambda s: s.keeps * (s.lookup + s.vocab * s.hidden),
        ),
        Step(
            "weights_bytes",
            "Y_w",
            "bytes of weights",
            lambda s: memory.weights_bytes(s.parameters, weight_format(s), kept=s.kept),
            given=True,
        ),
        *WEIGHTS_STORED,
        Step(
            "held_bits",
            r"\eta",
            "bits that one layer's cache holds for one sequence",
            lambda s: memory.spans_bits(span_of(s), s.context, cache_format(s)),
            over="layers.held",
            total=True,
        ),
        Step(
            "state_bits",
            r"\sigma",
            "bits of one layer's recurrent state",
            lambda s: memory.state_bits(state_of(s), cache_format(s)),
            over="layers.states",
            total=True,
        ),
        Step(
            "kv_bytes",
            "Y_k",
            "bytes of cache",
            lambda s: memory.layer_bytes(s.batch, s.held_bits + s.state_bits),
            over="layers",
            total=True,
        ),
        Step(
            "activation_bytes",
            "Y_a",
            "bytes of activations while prompts are read",
            lambda s: memory.activation_bytes(model_of(s), s.context, s.batch),
        ),
        Step("total_bytes", "Y", "bytes in all", lambda s: memory_total(s).total_bytes),
        Step(
            "needed",
            "D_0",
            "devices that hold them",
            lambda s: memory.least_devices(s.total_bytes, s.memory, s.usable),
        ),
        Step(
            "devices",
            "D",
            "devices used: those, unless their number is given",
            lambda s: s.needed,
            given=True,
        ),
        Step("asked", "D_1", "devices on which it has to fit", lambda s: 1, given=True),
        Step(
            "fits",
            "F",
            "1 if they hold it, else 0",
            lambda s: int(memory.fits(s.total_bytes, s.memory * s.asked, s.usable)),
        ),
        Step("verdict", "A", "1 or 0 for one device, 3 or 2 for several", verdict, shown=False),
        Step(
            "weight_read",
            "R_w",
            "bytes of weights read in a step",
            read_of,
        ),
        Step(
            "weight_work",
            "O_w",
            "FLOPs on weights in a step",
            lambda s: step_of(s).weights.operations,
        ),
        *parts(
            "read",
            {"span": "layers.read", "state": "layers.states"},
            r"\gamma \tau R_k",
            (
                "bytes that a step reads of one layer's cache",
                "bytes that a step reads and writes of one layer's state",
            ),
            lambda phase: phase.bytes,
        ),
        *parts(
            "work",
            {"span": "layers.scores", "state": "layers.states"},
            r"\phi \psi O_k",
            (
                "FLOPs that one layer spends on its cache",
                "FLOPs that one layer spends on its state",
            ),
            lambda phase: phase.operations,
        ),
        *(
            Step(
                f"{part}_seconds",
                f"t_{letter}",
                f"seconds of a step for the {what}",
                lambda s, phase=phase: phase(s).seconds,
            )
            for part, letter, what, phase in (
                ("weight", "w", "weights", weight_phase),
                ("cache", "k", "cache", cache_phase),
            )
        ),
        Step("seconds", "t", "seconds of a step", lambda s: floor_of(s).seconds),
        Step(
            "tokens_per_second",
            "v",
            "tokens a second, of all sequences together",
            lambda s: floor_of(s).tokens_per_second,
        ),
        Step(
            "joules",
            "J",
            "joules for a million tokens",
            lambda s: roofline.joules_per_million(s.watts, s.devices, s.seconds, s.batch),
        ),
        *(
            Step(
                f"dollars_{end}",
                rf"\$_{end[0]}",
                f"dollars for a million tokens at the {end} price",
                lambda s, end=end: getattr(dollars(s, getattr(s, f"price_{end}")), end),
            )
            for end in ("low", "high")
        ),
    ),
    results=(
        Result("Weights", ("weights_bytes",), "B"),
        Result("Cache", ("kv_bytes",), "B"),
        Result("Activations, an estimate", ("activation_bytes",), "B"),
        Result("Memory in all", ("total_bytes",), "B", main=True),
        Result("Devices needed", ("needed",), "count", main=True),
        Result("Largest context on the devices", ("largest_context",), "count", missing=NOTHING),
        Result("Most requests on the devices", ("most_requests",), "count", missing=NOTHING),
        Result(
            "Expected time for a token of one request",
            ("forecast_seconds",),
            "s",
            main=True,
            missing=UNKNOWN,
        ),
        Result(
            "Four in five such servers", ("forecast_low", "forecast_high"), "s", missing=UNKNOWN
        ),
        Result(
            "Requests served in a step, the others queue",
            ("forecast_batch",),
            "count",
            missing=UNKNOWN,
        ),
        Result("Time to read one prompt, at best", ("prompt_seconds",), "s", missing=UNKNOWN),
        Result("Least time for a token", ("seconds",), "s"),
        Result("Least time for the weights", ("weight_seconds",), "s"),
        Result("Least time for the cache", ("cache_seconds",), "s"),
        Result("Tokens a second at most, all requests", ("tokens_per_second",), ""),
        Result(
            "Dollars for a million tokens, at least",
            ("dollars_low", "dollars_high"),
            "$",
            missing=NO_PRICE,
        ),
        Result(
            "Dollars for a million tokens, expected",
            ("forecast_dollars_low", "forecast_dollars_high"),
            "$",
            missing=NO_PRICE,
        ),
        Result(
            "Energy for a million tokens at full power and least time",
            ("joules",),
            "energy",
            missing=NO_POWER,
        ),
        Result(
            "Energy for a million tokens, expected (longer, but at less than full power)",
            ("forecast_joules",),
            "energy",
            missing=NO_POWER,
        ),
        Result("Devices", ("needed",), "count", each=DEVICE),
        Result("Least time a token", ("seconds",), "s", each=DEVICE),
        Result("Expected time a token", ("forecast_seconds",), "s", each=DEVICE, missing=NONE),
        Result(
            "Dollars a million tokens",
            ("forecast_dollars_low", "forecast_dollars_high"),
            "$",
            each=DEVICE,
            missing=NONE,
        ),
        Result(
            "Energy a million tokens", ("forecast_joules",), "energy", each=DEVICE, missing=NONE
        ),
        Result(
            "Expected dollars for a million tokens",
            ("forecast_dollars_low", "forecast_dollars_high"),
            "$",
            each=BATCH,
            missing=NO_PRICE,
        ),
        Result(
            "Least dollars for a million tokens",
            ("dollars_low", "dollars_high"),
            "$",
            each=BATCH,
            missing=NO_PRICE,
        ),
        Result("Expected time of a token", ("forecast_seconds",), "s", each=BATCH, missing=NONE),
        Result("Devices used", ("devices",), "count", each=BATCH),
    ),
    tables={
        "models": tables.models,
        "devices": tables.devices,
        "weight_formats": tables.weight_formats,
        "cache_formats": tables.cache_formats,
    },
    columns={
        **COUNTS,
        "vectors": ("v", "vectors that a span stores at each place"),
        "width": ("d", "values of a vector"),
        "limit": ("w", "places at most: the window"),
        "stride": ("r", "tokens for each place"),
        "operations": ("q", "FLOPs for each key"),
        "conv": ("c", "values of a convolution's input"),
        "recurrent": ("z", "values of a recurrent state"),
        "price_low": ("p_l", "dollars for a device and hour, low"),
        "price_high": ("p_h", "dollars for a device and hour, high"),
    },
    groups={
        "layers": r"\text{layers}",
        "layers.held": r"\text{held}",
        "layers.read": r"\text{read}",
        "layers.scores": r"\text{scores}",
        "layers.states": r"\text{states}",
    },
    command="sizewise memory llama-3.1-70b; sizewise roofline llama-3.1-70b",
    picture=("weights_bytes", "kv_bytes", "activation_bytes"),
    against=("memory", "devices"),
    answer=Answer(
        "verdict",
        {
            1: "Fits one {device}.",
            0: "Does not fit one {device}: needs {needed}.",
            3: "Fits {asked} of {device}.",
            2: "Does not fit {asked} of {device}: needs {needed}.",
        },
        own={DEVICE: "device of your own"},
    ),
    crossed=STORED,
    forecast=answered,
    limits=(
        Limit("largest_context", "context", 1 << 30, "longest"),
        Limit("most_requests", "batch", 1 << 20),
    ),
    beside=DEVICE,
    caption="The same case on each device of the catalogue, as few of them as hold it",
    reads=MODEL,
    note=speed.scored,
    curve=Curve(
        BATCH,
        points=(
            *("1", "2", "3", "4", "6", "8", "12", "16", "24", "32", "48", "64", "96", "128"),
            *("192", "256"),
        ),
        ticks=("1", "4", "16", "64", "256"),
        title="What a million tokens cost by requests served at once",
        drawn=2,
    ),
)
