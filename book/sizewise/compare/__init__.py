"""Two models on a reader's own questions: which answers better, for how much, and how sure.

`task` reads the questions, `scoring` marks an answer, `models` says what a model is, `local` and
`endpoint` ask one, `run` asks what has no answer yet and keeps every answer in a file, and
`report` compares: scores with intervals, the paired difference, prices, times, reliability.
"""
