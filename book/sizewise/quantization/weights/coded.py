"""Modules that hold coded weights: a linear layer, and the matrices of a layer's experts."""

import torch


class CodedLinear(torch.nn.Module):
    """A linear layer whose weight lies in memory as a codec's tensors, decoded at each call."""

    def __init__(self, codec, tensors: dict, bias=None):
        super().__init__()
        self.codec = codec
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor)
        self._names = tuple(tensors)
        self.bias = None if bias is None else torch.nn.Parameter(bias, requires_grad=False)

    def decoded(self):
        """The weight (out, in) in fp32."""
        return self.codec.decode({name: getattr(self, name) for name in self._names})

    def forward(self, x):  # (..., in)
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return torch.nn.functional.linear(x, self.decoded().to(x.dtype), bias)

    def extra_repr(self) -> str:
        return self.codec.name


class ExpertMatrices(torch.nn.Module):
    """The matrices of all experts, each coded by itself, where one 3-D parameter was.

    ``experts[i]`` is expert i's matrix, decoded: what the loop over experts in `transformers`
    ("eager") asks for. ``transposed``: that loop expects (in, out). ``decode(module)`` gives a
    coded layer's weight (out, in).
    """

    def __init__(self, layers, decode, transposed: bool, dtype):
        super().__init__()
        self.layers = torch.nn.ModuleList(layers)
        self._decode, self.transposed, self.dtype = decode, transposed, dtype

    def __getitem__(self, number):
        weight = self._decode(self.layers[int(number)]).to(self.dtype)
        return weight.T if self.transposed else weight

    def __len__(self) -> int:
        return len(self.layers)
