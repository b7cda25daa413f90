"""How good a model is at its job, with intervals: likelihood, benchmarks, embeddings.

`texts` gives fixed documents, `likelihood` one row a window of them, `bootstrap` the interval of
a ratio of sums and of the difference between two models. `multiple_choice` scores answers by
their likelihood, `tasks` names them, `exact` scores answers that are written (`generation`), code
among them (`sandbox`). `embedding` compares sentence encoders; `labelled`, `probes`, `finetune`
and `prompted` classify texts. `paired` compares two models on the same items, `confidence` asks
whether a model knows what it knows, `cascade` puts a small model before a large one (`routed`
reads its answers). `contest`, `guessing`, `printed`, `sizing` and `size_duels` make the tables of
the chapters on small and large models.

>>> from sizewise.evaluation import likelihood
>>> bits = bootstrap.ratio(table, *likelihood.BITS_PER_BYTE)             # doctest: +SKIP
"""
