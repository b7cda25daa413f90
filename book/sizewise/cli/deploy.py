"""The commands that put a model on devices: what it takes, what fits, how fast it is at best."""

from typing import Annotated, Any

import typer

from sizewise.units import optional, si

from .options import Json
from .output import as_json, lines, listing, print_table, table, warn

Model = Annotated[str, typer.Argument(metavar="MODEL", help="Name, file, folder or hub id.")]
Device = Annotated[
    str, typer.Option(help="A device (sizewise devices), or MEMORY:BANDWIDTH:PEAK, or all.")
]
Weights = Annotated[
    str, typer.Option(help="Format of the weights (sizewise formats); default: the checkpoint's.")
]
Cache = Annotated[str, typer.Option("--kv", help="Format of the KV cache: bf16, fp8, q8_0, ...")]
Context = Annotated[
    str,
    typer.Option(help="Tokens of each request: 8192, 32k, 128Ki, 1M; default: 8192 at most."),
]
Batch = Annotated[int, typer.Option(help="Concurrent requests.")]
Usable = Annotated[
    float | None,
    typer.Option(help="Share of a device's memory free for it; default 0.9, unified memory 0.75."),
]
Gpus = Annotated[int | None, typer.Option(help="Devices; without --tp all of a stage share it.")]
Estimate = Annotated[
    bool, typer.Option("--estimate", help="Estimate an architecture that has no class.")
]
Framework = Annotated[
    str, typer.Option(help="vllm, sglang or trtllm: numbers of its kernels on this GPU.")
]
Concurrency = Annotated[
    int, typer.Option(help="Requests in flight; 0: as many as the batch. More of them queue.")
]
Input = Annotated[int, typer.Option(help="Prompt tokens of a request; 0: so that context holds.")]
Output = Annotated[int, typer.Option(help="Answer tokens of a request; 0: 512 or half of context.")]
Host = Annotated[
    str, typer.Option(help="Time of the host in a step: none, or synchronous for such a server.")
]
DEFAULT_CONTEXT = 8192
SHOWN = 64  # devices with a line each
FITS = {True: "fits", False: "does not fit"}
OPTIMIZER, RANK = "adam-mixed", 16  # of --train


def memory(
    model: Model,
    weights: Weights = "",
    kv: Cache = "bf16",
    context: Context = "",
    batch: Batch = 1,
    device: Device = "H100",
    gpus: Gpus = None,
    tp: Annotated[int | None, typer.Option(help="Tensor parallel ranks.")] = None,
    pp: Annotated[int, typer.Option(help="Pipeline stages.")] = 1,
    ep: Annotated[int | None, typer.Option(help="Expert parallel ranks.")] = None,
    fit: Annotated[
        bool, typer.Option("--fit", help="What fits: context, requests, format, devices.")
    ] = False,
    train: Annotated[str, typer.Option(help="Train instead of serve: full, lora or qlora.")] = "",
    optimizer: Annotated[str, typer.Option(help="With --train full.")] = OPTIMIZER,
    rank: Annotated[int, typer.Option(help="Of LoRA's matrices.")] = RANK,
    checkpointing: Annotated[
        bool, typer.Option(help="Recompute activations in the backward pass.")
    ] = True,
    offload: Annotated[
        str,
        typer.Option(help="Keep what does not fit in host memory, over a link of so much: 50GB/s."),
    ] = "",
    usable: Usable = None,
    estimate: Estimate = False,
    json: Json = False,
):
    """Will it fit? Bytes of weights, KV cache and activations on each device, and what would fit.

    Examples: sizewise memory llama-3.1-70b --weights awq --kv fp8 --context 128k --batch 16;
    sizewise memory deepseek-v3 --device H200 --gpus 8 --context 128k --batch 16;
    sizewise memory qwen3-32b --device 4090 --fit; sizewise memory qwen3-8b --train qlora
    """
    from sizewise import units
    from sizewise.costs import deployment
    from sizewise.costs import memory as costs
    from sizewise.data import catalog

    every = device.lower() == "all"
    link = units.bandwidth(offload) if offload else None
    shares = [gpus, tp, None if pp == 1 else pp, ep, fit or None, link]
    training = {"optimizer": optimizer, "rank": rank, "checkpointing": checkpointing}
    if train and (every or weights or any(share is not None for share in shares)):
        raise ValueError(
            "--train is reckoned for one device, without --weights, --gpus, --tp, --pp, --ep, "
            "--fit or --offload"
        )
    if not train and (optimizer, rank, checkpointing) != (OPTIMIZER, RANK, True):
        raise ValueError("--optimizer, --rank and --no-checkpointing need --train")
    described, options, notes = _question(model, weights, kv, context, batch, estimate)
    options["usable"] = usable
    if every:
        warn(costs.warnings(described, options["context"]))
        _every_device(described, list(catalog.devices().values()), options, json)
        return
    hardware = catalog.device(device)
    if train:
        _training(described, train, training, options, hardware, notes, json)
        return
    warn(costs.warnings(described, options["context"]))
    total = costs.total_memory(described, device=hardware, **options)
    shared = deployment.layout(described, gpus, tensor=tp, pipeline=pp, expert=ep)
    loads = deployment.plan(described, hardware, shared, offload=link is not None, **options)
    result = total.as_dict() | _fewest(described, hardware, options)
    result |= {"layout": str(shared), "loads": [load.as_dict() for load in loads]}
    result["fits"] = deployment.fits(loads)
    if link:
        seconds = deployment.offload_seconds(loads, link, described, batch)
        result["offload_ms_a_token"] = 1e3 * seconds
    if fit:
        result["fit"] = _fit(described, hardware, shared, options)
    if hardware.memory_real_bytes:
        notes.append(
            f"memory is the vendor's {si(hardware.memory_bytes, 'B')}; the driver shows "
            f"{si(hardware.memory_real_bytes, 'B')}"
        )
    # The plan says what each device holds.
    result["assumptions"] = [n for n in [*total.assumptions, *notes] if n != costs.EVENLY]
    result["listed_price"] = _listed_price(described.name)
    if json:
        as_json(result)
        return
    _print_memory(total, result, hardware, shared.devices)


