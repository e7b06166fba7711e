"""muP: the learning rate of each parameter by its width.

Where `model.mup_base` is set, opt.lr is the proxy's, and a parameter's own
rate is that times the factor of the entry's `width_factor(options, spec)`:

    AdamW, Lion, Adan, schedule-free AdamW      1 / r_in      entrywise
    Adafactor without scale_by_param            1 / r_in      entrywise
    SGD                                         r_out / r_in  by_gradient
    Muon                                        its file says
    LAMB, Shampoo, SOAP, Sophia; Adafactor      refused, with the reason
      with scale_by_param

with r_in and r_out as `models/mup.py` counts them. That all updates whose
entries are about 1 are alike is Yang and Littwin 2023, arXiv:2308.01814. Two
things are not scaled: Adam's epsilon, which should be far below gradients of
1/width, and opt.clip_norm, of a norm that hardly changes with the width under
Adam's and Muon's rules, which are blind to it anyway.

Weight decay is independent of these factors: rate times decay stays the
proxy's, as in the package `mup` and as Wortsman et al. 2023, arXiv:2309.14322
(section 3.2) and Wang and Aitchison 2024, arXiv:2405.13698, find it best.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax

from ...errors import UserError
from ...models.mup import growth
from ...models.param import ParamSpec

Rule = Callable[[Any, ParamSpec], float]


def entrywise(options: Any, spec: ParamSpec) -> float:
  """For updates whose entries are as large whatever the gradient is."""
  del options
  n_in, _ = growth(spec)
  return 1 / n_in


def by_gradient(options: Any, spec: ParamSpec) -> float:
  """For updates that are as large as the gradient."""
  del options
  n_in, n_out = growth(spec)
  return n_out / n_in


def unknown(name: str, reason: str) -> Rule:
  """For an entry without a rule: refuses muP with the reason."""

  def refuse(options: Any, spec: ParamSpec) -> float:
    del options, spec
    raise UserError(
      f"model.mup_base with opt.name={name!r}: {reason}; use adamw, or"
      " model.mup_base=0"
    )

  return refuse


def width_factors(
  name: str, rule: Rule | None, options: Any, specs: Mapping[str, Any]
) -> Any | None:
  """The factor of each parameter's rate; None where muP is off."""
  if not any(spec.base_shape for spec in jax.tree.leaves(specs)):
    return None
  if rule is None:
    rule = unknown(name, "its file has no width_factor, a rule of the rate")
  return jax.tree.map(lambda spec: rule(options, spec), specs)
