"""Tiles of a stored cache inside a kernel: of plain numbers, or of centroids from packed bytes.

Centroids are picked by byte permutes, or read from a table in memory. A tile of bytes holds, for
its bytes j, the coordinates j, j + d/f, ... (`packing`): field k of the whole tile is a tile of
coordinates by itself, so that a product over the head is the sum of f products and nothing is
interleaved.

On Hopper a multiprocessor has to unpack about 34 four-bit codes a cycle to keep up with its share
of the memory (an H200's 4.2 TB/s over 132 of them at 1.85 GHz), and issues 128 lanes a cycle: fewer
than four instructions a code, everything included. A load from a table, its address and the layout
that Triton then chooses make the decode loop ten instructions a code, permutes five and a half
(scripts/gpu_expected.py counts them). Triton's interpreter, which has no permutes, reads the table.

A byte permute (prmt) picks four bytes of eight, in two registers, by four selectors of four bits. A
code of at most three bits in a nibble is such a selector, and a table of fp16 is one of high bytes
and one of low ones. With a selector's top bit set, prmt repeats the sign bit of the byte it picks.
"""

import triton
import triton.language as tl

# 4 bits. Codes from 8 on are positive, and their low three bits number the magnitude; those below 8
# are negative and mirrored, so that the complement of these bits does. The signs of four codes are
# spread over four bytes by a permute. 18 instructions for eight codes.
# $0 $1: centroids of the low nibbles, two in each; $2 $3: of the high ones; $4: four bytes. Tables
# come four times each, since Triton hands over four elements: $5 $9 high bytes, $13 $17 low bytes.
FOUR = """{
.reg .b32 s, u, t, i, j, h, l, m, g, k;
lop3.b32 s, $4, 0x88888888, 0, 0x0c;
shr.u32 t, s, 3;
sub.u32 t, s, t;
lop3.b32 i, $4, t, 0x77777777, 0x28;
shr.u32 j, i, 16;
shl.b32 u, s, 4;
prmt.b32 h, $5, $9, i;
prmt.b32 l, $13, $17, i;
prmt.b32 m, u, s, 0xd9c8;
lop3.b32 h, h, m, 0x80808080, 0xf8;
prmt.b32 g, $5, $9, j;
prmt.b32 k, $13, $17, j;
prmt.b32 m, u, s, 0xfbea;
lop3.b32 g, g, m, 0x80808080, 0xf8;
prmt.b32 $0, l, h, 0x6240;
prmt.b32 $1, k, g, 0x6240;
prmt.b32 $2, l, h, 0x7351;
prmt.b32 $3, k, g, 0x7351;
}"""
# 2 bits. Fields 0 and 2 of a byte, then 1 and 3, are nibbles once the others are masked.
# $0 $1, $2 $3, $4 $5, $6 $7: centroids of fields 0 to 3; $8: four bytes; $9 high, $13 low bytes.
_PICKS = """shr.u32 j, e, 16;
shr.u32 k, o, 16;
prmt.b32 h0, {high}, e;
prmt.b32 l0, {low}, e;
prmt.b32 h1, {high}, j;
prmt.b32 l1, {low}, j;
prmt.b32 h2, {high}, o;
prmt.b32 l2, {low}, o;
prmt.b32 h3, {high}, k;
prmt.b32 l3, {low}, k;
prmt.b32 $0, l0, h0, 0x6240;
prmt.b32 $1, l1, h1, 0x6240;
prmt.b32 $4, l0, h0, 0x7351;
prmt.b32 $5, l1, h1, 0x7351;
prmt.b32 $2, l2, h2, 0x6240;
prmt.b32 $3, l3, h3, 0x6240;
prmt.b32 $6, l2, h2, 0x7351;
prmt.b32 $7, l3, h3, 0x7351;
}}"""
TWO = """{
.reg .b32 e, o, j, k, h0, h1, h2, h3, l0, l1, l2, l3;
lop3.b32 e, $8, 0x33333333, 0, 0xc0;
shr.u32 o, $8, 2;
lop3.b32 o, o, 0x33333333, 0, 0xc0;
""" + _PICKS.format(high="$9, $9", low="$13, $13")
# 3 bits. As 2, with a third bit in each nibble: after a shift by 0 or 1 ($10: which half of the
# part), field k's is bit 2 k of the high plane's byte ($9). $11 $15 high, $19 $23 low bytes.
THREE = """{
.reg .b32 e, o, x, y, j, k, h0, h1, h2, h3, l0, l1, l2, l3;
lop3.b32 y, $10, 1, 0, 0xc0;
shr.u32 x, $9, y;
shl.b32 y, x, 2;
lop3.b32 e, $8, y, 0x33333333, 0xe4;
lop3.b32 e, e, 0x77777777, 0, 0xc0;
shr.u32 o, $8, 2;
lop3.b32 o, o, x, 0x33333333, 0xe4;
lop3.b32 o, o, 0x77777777, 0, 0xc0;
""" + _PICKS.format(high="$11, $15", low="$19, $23")
ASM4, ASM3, ASM2 = tl.constexpr(FOUR), tl.constexpr(THREE), tl.constexpr(TWO)
REGISTERS4 = tl.constexpr(",".join(["=&r"] * 4 + ["r"] * 17))
REGISTERS3 = tl.constexpr(",".join(["=&r"] * 8 + ["r"] * 19))
REGISTERS2 = tl.constexpr(",".join(["=&r"] * 8 + ["r"] * 9))
TWICE, FOUR_TIMES = tl.constexpr((tl.float16,) * 2), tl.constexpr((tl.float16,) * 4)