def _question(model: str, weights: str, kv: str, context: str, batch: int, estimate: bool):
    """The model described, checked options of every cost, and what was assumed to make them."""
    from sizewise import units
    from sizewise.costs import deployment, formats
    from sizewise.models import config, parameters
    from sizewise.validation import whole

    tokens = whole("context", units.tokens(context), deployment.MOST_CONTEXT) if context else None
    whole("batch", batch, deployment.MOST_REQUESTS)
    format = formats.weight_format(weights).name if weights else None
    formats.cache_format(kv)
    described = parameters.describe(config.load(model, estimate=estimate))
    notes = []
    if tokens is None:
        tokens = min(DEFAULT_CONTEXT, described.max_context or DEFAULT_CONTEXT)
        notes.append(f"a context of {tokens:,} tokens, since none is stated")
    elif context != str(tokens):
        notes.append(f"{context} read as {tokens:,} tokens")
    return described, {"weights": format, "kv": kv, "context": tokens, "batch": batch}, notes


def _fewest(model, device, options: dict) -> dict[str, Any]:
    from sizewise.costs import deployment

    fewest = deployment.fewest_devices(model, device, **options)
    number, shared = fewest or (None, None)
    return {"devices": number, "devices_layout": shared and str(shared)}


def _fit(model, device, shared, options: dict) -> dict[str, Any]:
    from sizewise.costs import deployment

    context = deployment.largest("context", model, device, shared, **options)
    longest = model.max_context
    return {
        "largest_context": min(context, longest) if context and longest else context,
        "limited_by": "the model" if context and longest and context > longest else "memory",
        "most_requests": deployment.largest("batch", model, device, shared, **options),
        "best_format": deployment.best_format(model, device, shared, **options),
    }


def _every_device(model, devices: list, options: dict, json: bool) -> None:
    from sizewise.costs import deployment

    rows, alone = [], deployment.layout(model, 1)
    for device in devices:
        (load,) = deployment.plan(model, device, alone, **options)
        row = {"device": device.name, "memory_bytes": device.memory_bytes}
        row |= {"total_bytes": load.total_bytes, "fits": load.fits}
        row |= _fewest(model, device, options)
        best = deployment.best_format(model, device, alone, **options)
        rows.append(row | {"best_format_on_one": best})
    title = f"{model.name}: {options['context']:,} tokens x {options['batch']:,}"
    listing(
        rows,
        json,
        {
            "device": lambda row: row["device"],
            "memory>": lambda row: si(row["memory_bytes"], "B"),
            "needed>": lambda row: si(row["total_bytes"], "B"),
            "on one": lambda row: FITS[row["fits"]],
            "devices>": lambda row: optional(row["devices"], absent="over 1,024"),
            "best format on one": lambda row: row["best_format_on_one"] or "none",
        },
        title,
    )


