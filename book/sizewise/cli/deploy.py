"""The commands that put a model on a device: does it fit, and how fast can it be at best."""

from typing import Annotated

import typer

from .forecast import Concurrency, Framework, Host, Input, Output

Model = Annotated[str, typer.Argument(metavar="MODEL", help="Name, path or hub id.")]
Device = Annotated[str, typer.Option(help="A device of the catalogue (sizewise devices).")]
Weights = Annotated[str, typer.Option(help="Format of the weights: bf16, fp8, int8, nf4, ...")]
Cache = Annotated[str, typer.Option("--kv", help="Format of the cache: bf16, fp8, int4, tq3, ...")]
Context = Annotated[int, typer.Option(help="Tokens in each sequence.")]
Batch = Annotated[int, typer.Option(help="Sequences at once.")]
Json = Annotated[bool, typer.Option("--json", help="Print the results as JSON.")]
IgnoreCode = Annotated[
    bool, typer.Option(help="Accept a configuration that names its own code, which is never run.")
]


def memory(
    model: Model,
    weights: Weights = "bf16",
    kv: Cache = "bf16",
    context: Context = 8192,
    batch: Batch = 1,
    device: Device = "H100",
    usable: Annotated[float, typer.Option(help="Share of a device's memory free for it.")] = 1.0,
    ignore_code: IgnoreCode = False,
    json: Json = False,
):
    """Will it fit? Bytes of weights, cache and activations, and the devices that hold them.

    Example: sizewise memory llama-3.1-70b --weights nf4 --kv fp8 --context 131072 --batch 16
    """
    from sizewise import validation
    from sizewise.costs import formats
    from sizewise.costs import memory as bytes_of
    from sizewise.data import catalog
    from sizewise.models import config, parameters

    from . import output, show_devices

    chosen = catalog.device(device)
    validation.whole("context", context), validation.whole("batch", batch)
    formats.weight_format(weights), formats.cache_format(kv)
    described = parameters.describe(config.load(model, ignore_code=ignore_code))
    total = bytes_of.total_memory(described, weights, kv, context, batch, chosen, usable=usable)
    if json:
        output.as_json(total.as_dict())
    else:
        show_devices.memory(total)


def roofline(
    model: Model,
    device: Device = "H100",
    devices: Annotated[
        int, typer.Option(help="Devices that share the work; 0: as many as hold it.")
    ] = 0,
    weights: Weights = "bf16",
    kv: Cache = "bf16",
    context: Context = 8192,
    batch: Batch = 1,
    compute: Annotated[str, typer.Option(help="Format in which products run.")] = "bf16",
    price: Annotated[
        str, typer.Option(help="Dollars for a device and hour: 2.5, or 2:3 for a range.")
    ] = "",
    ignore_code: IgnoreCode = False,
    json: Json = False,
    framework: Framework = "",
    concurrency: Concurrency = 0,
    input: Input = 0,
    output: Output = 0,
    host: Host = "none",
):
    """How fast can it be? The floor for prompts and new tokens, what bounds it, and a forecast.

    Every assumption of the floor is printed; the forecast has kernel efficiencies, launches and
    other requests' prompts in it, and comes with its measured error. Without --price, the
    catalogue's range for an H100 is used on an H100, and no money is reckoned elsewhere.

    Example: sizewise roofline deepseek-v3 --device H200 --weights fp8 --batch 64 --json
    """
    from sizewise import validation
    from sizewise.costs import memory as bytes_of
    from sizewise.costs import roofline as floor
    from sizewise.data import catalog
    from sizewise.models import config, parameters

    from . import forecast, show_devices
    from .output import as_json

    chosen = catalog.device(device)
    validation.whole("context", context), validation.whole("batch", batch)
    paid = _price(price) or catalog.hourly_price(chosen.name)
    described = parameters.describe(config.load(model, ignore_code=ignore_code))
    held = bytes_of.total_memory(described, weights, kv, context, batch, chosen)
    count = validation.whole("devices", devices) if devices else held.devices
    same = {"weights": weights, "kv": kv, "compute": compute, "devices": count, "price": paid}
    floors = [
        step(described, chosen, context, batch, **same) for step in (floor.prefill, floor.decode)
    ]
    expected = forecast.question(
        described,
        chosen,
        devices=count,
        weights=weights,
        kv=kv,
        context=context,
        batch=batch,
        framework=framework,
        concurrency=concurrency,
        input=input,
        output=output,
        host=host,
    )
    if json:
        as_json(show_devices.floors_as_dict(floors) | expected)
    else:
        show_devices.floors(floors)
        forecast.show(expected)


def _price(words: str):
    """``2.5`` or ``2:3`` as dollars. Raises ValueError for anything else."""
    if not words:
        return None
    try:
        ends = tuple(float(one) for one in words.split(":"))
    except ValueError:
        ends = ()
    if len(ends) not in (1, 2):
        raise ValueError(f"--price takes 2.5 or 2:3, not {words!r}")
    return (ends[0], ends[-1])
