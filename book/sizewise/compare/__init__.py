"""Two models on a reader's own questions: which answers better, for how much, and how sure.

`task` reads the questions, `scoring` marks an answer, `models` says what a model is, `local` and
`endpoint` ask one, `rows` keeps every answer in a file, `run` asks what is not there yet, and
`report` compares: scores with intervals, the paired difference, prices, times, reliability.
"""