def _print_memory(total, result: dict, device, devices: int) -> None:
    """Where the bytes go, what each device holds, and everything that was assumed."""
    rows = table(f"{total.model}: {total.context:,} tokens x {total.batch:,}", "", ">", ">", ">")

    def add(name: str, value: int) -> None:
        share = f"{100 * value / total.total_bytes:.1f} %"
        rows.add_row(name, f"{value:,} B", si(value, "B"), share)

    add(f"weights ({total.weights})", total.weights_bytes)
    if len(total.parts) > 1:
        for part in total.parts:
            add(f"  {part.what}{f' in {part.format}' if part.format else ''}", part.bytes)
    add(f"KV cache ({total.kv})", total.kv_bytes)
    if total.state_bytes:
        add("  of it states, whatever the context", total.state_bytes)
    add("activations (estimate)", total.activation_bytes)
    add("total", total.total_bytes)
    if total.mtp_bytes:
        beside = f"{total.mtp_bytes:,} B", si(total.mtp_bytes, "B")
        rows.add_row("beside it: multi-token prediction", *beside, "not loaded")
    print_table(rows)
    loads = result["loads"]
    if devices > 1:
        _print_loads(loads, device.name, result["layout"])
    size, room = si(device.memory_bytes, "B"), si(device.memory_bytes * total.usable, "B")
    on = f"on {devices:,} x {device.name}" if devices > 1 else f"in one {device.name}"
    print(f"{FITS[bool(result['fits'])]} {on} ({size}, {room} of them free for it)")
    if not result["fits"] and result["devices"]:
        print(f"needs {result['devices']:,} of them ({result['devices_layout']})")
    if "offload_ms_a_token" in result:
        host = si(sum(load["host_bytes"] * load["devices"] for load in loads), "B")
        floor = result["offload_ms_a_token"]
        print(f"{host} of weights stay in host memory: at best {floor:,.3g} ms a token more")
    if fit := result.get("fit"):
        context, requests = (
            optional(fit[name], absent="none fits") for name in ("largest_context", "most_requests")
        )
        limit = f" (the limit of {fit['limited_by']})" if fit["largest_context"] else ""
        plural = "" if total.batch == 1 else "s"
        print(f"largest context for {total.batch:,} request{plural}: {context}{limit}")
        print(f"most concurrent requests at {total.context:,} tokens: {requests}")
        print(f"best format that fits: {fit['best_format'] or 'none'}")
    lines("assumed", result["assumptions"])
    if result["listed_price"]:
        print("  " + result["listed_price"])


def _print_loads(loads: list[dict], device: str, shared: str) -> None:
    names = ("weights_bytes", "kv_bytes", "activation_bytes", "total_bytes", "room_bytes")
    sizes = ("weights>", "KV cache>", "activations>", "total>", "free for it>")
    rows = table(f"each device ({shared})", "device", *sizes, "")
    every = [load for load in loads for _ in range(load["devices"])]
    for number, load in enumerate(every[:SHOWN]):
        cells = (si(load[name], "B") for name in names)
        rows.add_row(f"{device} {number}", *cells, FITS[load["fits"]])
    print_table(rows)
    if len(every) > SHOWN:
        print(f"... and {len(every) - SHOWN:,} more like them")


def _listed_price(name: str) -> str | None:
    """The API's list price of the model, where the pinned list has it."""
    from datetime import UTC, datetime

    from sizewise.data import catalog, prices

    entry = catalog.models().get(name)
    if entry is None or entry.price_list is None:
        return None
    price = prices.price(*entry.price_list, datetime.now(UTC).date())
    dollars = f"${price.input:g} a million input tokens, ${price.output:g} output"
    return f"listed by {entry.price_list[0]}: {dollars} ({price.source})"


