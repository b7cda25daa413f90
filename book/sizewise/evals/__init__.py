"""How good a model is at its job, with intervals: likelihood, benchmarks, embeddings.

`texts` gives fixed documents, `likelihood` one row a window of them, `bootstrap` the interval of
a ratio of sums and of the difference between two models. `multiple_choice` scores answers by
their likelihood, `embedding` compares sentence encoders.

>>> from sizewise.evals import bootstrap, likelihood
>>> bits = bootstrap.ratio(table, *likelihood.BITS_PER_BYTE)             # doctest: +SKIP
"""
