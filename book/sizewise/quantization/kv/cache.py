"""A cache for `transformers` that holds keys and values as packed bytes, and nothing else::

    cache = TurboQuantCache(model.config, bits=4)
    model.generate(**inputs, past_key_values=cache)

What attention gets is decoded from the bytes, from the first token on: also the keys and values of
a prompt are those that later tokens will see. (`transformers`' own QuantizedCache gives the
prompt's back unquantized, so that a perplexity measured in one pass cannot tell it from the full
cache.) Decoding the whole cache for each token is slow: `quantization.kernels` attend to the bytes
themselves.

Held are the buffers, which grow by an eighth at a time, and the newest ``residual`` tokens.
Rotation and codebook are shared by all layers and small. While a layer runs, its decoded keys and
values exist beside them.
"""

from transformers.cache_utils import Cache, DynamicCache

from sizewise.units import unknown
from sizewise.validation import whole

from . import rope
from .layers import PackedLayer
from .store import Store, codec

CENTERS = (None, "mean", "rope")


class TurboQuantCache(Cache):
    """Packed keys and values for every layer of a model's configuration.

    ``keys`` and ``values`` are a method, or (method, bits), of `store.methods`; by default
    "turboquant" at ``bits``. "turboquant", "prod" and EDEN's variants take 1, 2, 3, 4 or 8 bits
    (sketches up to 4), "kivi" and "uniform" the same; "int8" and "fp8" are 8, "plain" keeps the
    numbers. The first ``sink`` and the newest ``residual`` tokens stay as they are, in the model's
    type or in ``plain`` ("bf16", "fp16"). ``center`` takes what keys have in common out of them
    before they are encoded: "mean" the mean key of a head, "rope" the same after undoing the
    rotary embedding. ``rotation`` and ``seed`` are `TurboQuant`'s.

    Raises ValueError for unknown methods, impossible bits, and models whose layers keep something
    other than a key and a value a token: latent, state-space or indexed attention, by name.
    """

    def __init__(
        self,
        config,
        bits: int = 4,
        keys=None,
        values=None,
        residual: int = 0,
        *,
        sink: int = 0,
        plain: str | None = None,
        center: str | None = None,
        rotation: str = "haar",
        seed: int = 0,
    ):
        import torch

        kinds = {None: None, "bf16": torch.bfloat16, "fp16": torch.float16}
        if plain not in kinds:
            raise unknown("type of plain tokens", plain, [kind for kind in kinds if kind])
        if center not in CENTERS:
            raise unknown("way to center keys", center, CENTERS[1:])
        whole("the residual window", residual, least=0), whole("the sink", sink, least=0)
        sides = {"keys": keys, "values": values}
        self.methods = {}
        for side, choice in sides.items():
            pair = choice if isinstance(choice, tuple | list) else (choice or "turboquant", bits)
            self.methods[side] = pair[0], 8 if pair[0] in ("int8", "fp8") else pair[1]
            codec(*self.methods[side], 64, side, rotation, seed)  # bad options are refused here

        def maker(number: int):
            rotary = rope.of_layer(config, number) if center == "rope" else None
            centered = {"keys": (center is not None, rotary), "values": (False, None)}

            def make(side: str, dim: int) -> Store:
                coder = codec(*self.methods[side], dim, side, rotation, seed)
                return Store(coder, residual, sink, kinds[plain], *centered[side])

            return make

        layers = []
        for number, layer in enumerate(_plain_layers(config)):
            kind = type(layer).__name__
            if kind in ("DynamicLayer", "DynamicSlidingWindowLayer"):
                window = getattr(layer, "sliding_window", None)
                layers.append(PackedLayer(maker(number), window))
            elif kind == "DummyLayer":  # shares another layer's cache
                layers.append(layer)
            else:
                raise ValueError(
                    f"layer {number} is a {kind}: only keys and values of full or windowed "
                    "attention can be packed"
                )
        super().__init__(layers=layers)

    def trim(self) -> "TurboQuantCache":
        """Give back what the buffers hold in reserve; the next token allocates again."""
        for layer in self._packed():
            layer.trim()
        return self

    @property
    def nbytes(self) -> int:
        """Bytes of what is stored, without the buffers' reserve: `held_bytes` after `trim`."""
        return sum(layer.nbytes for layer in self._packed())

    def _packed(self):
        return [layer for layer in self.layers if isinstance(layer, PackedLayer)]


def held_bytes(cache) -> int:
    """Bytes of memory behind a cache's tensors, reserve included, each storage counted once.

    Takes `TurboQuantCache` and `transformers`' DynamicCache and StaticCache.
    """
    observed = {}
    for layer in cache.layers:
        if isinstance(layer, PackedLayer):
            tensors = layer.tensors()
        else:
            tensors = [getattr(layer, name, None) for name in ("keys", "values")]
        for tensor in tensors:
            if tensor is not None:
                storage = tensor.untyped_storage()
                observed[storage.data_ptr()] = storage.nbytes()
    return sum(observed.values())


def _plain_layers(config) -> list:
    """What `transformers` itself would keep for each layer."""
    text_config = config.get_text_config(decoder=True)
    if getattr(text_config, "kv_lora_rank", None):
        raise ValueError(
            f"{text_config.model_type} keeps a latent vector and a rotary key, not keys and values"
        )
    try:
        layers = DynamicCache(config=config).layers
    except KeyError as error:  # a kind of layer that registers a cache of its own
        raise ValueError(f"{text_config.model_type} has layers of kind {error}") from None
    if not layers:
        raise ValueError(f"{text_config.model_type} states no layers")
    return layers
