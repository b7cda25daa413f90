"""TurboQuant from its definition, and the older codes that differ from it by a scale.

A vector x is stored as its norm and, for each coordinate of its rotated direction, the nearest
centroid of a codebook made for random directions. Nothing is learnt from data. The variants:

==================  ===========================================================================
mse                 as above (Zandieh et al. 2025, algorithm 1)
prod                mse with one bit less, and the signs of a Gaussian sketch S of what is left,
                    which makes inner products unbiased (algorithm 2)
prod-orthogonal     the same with a random orthogonal S, scaled to be unbiased at this dimension
norm-corrected      mse, scaled so that the decoded vector has the norm of x
eden-biased         mse with the scale of least error, <y, c> / |c|^2 (Vargaftik et al. 2022)
eden-unbiased       mse with the scale |y|^2 / <y, c>, which makes inner products unbiased
==================  ===========================================================================

Scales are folded into the stored norm, so that all but ``prod`` need the same bytes. EDEN as
published has the codebook of the Gaussian limit; here all variants share that of the dimension.
"""

import math

from sizewise import units
from sizewise.quantization import packing
from sizewise.quantization.packing import Coded
from sizewise.validation import whole

from . import lloyd_max, rotations

VARIANTS = ("mse", "prod", "prod-orthogonal", "norm-corrected", "eden-biased", "eden-unbiased")
CHUNK = {"cpu": 2**18, "cuda": 2**25}  # coordinates at once: what a core's cache holds


