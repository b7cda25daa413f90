"""Measure TurboQuant against its theory: exact and sampled distortion, bias, seeds, recall.

    python scripts/turboquant_theory.py
    python scripts/turboquant_theory.py --what codebook,sampled --list

`codebook` solves the codebooks and has no chance in it. `sampled` encodes random directions with
every variant. `seed` draws data and rotation from one random stream, and from two. `recall` looks
for the nearest neighbours of sentences among coded embeddings, beside product quantization of the
same bytes; it fetches a sentence encoder and the texts once, and the rows of product quantization
need faiss (pip install faiss-cpu==1.15.1). No time is recorded: scripts/bench.py has that. Rows go
to data/turboquant_theory.jsonl; what has a row is not measured again.
"""

import argparse
import importlib.util
import re
import sys
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

from sizewise import units
from sizewise.data import records
from sizewise.experiments import engine
from sizewise.models import pretrained

KINDS = ("codebook", "sampled", "seed", "recall")
BITS = (1, 2, 3, 4)
EXACT = (2, 3, 4, 8, 16, 64, 128, 256, 1536, None)  # None is the Gaussian limit
SAMPLED = {64: 20_000, 128: 20_000, 1536: 2_000}  # vectors by dimension
SEEDS = (0, 1, 2)
COLLIDED = (64, 128, 256)
STREAMS = ("the data's", "another seed", "the library's")
ENCODER = "minilm-l6"
TEXTS = ("sotu", "brown")
RANKS = (1, 2, 4, 8, 16, 32, 64)
PRODUCT = {"product quantization": "others", "product quantization, own": "own"}
METHODS = ("mse", "prod", "eden-unbiased", *PRODUCT)
Row = dict[str, Any]


def configs(args: argparse.Namespace) -> list[Row]:
    """All rows that the command line asks for."""
    from sizewise.quantization.turboquant.codec import VARIANTS

    rows = {
        "codebook": [{"dim": d, "bits": b} for d, b in product(EXACT, BITS)],
        "sampled": [
            {"dim": d, "bits": b, "variant": v, "rotation": r, "vectors": n, "seed": s}
            for (d, n), b, v, s in product(SAMPLED.items(), BITS, VARIANTS, SEEDS)
            for r in (("haar", "hadamard") if v == "mse" else ("haar",))
        ],
        "seed": [
            {"dim": d, "bits": 4, "stream": t, "library": k, "vectors": 2_000, "seed": 42}
            for d, t, k in product(COLLIDED, STREAMS, ("numpy", "torch"))
        ],
        "recall": [
            {
                "model": args.encoder,
                "bits": b,
                "method": m,
                "vectors": args.vectors,
                "queries": args.queries,
                "seed": 0,
            }
            for b, m in product((1, 2, 4), args.methods)
        ],
    }
    return [{"what": kind, **row} for kind in args.what for row in rows[kind]]


def measure(config: Row) -> Row:
    """The measurements of one row."""
    return globals()[f"measure_{config['what']}"](config)


def measure_codebook(config: Row) -> Row:
    """Exact distortion, between the bounds."""
    from sizewise.quantization.turboquant import lloyd_max, theory

    built = lloyd_max.lloyd_max(config["bits"], config["dim"])
    low = theory.lower(config["bits"])
    return {
        "distortion": built.distortion,
        "lower": low,
        "upper": theory.upper(config["bits"]),
        "over_lower": built.distortion / low,
        "lloyd_gap": max(lloyd_max.conditions(built)),
    }


def measure_sampled(config: Row) -> Row:
    """Errors of random directions, and of their inner products with others."""
    import torch
    from sizewise.quantization.turboquant import theory
    from sizewise.quantization.turboquant.codec import TurboQuant
    from sizewise.quantization.turboquant.rotations import generator

    n, d = config["vectors"], config["dim"]
    draw = generator("turboquant_theory", d, config["seed"])
    u, q = (_unit(torch.from_numpy(draw.standard_normal((n, d))).float()) for _ in range(2))
    names = ("variant", "rotation", "seed")
    code = TurboQuant(d, config["bits"], **{name: config[name] for name in names})
    codes = code.encode(u)
    decoded = code.decode(codes)
    difference = decoded - u  # (n, d)
    result = {"bytes_each": codes.nbytes / n}
    result |= _mean("distortion", (difference**2).sum(-1))
    result |= _mean("inner", d * (q * difference).sum(-1) ** 2)
    result |= _mean("slope", (u * decoded).sum(-1))
    code = (config["variant"], config["bits"], d)
    return result | {"expected": theory.expected(*code), "expected_slope": theory.slope(*code)}


