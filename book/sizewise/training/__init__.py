"""The training laboratory: small models of real `transformers` classes, trained from scratch.

`text` finds documents in pinned packages, `tokens` makes token files of them, `models` shrinks
configuration classes, `flops` counts operations, `plan` turns a budget into a run, `loop` trains,
one `update` after the other, `kept` keeps what was trained, `exact` counts what it predicts right.

>>> from sizewise.training import loop, run_config, tokenizer
>>> run = plan.at_budget(1e11, width=32)
>>> loop.train(run, tokens.prepare(run.text))["val_loss"]        # doctest: +SKIP
"""
