"""Random rotations: after one, each coordinate of any fixed vector is that of a random direction.

``haar`` is a uniformly random orthogonal matrix, as TurboQuant is defined (Zandieh et al. 2025,
algorithm 1). ``hadamard`` flips random signs and applies a Walsh-Hadamard transform: cheaper, and
not uniform, so that the exact law of a coordinate holds only nearly (a vector with a single entry
becomes a flat one).

The seed of a rotation is hashed together with the name of what is drawn. Otherwise data that
somebody draws with the same small number share their random stream with the rotation, and the
first d vectors are no longer independent of it: their codes then are far worse than those of any
vector that the rotation was not made from.
"""

import hashlib
import math
from functools import lru_cache

from sizewise import units
from sizewise.validation import whole

KINDS = ("haar", "hadamard")
DOMAIN = "sizewise.quant"


def rotation(kind: str, dim: int, seed: int = 0):
    """The rotation of R^dim of that kind and seed; the same call gives the same rotation.

    Raises ValueError for an unknown kind, dim under 2 and a seed that is no whole number from 0.
    """
    if kind not in KINDS:
        raise units.unknown("rotation", kind, KINDS)
    dim, seed = whole("the dimension", dim, 2**15, 2), whole("the seed", seed, 2**63, 0)
    return _cached(kind, dim, seed)


def generator(*names: str | int):
    """A numpy generator whose 256-bit seed is a hash of ``names`` in this package's own domain.

    No ``default_rng(s)`` of a small s, and no generator of torch, gives the same numbers.
    """
    import numpy

    purpose = "\0".join((DOMAIN, *map(str, names)))
    return numpy.random.default_rng(int.from_bytes(hashlib.sha256(purpose.encode()).digest()))


def orthogonal(dim: int, draw):
    """A uniformly random orthogonal matrix, float64 (dim, dim), from a generator's normal numbers.

    Q of a Gaussian matrix is uniform once the signs of R's diagonal are made positive, which a
    QR routine does not do by itself (Mezzadri 2007, section 5).
    """
    import numpy

    q, r = numpy.linalg.qr(draw.standard_normal((dim, dim)))
    return q * numpy.copysign(1.0, numpy.diag(r))


class _Rotation:
    def matrix(self, device="cpu", dtype=None):
        """Q, (dim, dim), float32 by default: ``apply(x)`` is x Q^T."""
        import torch

        unit = torch.eye(self.dim, device=device, dtype=torch.float64)
        return self.apply(unit).T.contiguous().to(dtype or torch.float32)


class Haar(_Rotation):
    """y = Q x with Q uniform over the orthogonal matrices of R^dim. Stores dim**2 numbers."""

    def __init__(self, dim: int, seed: int = 0):
        self.dim = dim
        self._tables = _Tables(q=orthogonal(dim, generator("rotation", "haar", dim, seed)))

    def apply(self, x):
        """x (..., dim) rotated, in float64 if x is, else in float32."""
        x = _floating(x, self.dim)
        return x @ self._tables("q", x).T

    def inverse(self, y):
        """y (..., dim) rotated back."""
        y = _floating(y, self.dim)
        return y @ self._tables("q", y)


class Hadamard(_Rotation):
    """Random signs, then a Walsh-Hadamard transform over sqrt(dim): dim log dim work.

    Where dim is no power of two, each transform acts on blocks of the largest power of two that
    divides dim, and two rounds follow each other with a random permutation between them, so that
    the blocks mix. For an odd dim there is nothing to transform: ValueError.
    """

    def __init__(self, dim: int, seed: int = 0):
        import numpy
        from scipy.linalg import hadamard

        self.dim = dim
        self.block = dim & -dim
        if self.block == 1:
            raise ValueError(f"a Hadamard rotation needs an even dimension, got {dim}")
        self.rounds = 1 if self.block == dim else 2
        draw = generator("rotation", "hadamard", dim, seed)
        signs = draw.integers(0, 2, (self.rounds, dim)) * 2.0 - 1.0
        order = draw.permutation(dim)
        low = 2 ** (int(math.log2(self.block)) + 1 >> 1)  # block = high x low
        self._high = self.block // low
        self._tables = _Tables(
            signs=signs,
            order=order,
            back=numpy.argsort(order),
            low=hadamard(low) / math.sqrt(self.block),
            high=hadamard(self._high, float),
        )

    def apply(self, x):
        """x (..., dim) rotated, in float64 if x is, else in float32."""
        x = _floating(x, self.dim)
        signs = self._tables("signs", x)
        x = self._transform(x * signs[0])
        if self.rounds == 2:
            x = self._transform(x[..., self._tables("order", x)] * signs[1])
        return x

    def inverse(self, y):
        """y (..., dim) rotated back."""
        y = _floating(y, self.dim)
        signs = self._tables("signs", y)
        if self.rounds == 2:
            y = (self._transform(y) * signs[1])[..., self._tables("back", y)]
        return self._transform(y) * signs[0]

    def _transform(self, x):
        """The transform of every block, its own inverse.

        A Sylvester matrix is the Kronecker product of two smaller ones: H (a, b) -> Ha X Hb. Two
        small products are faster in torch than log2(block) passes of butterflies.
        """
        shape, low = x.shape, self.block // self._high
        x = x.reshape(-1, low) @ self._tables("low", x)
        if self._high > 1:
            x = self._tables("high", x) @ x.view(-1, self._high, low)
        return x.view(shape)


class _Tables:
    """Constant arrays, as tensors on the device and in the dtype of what they meet."""

    def __init__(self, **arrays):
        self._arrays, self._tensors = arrays, {}

    def __call__(self, name: str, like):
        import torch

        position = (name, like.device, like.dtype)
        if position not in self._tensors:
            whole_numbers = self._arrays[name].dtype.kind == "i"
            dtype = torch.int64 if whole_numbers else like.dtype
            self._tensors[position] = torch.as_tensor(
                self._arrays[name], device=like.device, dtype=dtype
            ).contiguous()
        return self._tensors[position]


@lru_cache(16)
def _cached(kind: str, dim: int, seed: int):
    return Haar(dim, seed) if kind == "haar" else Hadamard(dim, seed)


def _floating(x, dim: int):
    import torch

    if x.shape[-1] != dim:
        raise ValueError(f"this rotation is for vectors of {dim}, got {x.shape[-1]}")
    return x if x.dtype in (torch.float32, torch.float64) else x.float()