class TurboQuant:
    """Encoder and decoder for vectors of R^dim at ``bits`` a coordinate.

    ``codebook``: float32 (2**bits,), centroids of coordinates of unit vectors; ``prod`` has one
    bit less for them, and none at bits 1. ``rotation``: has ``apply``, ``inverse``, ``matrix``.
    Raises ValueError for an unknown variant or rotation, for dim that is not a multiple of 8, and
    for bits other than 1, 2, 3, 4 and 8 (prod: 1 to 4).
    """

    group = 1  # vectors that are coded together

    def __init__(
        self,
        dim: int,
        bits: int,
        *,
        variant: str = "mse",
        rotation: str = "haar",
        seed: int = 0,
    ):
        import torch

        if variant not in VARIANTS:
            raise units.unknown("variant", variant, VARIANTS)
        self.sketched = variant.startswith("prod")
        self.dim, self.bits = whole("the dimension", dim), whole("the bits", bits)
        if self.sketched and self.bits > 4:
            raise ValueError(f"prod has 1, 2, 3 or 4 bits, got {bits}")
        packing.width(self.bits, self.dim)
        self.variant, self.seed = variant, seed
        self.rotation = rotations.rotation(rotation, self.dim, seed)
        self.code_bits = self.bits - self.sketched
        built = lloyd_max.lloyd_max(self.code_bits, self.dim) if self.code_bits else None
        self.codebook = torch.tensor(built.centroids if built else [0.0], dtype=torch.float32)
        self.boundaries = torch.tensor(built.boundaries if built else [], dtype=torch.float32)
        self._sketch = self._draw_sketch() if self.sketched else None

    def encode(self, x) -> Coded:
        """Vectors x (..., dim) of any floating dtype to codes; ``x`` is left as it is.

        Norms are stored in float16, and in float32 where one, with its scale, exceeds 65,504. A
        zero vector is kept exactly; norms below 6e-5 lose digits and those below 3e-8 become 0, so
        that such data want a factor first. Raises ValueError for what is not finite.
        """
        import torch

        packing.checked(x, self.dim)
        lead, flat = x.shape[:-1], x.detach().reshape(-1, self.dim)  # (n, dim)
        n, built = len(flat), {"dtype": torch.uint8, "device": x.device}
        packed = torch.empty((n, self.dim * self.code_bits // 8), **built)
        norms, residuals = [], []
        signs = torch.empty((n, self.dim // 8), **built) if self.sketched else None
        for current in self._chunks(n, x.device):
            y, length = self._directions(flat[current])
            codes = self._nearest(y)  # uint8 (rows, dim)
            norms.append(packing.half(self._scaled(length, y, codes)))
            if codes is not None:
                packed[current] = packing._pack(codes, self.code_bits)
            if self.sketched:
                signs[current], left = self._leftover(y, length, norms[-1], codes)
                residuals.append(packing.half(left))
        # Of float32 if one chunk's are.
        sketch = (signs, torch.cat(residuals)) if self.sketched else (None, None)
        parts = (packed, torch.cat(norms), *sketch)
        return Coded(*(p if p is None else p.view((*lead, *p.shape[1:])) for p in parts))

    def decode(self, codes: Coded, dtype=None):
        """Codes to vectors (..., dim), of float32 by default."""
        import torch

        dtype = dtype or torch.float32
        lead, n = codes.norms.shape, codes.norms.numel()
        packed = codes.packed.reshape(n, self.dim * self.code_bits // 8)
        out = torch.empty((n, self.dim), dtype=dtype, device=codes.norms.device)
        norms = codes.norms.reshape(n)
        for current in self._chunks(n, out.device):
            y = self._rotated(packed[current], norms[current])
            if self.sketched:
                signs = codes.signs.reshape(n, self.dim // 8)[current]
                signs = packing.unpack(signs, 1, self.dim)
                weight = codes.residuals.reshape(n)[current].float() * self._sketch_scale
                y += (signs.float() * 2 - 1) @ self._sketch("s", y) * weight[:, None]
            out[current] = self.rotation.inverse(y).to(dtype)
        return out.view((*lead, self.dim))

    def _chunks(self, n: int, device):
        rows = max(1, CHUNK.get(device.type, CHUNK["cuda"]) // self.dim)
        return [slice(start, min(start + rows, n)) for start in range(0, max(n, 1), rows)]

    def _directions(self, x):
        """Rotated unit vectors, float32 (rows, dim), and norms (rows,)."""
        import torch

        x = x.float()
        length = torch.linalg.vector_norm(x, dim=-1)
        y = self.rotation.apply(x)
        y *= (1 / length.clamp_min(torch.finfo(torch.float32).tiny))[:, None]
        return y, length

    def _nearest(self, y):
        """The number of boundaries below each coordinate: uint8 (rows, dim)."""
        import torch

        if not self.code_bits:
            return None
        if y.device.type != "cpu":
            return torch.bucketize(y, self.boundaries.to(y.device), out_int32=True).byte()
        # A pass of numpy a boundary: its comparisons are vectorized, a binary search is not.
        import numpy

        values, limits = y.numpy(), self.boundaries.numpy()
        codes = numpy.greater(values, limits[0]).view(numpy.uint8)
        above = numpy.empty(codes.shape, numpy.bool_)
        for limit in limits[1:]:
            numpy.greater(values, limit, out=above)
            numpy.add(codes, above.view(numpy.uint8), out=codes)
        return torch.from_numpy(codes)

    def _centroids(self, codes):
        """float32 (rows, dim) of codes."""
        if codes.device.type == "cpu":
            import numpy
            import torch

            return torch.from_numpy(numpy.take(self.codebook.numpy(), codes.numpy()))
        return self.codebook.to(codes.device)[codes.int()]

    def _scaled(self, length, y, codes):
        """The norm to store, with the variant's scale: float32 (rows,)."""
        import torch

        if self.variant == "mse" or self.sketched:
            return length
        c = self._centroids(codes)
        if self.variant == "norm-corrected":
            return length / torch.linalg.vector_norm(c, dim=-1)
        along = torch.einsum("nd,nd->n", c, y)
        if self.variant == "eden-biased":
            return length * along / torch.einsum("nd,nd->n", c, c)
        return torch.where(length > 0, length / along, length)

    def _leftover(self, y, length, stored, codes):
        """Signs of the sketch of what the centroids leave, packed, and its norm."""
        import torch

        r = y * length[:, None]
        if codes is not None:
            r -= self._centroids(codes) * stored.float()[:, None]
        signs = (r @ self._sketch("s", r).T > 0).view(torch.uint8)  # (rows, dim)
        return packing._pack(signs, 1), torch.linalg.vector_norm(r, dim=-1)

    def _rotated(self, packed, norms):
        """What centroids and norms alone decode to, before it is rotated back."""
        import torch

        if not self.code_bits:
            return torch.zeros((len(norms), self.dim), device=norms.device)
        codes = packing.unpack(packed, self.code_bits, self.dim)
        return self._centroids(codes) * norms.float()[:, None]

    def _draw_sketch(self):
        """S for rotated vectors, and what makes it unbiased.

        A rotation leaves the law of S as it is, so S acts on rotated vectors and one product with
        the rotation is saved. <u, S^T sign(S u)> of a unit vector is on average d sqrt(2 / pi)
        for a Gaussian S, and d E|t| for an orthogonal one: E|t| is the one-bit centroid.
        """
        if self.variant == "prod":
            draw = rotations.generator("sketch", "gaussian", self.dim, self.seed)
            s, mean = draw.standard_normal((self.dim, self.dim)), math.sqrt(2 / math.pi)
        else:
            draw = rotations.generator("sketch", "orthogonal", self.dim, self.seed)
            s = rotations.orthogonal(self.dim, draw)
            mean = float(lloyd_max.lloyd_max(1, self.dim).centroids[1])
        self._sketch_scale = 1 / (self.dim * mean)
        return rotations._Tables(s=s)