@triton.constexpr_function
def fields(bits):
    """Tiles that a kernel gets of a cache: a packed byte's fields, or (0 bits) plain numbers."""
    return {0: 1, 4: 2}.get(bits, 4)


@triton.constexpr_function
def stride(bits, d):
    """Bytes of a packed vector, or numbers of a plain one."""
    return d * bits // 8 if bits else d


@triton.jit
def words_of(table, PERMUTE: tl.constexpr):
    """The four words of the permutes' table, loaded before the loop that uses them."""
    h0, h1, l0, l1 = 0, 0, 0, 0
    if PERMUTE:
        h0, h1 = tl.load(table), tl.load(table + 1)
        l0, l1 = tl.load(table + 2), tl.load(table + 3)
    return h0, h1, l0, l1


@triton.jit
def across(column, BY_TOKEN: tl.constexpr):
    """Columns of a tile whose other axis is the tokens'."""
    return column[None, :] if BY_TOKEN else column[:, None]


@triton.jit
def tiles(
    cache,
    token,
    stored,
    table,
    words,
    D: tl.constexpr,
    BITS: tl.constexpr,
    BY_TOKEN: tl.constexpr,
    PERMUTE: tl.constexpr,
):
    """Numbers of some tokens, a tile for each of `fields`: (tokens, d / fields) where BY_TOKEN,
    else (d / fields, tokens). Centroids are fp16, and so are plain numbers that have 8 bits.
    """
    F: tl.constexpr = fields(BITS)
    byte = tl.arange(0, D // F)
    start = token.to(tl.int64) * stride(BITS, D)
    start = start[:, None] if BY_TOKEN else start[None, :]
    inside = stored[:, None] if BY_TOKEN else stored[None, :]
    low = tl.load(cache + start + across(byte, BY_TOKEN), mask=inside, other=0.0)
    high, shift = low, low
    if BITS == 3:
        at = cache + D // 4 + start + across(byte % (D // 8), BY_TOKEN)
        high = tl.load(at, mask=inside, other=0.0)
        shift = across((byte // (D // 8)).to(tl.uint8), BY_TOKEN)
    h0, h1, l0, l1 = words
    # Four bytes at once (4), and declared impure (False), though they are pure: Triton looks
    # through pure operations for the narrowest type and would lay out the fp16 result as suits
    # bytes, at a fifth more instructions.
    if BITS == 0:
        numbers = (low.to(tl.float16) if low.dtype.primitive_bitwidth == 8 else low,)
    elif BITS == 4 and PERMUTE:
        inputs = [low, h0, h1, l0, l1]
        numbers = tl.inline_asm_elementwise(ASM4, REGISTERS4, inputs, TWICE, False, 4)
    elif BITS == 3 and PERMUTE:
        inputs = [low, high, shift, h0, h1, l0, l1]
        numbers = tl.inline_asm_elementwise(ASM3, REGISTERS3, inputs, FOUR_TIMES, False, 4)
    elif PERMUTE:
        numbers = tl.inline_asm_elementwise(ASM2, REGISTERS2, [low, h0, l0], FOUR_TIMES, False, 4)
    else:
        numbers = ()
        for k in tl.static_range(F):
            code = (low >> (8 // F * k)) & (15 if BITS == 4 else 3)
            if BITS == 3:
                code = code | (((high >> (shift + 2 * k)) & 1) << 2)
            numbers += (tl.load(table + code.to(tl.int32)),)
    return numbers


@triton.jit
def loaded(at, inside, F: tl.constexpr, WIDTH: tl.constexpr):
    """A tile for each field of plain numbers, WIDTH apart."""
    numbers = ()
    for k in tl.static_range(F):
        numbers += (tl.load(at + k * WIDTH, mask=inside, other=0.0),)
    return numbers


@triton.jit
def multiplied(q, k, F: tl.constexpr):
    """Products over all of the head, (rows, tokens) fp32: the sum of those of its fields."""
    scores = tl.dot(q[0], k[0])
    for field in tl.static_range(1, F):
        scores = tl.dot(q[field], k[field], scores)
    return scores
