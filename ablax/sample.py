"""`ablax sample`: generates text from a trained model."""

import argparse
import sys
from collections.abc import Callable, Sequence

from .__main__ import guarded
from .errors import UserError

_EXAMPLES = """\
examples:
  ablax sample --workdir=runs/tiny --prompt="def " --temperature=0.8
  ablax sample --workdir=runs/tiny --prompt="The " --prompt="A " --greedy
  ablax sample --workdir=runs/tiny --prompt="def " --stop=$'\\n\\n'
  ablax sample --workdir=runs/tiny            # a line at a time, by hand
  ablax sample --workdir=runs/tiny < prompts  # one prompt a line
"""


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    prog="ablax sample",
    description=(
      "Continues prompts with a trained model. Without --prompt, prompts are"
      " read from the terminal or, one a line, from a pipe."
    ),
    epilog=_EXAMPLES,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  add = parser.add_argument
  add("--workdir", required=True, metavar="DIR", help="of the training run")
  add(
    "--step",
    type=int,
    help="update whose checkpoint to load; default: the latest",
  )
  add(
    "--prompt",
    action="append",
    metavar="TEXT",
    help="text to continue; may be given several times",
  )
  heat = parser.add_mutually_exclusive_group()
  heat.add_argument(
    "--temperature",
    type=float,
    default=1.0,
    metavar="X",
    help="below 1: likelier tokens; above 1: more variety (default: 1)",
  )
  heat.add_argument(
    "--greedy", action="store_true", help="always the likeliest token"
  )
  add(
    "--top-k",
    type=int,
    default=0,
    metavar="K",
    help="choose among the K likeliest tokens (default: all)",
  )
  add(
    "--top-p",
    type=float,
    default=1.0,
    metavar="P",
    help="choose among the likeliest tokens of total probability P"
    " (default: 1, all)",
  )
  add(
    "--max-tokens",
    type=int,
    default=100,
    metavar="N",
    help="tokens to generate for each prompt, at most (default: 100)",
  )
  add(
    "--stop",
    action="append",
    default=[],
    metavar="TEXT",
    help="text that ends a continuation; may be given several times",
  )
  add(
    "--seed",
    type=int,
    default=0,
    metavar="N",
    help="the same seed gives the same text (default: 0)",
  )
  return parser


def _converse(continue_one: Callable[[str], None]) -> None:
  """Continues what is typed, line by line, until the end of input."""
  print("Type the beginning of a text; Ctrl-D ends.", file=sys.stderr)
  while True:
    try:
      prompt = input("> ")
    except EOFError:
      print()
      return
    try:
      continue_one(prompt)
    except UserError as error:
      print(f"error: {error}", file=sys.stderr)


def main(argv: list[str]) -> int:
  args = _parser().parse_args(argv)

  # After --help, which shall not wait for JAX.
  from rich.console import Console

  from .infer.sampling import Sampling, generate
  from .train.checkpoint import load_model

  sampling = Sampling(
    temperature=0.0 if args.greedy else args.temperature,
    top_k=args.top_k,
    top_p=args.top_p,
    max_tokens=args.max_tokens,
    stop=tuple(args.stop),
    seed=args.seed,
  )
  config, params, tokenizer = load_model(args.workdir, step=args.step)

  def say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()

  def continue_one(prompt: str) -> None:
    say(prompt)
    generate(
      config.model,
      params,
      tokenizer,
      [prompt],
      sampling,
      on_text=lambda _, text: say(text),
    )
    say("\n")

  def continue_all(prompts: Sequence[str]) -> None:
    completions = generate(config.model, params, tokenizer, prompts, sampling)
    console = Console(highlight=False, markup=False)
    for i, (prompt, completion) in enumerate(
      zip(prompts, completions, strict=True), start=1
    ):
      console.rule(f"{i}: {completion.finish}", align="left", style="dim")
      say(f"{prompt}{completion.text}\n")

  prompts = args.prompt
  if prompts is None and sys.stdin.isatty():
    _converse(continue_one)
    return 0
  if prompts is None:
    prompts = sys.stdin.read().splitlines()
  if len(prompts) == 1:
    continue_one(prompts[0])
  else:
    continue_all(prompts)
  return 0


if __name__ == "__main__":
  sys.exit(guarded(main, sys.argv[1:]))
