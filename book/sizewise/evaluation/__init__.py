"""How good a model is at its job: likelihood, benchmarks, classifiers, cascades.

`likelihood` scores windows of documents (`corpora`); `multiple_choice` scores answers by their
likelihood, `tasks` names them; `exact_match` scores answers that are written (`generation`), code
among them (`sandbox`). `embedding` compares sentence encoders, `item_answers` names the models of a
published benchmark, and `cascade` puts a small model before a large one. Intervals
and paired tests are those of `sizewise.stats`.

>>> from sizewise.stats import bootstrap
>>> bits = bootstrap.ratio(table, *likelihood.BITS_PER_BYTE)             # doctest: +SKIP
"""
