"""Maps the top folders to subpackages of `ablax`; what to install is here."""

import pathlib
import re

from setuptools import find_namespace_packages, setup

HERE = pathlib.Path(__file__).parent
FOLDERS = (
  "ablate",
  "configs",
  "data",
  "infer",
  "kernels",
  "models",
  "parallel",
  "train",
)

INSTALL = [
  "jax>=0.10.2",
  "absl-py>=2",
  "flax>=0.12",
  "optax>=0.2.8",
  "orbax-checkpoint>=0.12",
  "grain>=0.2.18",
  "array_record>=0.8",
  "sentencepiece>=0.2.1",
  "tokenizers>=0.23",
  "ml-collections>=1.1",
  "pyarrow>=18",
  "tensorflow-datasets>=4.9.10",
  "importlib_resources>=6",  # which TFDS needs and does not name
  "jaxtyping>=0.3",
  "matplotlib>=3.9",
  "rich>=13.7",
  "jinja2>=3.1.6",
  "tensorboardX>=2.6.2",
  "scipy>=1.13",
  "fsspec>=2024.6",
]
# Of the cleaning steps `classifier` and `language`.
CLEAN = ["scikit-learn>=1.6", "py3langid>=0.4"]
# Output by regular expression, JSON schema or grammar.
CONSTRAIN = ["llguidance>=1.9"]
EVAL = ["lm-eval>=0.4.13"]
TEST = [
  *CONSTRAIN,
  "jsonschema>=4.23",
  "pytest>=8",
  "pytest-xdist>=3.6",
  "beartype>=0.20",
  "psutil>=6",
  *CLEAN,
  "jupytext>=1.19",
  "nbclient>=0.11",
  "ipykernel>=7",
  "datasketch>=2",
  "datasets>=5",
  "wandb>=0.31",
]
EXTRAS = {
  "test": TEST,
  "clean": CLEAN,
  "hf": ["datasets>=5"],
  "beam": ["apache-beam>=2.77"],
  "constrain": CONSTRAIN,
  # Tasks of lm-evaluation-harness on our models.
  "eval": EVAL,
  # Independent references. torch 2.13.0 has a CPU build.
  "parity": [
    "torch==2.13.0",
    "transformers>=5",
    "pytorch-optimizer>=4.1",
    "schedulefree>=1.4",
    "rwkv==0.8.32",
    *EVAL,
    "accelerate>=1.15",  # which lm-eval's own model imports
  ],
  "lint": ["ruff==0.17.6", "pyright[nodejs]==1.1.414", "pre-commit>=4"],
  "wandb": ["wandb>=0.31"],
  "tpu": ["jax[tpu]>=0.10.2"],
  "gpu": ["jax[cuda13]>=0.10.2"],
}

packages = find_namespace_packages(str(HERE), include=["ablax", "ablax.*"])
package_dir = {"ablax": "ablax"}
for folder in FOLDERS:
  package_dir[f"ablax.{folder}"] = folder
  found = find_namespace_packages(str(HERE / folder))
  packages += [f"ablax.{folder}"] + [f"ablax.{folder}.{p}" for p in found]

init = (HERE / "ablax/__init__.py").read_text(encoding="utf-8")
version = re.search(r'__version__ = "(.+?)"', init)
assert version

setup(
  name="ablax",
  version=version[1],
  description="Ablation papers on language models, in JAX",
  long_description=(HERE / "README.md").read_text(encoding="utf-8"),
  long_description_content_type="text/markdown",
  license="Apache-2.0",
  python_requires=">=3.11",
  packages=[p for p in packages if "__pycache__" not in p],
  package_dir=package_dir,
  install_requires=INSTALL,
  extras_require=EXTRAS,
  entry_points={"console_scripts": ["ablax = ablax.__main__:main"]},
)
