"""Formulas against printed tables, and against counts of the class itself."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sizewise.chapters.tables import parameters as formulas
from sizewise.data import records
from sizewise.models import config
from sizewise.models import parameters as counting

SHAPE = ("d_model", "d_ff", "kv_size", "heads", "layers")


def chinchilla_errors():
    table = records.facts_csv("chinchilla_models")
    for row in table.to_dict("records"):
        counted = formulas.chinchilla(**{name: row[name] for name in SHAPE})
        yield counted / row["parameters"] - 1


def test_fifty_printed_sizes_are_met_within_rounding():
    errors = [abs(error) for error in chinchilla_errors()]
    assert len(errors) == 50
    assert max(errors) < 0.0067
    assert sum(error <= 0.005 for error in errors) == 48


def test_attention_taken_as_wide_as_the_model_misses_the_rows_where_it_is_not():
    table = records.facts_csv("chinchilla_models")
    narrower = table[table["kv_size"] * table["heads"] != table["d_model"]]
    errors = [
        formulas.chinchilla_square(d_model=row.d_model, layers=row.layers, d_ff=row.d_ff)
        / row.parameters
        - 1
        for row in narrower.itertuples()
    ]
    assert min(map(abs, errors)) > 0.005
    assert max(map(abs, errors)) > 0.07


def test_a_chinchilla_layer_worked_by_hand():
    # d 2, attention 1 x 3 wide, MLP 4: q, k, v 3 * (2*3 + 3) = 27, out 3*2 + 2 = 8, positions
    # 2*3 + 2*3 = 12, MLP 2*4 + 4 + 4*2 + 2 = 22, norms 2 * 2*2 = 8; embedding 5*2; last norm 4.
    counted = formulas.chinchilla(d_model=2, d_ff=4, kv_size=1, heads=3, layers=1, vocab=5)
    assert counted == 27 + 8 + 12 + 22 + 8 + 10 + 4


@pytest.mark.parametrize(
    ("shape", "total"),
    [
        ((4096, 32, 16), 8_632_012_800),
        ((8192, 64, 32), 62_495_662_080),
        ((18432, 118, 48), 540_356_474_880),
    ],
)
def test_palm_sizes_agree_with_the_printed_digits(shape, total):
    width, layers, heads = shape
    assert formulas.palm(width=width, layers=layers, heads=heads) == total
    printed = records.facts_csv("palm_models").set_index("width")["published"][width]
    assert abs(total - printed) < 1e7  # two decimals of a billion, rounded or cut


@settings(max_examples=15, deadline=None)
@given(
    heads=st.sampled_from([2, 4, 6]),
    groups=st.sampled_from([1, 2]),
    size=st.integers(2, 9),
    share=st.integers(1, 9),
    inner=st.integers(1, 70),
    layers=st.integers(1, 4),
    vocab=st.integers(4, 90),
    tied=st.booleans(),
)
def test_the_llama_formula_equals_the_class(heads, groups, size, share, inner, layers, vocab, tied):
    width = heads * share  # the class asks for a multiple, whatever the heads' own size
    fields = {
        "model_type": "llama",
        "hidden_size": width,
        "num_attention_heads": heads,
        "num_key_value_heads": groups,
        "head_dim": 2 * size,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "vocab_size": vocab,
        "tie_word_embeddings": tied,
        "pad_token_id": None,
        "bos_token_id": None,
        "eos_token_id": None,
    }
    by_hand = formulas.llama(
        vocab=vocab,
        width=width,
        layers=layers,
        heads=heads,
        kv_heads=groups,
        head_dim=2 * size,
        inner=inner,
        tied=tied,
    )
    counted = counting.count(config.Spec("random", fields))
    assert counted.total == sum(by_hand.values())
    assert {k: v for k, v in by_hand.items() if v} == counted.by_kind
