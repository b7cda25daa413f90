"""The training laboratory: small models of real `transformers` classes, trained from scratch.

`corpus` finds documents in pinned packages, `tokenizer` makes token files of them, `models` shrinks
configuration classes, `flops` counts, `run_config` turns a budget into a run, `loop` trains it,
`checkpoints` stores what was trained.

>>> from sizewise.training import loop, run_config, tokenizer
>>> run = run_config.at_budget(1e11, width=32)
>>> loop.train(run, tokenizer.prepare(run.text))["val_loss"]        # doctest: +SKIP
"""
