"""ablax: a research codebase for ablation papers on language models, in JAX.

The top folders of the repository (`models/`, `train/`, ...) are subpackages of
`ablax`. From a checkout the next lines make them importable with nothing
installed; a wheel holds the same tree as ordinary subpackages.
"""

import pathlib

_checkout = pathlib.Path(__file__).resolve().parent.parent
if (_checkout / "setup.py").exists():
  __path__.append(str(_checkout))

__version__ = "0.1.0"