def _training(model, method: str, training: dict, options: dict, device, notes, json: bool):
    from sizewise.costs import memory as costs
    from sizewise.costs.training import fine_tuning

    tokens, batch = options["context"], options["batch"]
    result = fine_tuning(model, method, sequence=tokens, batch=batch, **training)
    share = costs.share_of(device, options["usable"])
    room = int(device.memory_bytes * share)
    plain = result.as_dict() | {"device": device.name, "room_bytes": room}
    plain["fits"] = result.total <= room
    notes = [*result.assumptions, *notes, f"{share:.0%} of the device's memory is free for it"]
    plain["assumptions"], plain["warnings"] = notes, costs.warnings(model, tokens)
    warn(plain["warnings"])
    if json:
        as_json(plain)
        return
    rows = table(f"{model.name}, {method}: {tokens:,} tokens x {batch:,}", "", ">", ">")
    for name in ("weights", "adapters", "gradients", "optimizer", "activations", "total"):
        value = getattr(result, name)
        rows.add_row(name, f"{value:,} B", si(value, "B"))
    print_table(rows)
    size = si(device.memory_bytes, "B")
    print(f"{FITS[plain['fits']]} in one {device.name} ({size}, {si(room, 'B')} free for it)")
    lines("assumed", notes)


def roofline(
    model: Model,
    device: Annotated[
        str, typer.Option(help="A device (sizewise devices), or MEMORY:BANDWIDTH:PEAK.")
    ] = "H100",
    devices: Annotated[
        int, typer.Option(help="Devices that share the work; 0: as many as hold it.")
    ] = 0,
    weights: Weights = "",
    kv: Cache = "bf16",
    context: Context = "",
    batch: Batch = 1,
    compute: Annotated[str, typer.Option(help="Format in which products run; default: bf16.")] = "",
    price: Annotated[
        str, typer.Option(help="Dollars for a device and hour: 2.5, or 2:3 for a range.")
    ] = "",
    usable: Usable = None,
    estimate: Estimate = False,
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

    Example: sizewise roofline deepseek-v3 --device H200 --batch 64 --json
    """
    from sizewise import validation
    from sizewise.costs import deployment, forecast, training
    from sizewise.costs import memory as costs
    from sizewise.costs import roofline as floor
    from sizewise.costs import weights as weight_parts
    from sizewise.data import catalog

    hardware = catalog.device(device)
    paid = _price(price) or catalog.hourly_price(hardware.name)
    peak = training.peak_operations(hardware, compute or "bf16")
    if compute and peak is None:
        stated = ", ".join(name for name, rate in hardware.flops.items() if rate) or "none"
        raise ValueError(f"{hardware.name} states no {compute} arithmetic; it states: {stated}")
    validation.whole("devices", devices, deployment.MOST_DEVICES, 0)
    described, options, notes = _question(model, weights, kv, context, batch, estimate)
    tokens, format = options["context"], options["weights"]
    if described.kind == "encoder":
        raise ValueError(f"{model}: an encoder writes no tokens, so it has no decode floor")
    total = costs.total_memory(described, device=hardware, usable=usable, **options)
    fewest = _fewest(described, hardware, options | {"usable": usable})["devices"]
    count = devices or fewest or total.devices
    warning = None
    if fewest is None or count < fewest:
        needed = f"{fewest:,} hold it" if fewest else "not even 1,024 hold it"
        warning = f"does not fit on {count:,} x {hardware.name}: {needed}"
    same = {"weights": format, "kv": kv, "devices": count, "price": paid}
    same["compute"] = compute or "bf16"
    steps = (floor.prefill, floor.decode) if peak else (floor.decode,)
    floors = [step(described, hardware, tokens, batch, **same) for step in steps]
    plain = _floors_as_dict(floors) | {"fits": warning is None, "warning": warning}
    plain["warnings"] = [*total.warnings, *filter(None, [warning])]
    plain["prefill_unknown"] = None if peak else f"{hardware.name} states no peak for prompts"
    plain["listed_price"] = _listed_price(described.name)
    plain["model_assumptions"] = [*costs.assumed(described, format, total.usable), *notes]
    warn(total.warnings)
    expected = forecast.question(
        described,
        hardware,
        context=tokens,
        framework=framework,
        input=input,
        output=output,
        devices=count,
        kv=kv,
        batch=batch,
        weights=weight_parts.scheme(described, format).format.name,
        concurrency=validation.whole("concurrency", concurrency, least=0) or None,
        host=host,
    )
    if json:
        as_json(plain | expected)
        return
    _print_floors(floors, plain)
    _print_forecast(expected)


def _floors_as_dict(floors: list) -> dict:
    """Prefill and decode with their figures in the units people use."""
    plain = {
        name: getattr(floors[-1], name)
        for name in ("model", "device", "devices", "context", "batch")
    }
    for floor in floors:
        money = floor.dollars_per_million_tokens
        requests = floor.batch if floor.step == "decode" else 1
        same = ("tokens_per_second", "bound", "bytes", "operations", "joules_per_million_tokens")
        plain[floor.step] = {
            "floor_ms_per_step": floor.seconds * 1e3,
            "floor_ms_per_token": floor.seconds * 1e3 * requests / floor.tokens,
            **{name: getattr(floor, name) for name in same},
            "dollars_per_million_tokens": [money.low, money.high] if money else None,
            "assumptions": list(floor.assumptions),
        }
    return plain


FIGURES = (
    ("floor_ms_per_step", "ms for the step"),
    ("floor_ms_per_token", "ms a token of one request"),
    ("tokens_per_second", "tokens a second, all requests"),
    ("joules_per_million_tokens", "J a million tokens"),
)


def _print_floors(floors: list, plain: dict) -> None:
    """Prefill and decode side by side, with what bounds them and every assumption."""
    first, steps = floors[0], [plain[floor.step] for floor in floors]
    on = f"{first.devices:,} x {first.device}" if first.devices > 1 else first.device
    title = f"{first.model} on {on}: {first.context:,} tokens x {first.batch:,}"
    rows = table(title, "at best", *(f"{floor.step}>" for floor in floors))
    for key, label in FIGURES:
        values = [step[key] for step in steps]
        rows.add_row(label, *("" if value is None else f"{value:,.4g}" for value in values))
    if steps[0]["dollars_per_million_tokens"]:
        money = ["{:.3g} to {:.3g}".format(*step["dollars_per_million_tokens"]) for step in steps]
        rows.add_row("$ a million tokens", *money)
    rows.add_row("bound by", *(step["bound"] for step in steps))
    print_table(rows)
    if plain["warning"]:
        print(f"warning: {plain['warning']}; these floors are of devices that could hold it")
    if plain["prefill_unknown"]:
        print(f"prefill: not known, {plain['prefill_unknown']}")
    if plain["listed_price"]:
        print(plain["listed_price"])
    notes = [step["assumptions"] for step in steps]
    both = [note for note in notes[0] if all(note in other for other in notes)]
    lines("assumed", dict.fromkeys([*plain["model_assumptions"], *both]))
    for floor, notes_of in zip(floors, notes, strict=True):
        lines("assumed", [f"{floor.step}: {note}" for note in notes_of if note not in both])


def _print_forecast(plain: dict) -> None:
    """The forecast in a few lines after the floors."""
    if plain["forecast_unknown"]:
        print(f"forecast: none, {plain['forecast_unknown']}")
        return
    seconds, low, high = (plain[f"forecast_{name}"] * 1e3 for name in ("seconds", "low", "high"))
    times = plain["forecast_seconds"] / plain["forecast_floor_seconds"]
    print(
        f"forecast: {seconds:.3g} ms a token of one request, {low:.3g} to {high:.3g} in a nominal "
        f"{plain['forecast_nominal']:.0%} of such servings; {times:.1f} times the floor"
    )
    print(
        f"  first token: {plain['first_token_floor_seconds'] * 1e3:.3g} ms at best, for a prompt "
        f"of {plain['input']:,} tokens"
    )
    if plain["forecast_joules_per_million_tokens"]:
        print(
            f"  energy: {plain['forecast_joules_per_million_tokens']:,.3g} J a million tokens at "
            "the watts that such GPUs were measured to draw"
        )
    for row in plain["resembles"]:
        print(
            f"  measured: {row['family']} on {row['gpu']} with {row['framework']} in "
            f"{row['precision']}, {row['rows']} servings: forecast off by "
            f"{row['error_median']:.0f} % (median), {row['error_p90']:.0f} % (90th percentile)"
        )
    if plain["queues"]:
        print("  warning: more requests are in flight than a step takes; the others queue")
    for note in plain["forecast_notes"]:
        print(f"  assumed: {note}")


def _price(text: str) -> tuple[float, float] | None:
    """``2.5`` or ``2:3`` as dollars. Raises ValueError for anything else."""
    if not text:
        return None
    try:
        ends = tuple(float(end) for end in text.split(":"))
    except ValueError:
        ends = ()
    if len(ends) not in (1, 2):
        raise ValueError(f"--price takes 2.5 or 2:3, not {text!r}")
    return (ends[0], ends[-1])
