"""Kernels under nbval are as quiet as under the runner."""

from sizewise.chapters import run

run.quiet_kernels()
