"""What do a language model's parameters buy, and what do they cost?

Arithmetic and measurements on language-model size, behind the book of the same name and the
command line ``sizewise``. Each module is one subject; import the one you need:

>>> from sizewise.models import parameters
>>> parameters.count("llama-3.1-8b").total
8030261248
"""

__version__ = "0.1.0"