def measure_seed(config: Row) -> Row:
    """Errors where the rotation comes from the data's random numbers, and where it does not."""
    import numpy
    import torch
    from sizewise.quantization.turboquant import lloyd_max, rotations

    n, d, seed = config["vectors"], config["dim"], config["seed"]
    u = _unit(torch.from_numpy(_normal(config["library"], seed, n, d))).double()
    if config["stream"] == "the library's":
        turned = rotations.rotation("haar", d, seed).apply(u)
    else:
        other = seed + (config["stream"] == "another seed")
        q, r = numpy.linalg.qr(_normal(config["library"], other, d, d))
        q *= numpy.copysign(1.0, numpy.diag(r))  # uniform, had it not met its own data
        turned = u @ torch.from_numpy(q).T
    built = lloyd_max.lloyd_max(config["bits"], d)
    values = turned.numpy()
    nearest = built.centroids[numpy.searchsorted(built.boundaries, values)]
    errors = ((values - nearest) ** 2).sum(-1)
    worst = numpy.sort(errors)[::-1]
    return _mean("distortion", torch.from_numpy(errors)) | {
        "expected": built.distortion,
        "error_99": float(numpy.quantile(errors, 0.99)),
        "error_most": float(worst[0]),
        "worst_share": float(worst[: n // 100].sum() / errors.sum()),
        "tail": float(numpy.mean(errors > 4 * numpy.median(errors))),
    }


def measure_recall(config: Row) -> Row:
    """How often the true nearest neighbour of a sentence is among the first k found."""
    base, queries, others = embeddings(config["model"], config["vectors"], config["queries"])
    best = (queries @ base.T).argmax(-1)  # (queries,)
    decoded, bytes_each = _coded(base, others, config)
    scores = queries @ decoded.T
    nearest = scores.gather(1, best[:, None])  # (queries, 1)
    rank = (scores >= nearest).sum(-1) - 1  # how many come before it, or are as near
    hits = {f"recall_at_{k}": float((rank < k).double().mean()) for k in RANKS}
    error = ((decoded - base) ** 2).sum(-1) / (base**2).sum(-1)
    return {"dim": base.shape[-1], "bytes_each": bytes_each, **hits, **_mean("distortion", error)}


def _coded(base, others, config: Row):
    """Base vectors coded and decoded, and the bytes of one code.

    Product quantization learns its centroids from as many other vectors, or from those that it
    codes, which is its best case.
    """
    from sizewise.quantization.turboquant.codec import TurboQuant

    dim, bits = base.shape[-1], config["bits"]
    if config["method"] not in PRODUCT:
        code = TurboQuant(dim, bits, variant=config["method"], seed=config["seed"])
        codes = code.encode(base)
        return code.decode(codes), codes.nbytes / len(base)
    import faiss
    import torch

    pq = faiss.ProductQuantizer(dim, dim * bits // 8, 8)
    pq.cp.seed = config["seed"] + 1234
    pq.train((base if PRODUCT[config["method"]] == "own" else others).numpy())
    codes = pq.compute_codes(base.numpy())
    return torch.from_numpy(pq.decode(codes)), codes.nbytes / len(base)


@cache
def embeddings(model: str, vectors: int, queries: int):
    """Sentence embeddings, float32: (vectors, d) to search, (queries, d), (vectors, d) others."""
    import torch

    total = 2 * vectors + queries
    texts = sentences()
    if not 0 < queries <= vectors or len(texts) < total:
        raise ValueError(f"the texts hold {len(texts)} sentences, not {total}")
    step = len(texts) / total  # evenly over all texts
    chosen = [texts[int(k * step)] for k in range(total)]
    result = torch.as_tensor(pretrained.encoder(model).embed(chosen)).float()
    order = torch.randperm(total, generator=torch.Generator().manual_seed(0))
    requested, base, others = order.split([queries, vectors, vectors])
    return result[base], result[requested], result[others]


def sentences() -> list[str]:
    """Sentences of 6 to 40 words of the evaluation texts, each once, in their order."""
    from sizewise.evaluation import corpora

    result = {}
    for name in TEXTS:
        for document in corpora.fixed(name):
            for item in re.split(r"(?<=[.!?])\s+", " ".join(document.split())):
                if 6 <= len(item.split()) <= 40:
                    result.setdefault(item)
    return list(result)


def _normal(library: str, seed: int, *shape: int):
    """Normal numbers as anybody would draw them with that seed: float64 array."""
    import numpy
    import torch

    if library == "numpy":
        return numpy.random.default_rng(seed).standard_normal(shape)
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=draw).double().numpy()


def _unit(x):
    return x / x.norm(dim=-1, keepdim=True)


def _mean(name: str, values) -> Row:
    """The mean of one number a vector, and its standard error."""
    values = values.double()
    return {name: float(values.mean()), f"{name}_se": float(values.std() / len(values) ** 0.5)}


def checked(args: argparse.Namespace) -> argparse.Namespace:
    """The command line checked; without faiss the rows that need it are left out."""
    for kind in args.what:
        if kind not in KINDS:
            raise units.unknown("kind of row", kind, KINDS)
    args.methods = list(METHODS)
    if "recall" in args.what and args.encoder not in (encoders := pretrained.names("encoder")):
        raise units.unknown("encoder", args.encoder, encoders)
    if "recall" in args.what and not args.list and importlib.util.find_spec("faiss") is None:
        args.methods = [method for method in METHODS if method not in PRODUCT]
        print("no product quantization: pip install faiss-cpu==1.15.1", file=sys.stderr)
    return args


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--what", type=lambda text: text.split(","), default=list(KINDS), help=", ".join(KINDS))
    add("--encoder", default=ENCODER, help="a sentence encoder of sizewise.models.pretrained")
    add("--vectors", type=int, default=10_000, help="sentences to search (recall)")
    add("--queries", type=int, default=500, help="sentences to search for (recall)")
    add("--workers", type=int, default=1, help="runs at once")
    add("--output", help="another file than data/turboquant_theory.jsonl")
    add("--list", action="store_true", help="print the rows and measure nothing")
    return parser.parse_args(argv)


def main() -> None:
    args = arguments()
    try:
        rows = configs(checked(args))
        if args.list:
            for row in rows:
                print("  ".join(f"{name} {value}" for name, value in row.items()))
            return
        file = Path(args.output) if args.output else records.path("turboquant_theory")
        engine.run_all(measure, rows, file, workers=args.workers)
    except (ValueError, RuntimeError) as error:
        sys.exit(f"turboquant_theory: {error}")


if __name__ == "__main__":
    main()
