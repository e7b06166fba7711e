"""`ablax sample`: generates text from a trained model."""

import argparse
import dataclasses
import json
import pathlib
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from .__main__ import guarded
from .errors import UserError, nearest
from .flags import Parser, add_flags, given, whole_number, with_hyphens

if TYPE_CHECKING:
  from .infer.settings import Sampling
  from .infer.text import Completion

_EXAMPLES = """\
examples:
  ablax sample --workdir=runs/tiny --prompt="def " --temperature=0.8
  ablax sample --workdir=runs/tiny --prompt="The " --prompt="A " --greedy
  ablax sample --workdir=runs/tiny --prompt="def " --stop=$'\\n\\n' --min-p=0.05
  ablax sample --workdir=runs/tiny --prompt="def " --decoding=beam --beams=8
  ablax sample --workdir=runs/tiny --prompt="born in " --regex="[0-9]{4}"
  ablax sample --workdir=runs/tiny --prompt="def " --num=4 --json
  ablax sample --workdir=runs/tiny --chat     # a conversation, by hand
  ablax sample --workdir=runs/tiny            # a line at a time, by hand
  ablax sample --workdir=runs/tiny < prompts  # one prompt a line
"""
_GROUPS = {
  "which tokens": "temperature top_k top_p min_p typical_p epsilon_cutoff"
  " eta_cutoff logit_bias repetition_penalty frequency_penalty presence_penalty"
  " guidance_scale negative_prompt filters seed",
  "what the text must be": "regex json_schema grammar constraints",
  "when to stop": "max_tokens stop",
}
_IN_FILES = ("json_schema", "grammar")


def _parser() -> argparse.ArgumentParser:
  from .infer.settings import Sampling

  parser = Parser(
    prog="ablax sample",
    usage="ablax sample --workdir=DIR [--prompt=TEXT ...] [options]",
    description=(
      "Continues prompts with a trained model. Without --prompt, prompts are"
      " read from the terminal or, one a line, from a pipe."
    ),
    epilog=_EXAMPLES,
    formatter_class=argparse.RawDescriptionHelpFormatter,
    allow_abbrev=False,
  )
  add = parser.add_argument
  add("--workdir", required=True, metavar="DIR", help="of the training run")
  add(
    "--step",
    type=whole_number,
    metavar="N",
    help="update whose checkpoint to load; default: the latest",
  )
  add(
    "--prompt",
    action="append",
    metavar="TEXT",
    help="text to continue; may be given several times",
  )
  add(
    "--num",
    dest="n",
    type=whole_number,
    default=argparse.SUPPRESS,
    metavar="N",
    help="completions of each prompt; default: 1",
  )
  add("--json", action="store_true", help="one JSON object a line")
  chat = parser.add_argument_group("chat")
  chat.add_argument(
    "--chat",
    nargs="?",
    const="chatml",
    metavar="NAME|FILE",
    help="prompts are what a user says: a template's name, or a file with one;"
    " alone: chatml",
  )
  chat.add_argument("--system", metavar="TEXT", help="the first message")
  chat.add_argument("--tools", metavar="FILE", help="JSON schemas, a list")
  for title, names in _GROUPS.items():
    add_flags(parser, title, Sampling, names.split(), _IN_FILES)
  parser.add_argument(
    "--greedy", action="store_true", help="the same as --temperature=0"
  )
  search = parser.add_argument_group("how to search")
  search.add_argument(
    "--decoding",
    default="sample",
    metavar="WORD",
    help="sample, best_of_n, beam, diverse_beam, contrastive, nbce, or one of"
    " the run's plugins; with --help: its options",
  )
  search.add_argument(
    "--rows",
    type=whole_number,
    metavar="N",
    help="rows that are computed together; default: 4 on a CPU, else 32",
  )
  return parser


def _parse(argv: Sequence[str]) -> tuple[argparse.Namespace, Any]:
  """The arguments, and the options of the decoding that they name."""
  argv, options = with_hyphens(argv), None
  parser = _parser()
  first = Parser(add_help=False, allow_abbrev=False)
  first.add_argument("--decoding", default="sample")
  first.add_argument("--workdir", default="")
  known, _ = first.parse_known_args(argv)
  # Only a decoding with options waits for JAX before it shows its help.
  if (word := known.decoding) != "sample":
    from .infer.decoding import DECODERS

    if word not in DECODERS:
      _load_plugins(pathlib.Path(known.workdir).expanduser())
    options = DECODERS.options(word)
    names = [field.name for field in dataclasses.fields(options)]
    add_flags(parser, f"options of {word}", options, names)
  args, unknown = parser.parse_known_args(argv)
  if unknown:
    flags = [name for a in parser._actions for name in a.option_strings]
    raise UserError(
      f"{unknown[0]} is no flag with --decoding={word}"
      f"{nearest(unknown[0].split('=')[0], flags)}"
    )
  return args, options and options(**given(args, options))


def _load_plugins(workdir: pathlib.Path) -> None:
  """Those of the run's config, where there is a run."""
  from .train.config_files import load_plugins
  from .train.workdir import read_run

  if (workdir / "config.json").is_file():
    load_plugins(tuple(read_run(workdir)["config"]["plugins"]))


def _sampling(args: argparse.Namespace) -> "Sampling":
  from .infer.settings import Sampling

  settings = given(args, Sampling)
  if args.greedy:
    if "temperature" in settings:
      raise UserError("--greedy is --temperature=0; give one of them")
    settings["temperature"] = 0.0
  for name in _IN_FILES:
    if name in settings:
      settings[name] = _text_of(f"--{name.replace('_', '-')}", settings[name])
  return Sampling(**settings)


def _text_of(flag: str, name: str) -> str:
  file = pathlib.Path(name)
  if not file.is_file():
    raise UserError(f"{flag}={name}: there is no such file")
  try:
    return file.read_text(encoding="utf-8")
  except UnicodeDecodeError:
    raise UserError(
      f"{flag}={name} is not UTF-8; save it as UTF-8 text"
    ) from None


class _Chat:
  """A conversation: prompts are what a user says in it."""

  def __init__(self, args: argparse.Namespace, tokenizer: Any):
    from .infer.chat import end_of_turn, load_template

    self._name = args.chat
    self._tokenizer = tokenizer
    self._template = load_template(args.chat)
    self._tools = None
    if args.tools:
      try:
        self._tools = json.loads(_text_of("--tools", args.tools))
      except (json.JSONDecodeError, RecursionError) as error:
        raise UserError(
          f"--tools={args.tools} is not JSON: {error}; write a list of schemas"
        ) from None
      listed = isinstance(self._tools, list)
      if not listed or not all(isinstance(t, dict) for t in self._tools):
        raise UserError(
          f"--tools={args.tools} must be a list of objects, the schemas of"
          ' functions; write [{"name": ...}]'
        )
    self._said = []
    if args.system:
      self._said.append({"role": "system", "content": args.system})
    end = end_of_turn(self._template, tokenizer)
    self.stop = (end,) if end else ()

  def prompt(self, text: str) -> list[int]:
    """What was said so far, then `text`, then the beginning of an answer."""
    from .infer.chat import encode_chat

    said = [*self._said, {"role": "user", "content": text}]
    ids = encode_chat(self._template, self._tokenizer, said, tools=self._tools)
    if not ids:
      raise UserError(
        f"chat={self._name!r} makes no text of these messages; use a template"
        " that does, such as chatml"
      )
    return ids

  def add(self, text: str, answer: str) -> None:
    self._said += [
      {"role": "user", "content": text},
      {"role": "assistant", "content": answer},
    ]


def _converse(what: str, continue_one: Callable[[str], None]) -> None:
  """Continues what is typed, line by line, until the end of input."""
  print(f"Type {what}; Ctrl-D ends.", file=sys.stderr)
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
  args, options = _parse(argv)
  sampling = _sampling(args)
  for flag in ("system", "tools"):
    if (value := getattr(args, flag)) is not None and not args.chat:
      raise UserError(
        f"--{flag}={value[:40]} is part of a chat; add --chat, or drop it"
      )

  # After --help, which shall not wait for JAX.
  from rich.console import Console

  from .infer.sampling import generate
  from .train.checkpoint import load_model

  config, params, tokenizer = load_model(args.workdir, step=args.step)
  chat = _Chat(args, tokenizer) if args.chat else None
  if chat:
    stop = (*sampling.stop, *chat.stop)
    sampling = dataclasses.replace(sampling, stop=stop)

  def completions(
    prompts: Sequence[str], on_text: Callable[[int, str], None] | None = None
  ) -> list["Completion"]:
    return generate(
      config.model,
      params,
      tokenizer,
      [chat.prompt(p) for p in prompts] if chat else prompts,
      sampling,
      on_text,
      decoding=args.decoding,
      options=options,
      n_rows=args.rows,
    )

  def say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()

  def continue_one(prompt: str) -> None:
    # With the first text, so that an error stands on a line of its own.
    start = iter(["" if chat else prompt])
    (completion,) = completions(
      [prompt], lambda _, text: say(next(start, "") + text)
    )
    say(next(start, "") + "\n")
    if chat:
      chat.add(prompt, completion.text)

  def continue_all(prompts: Sequence[str]) -> None:
    console = Console(highlight=False, markup=False)
    for i, completion in enumerate(completions(prompts)):
      prompt = prompts[i // sampling.n]
      if args.json:
        line = {"prompt": prompt, **dataclasses.asdict(completion)}
        print(json.dumps(line, ensure_ascii=False))
        continue
      console.rule(f"{i + 1}: {completion.finish}", align="left", style="dim")
      say(f"{'' if chat else prompt}{completion.text}\n")

  prompts = args.prompt
  if prompts is None and sys.stdin.isatty():
    what = "a message" if chat else "the beginning of a text"
    alone = sampling.n == 1 and not args.json
    _converse(what, continue_one if alone else lambda p: continue_all([p]))
    return 0
  if prompts is None:
    prompts = sys.stdin.read().splitlines()
    if not prompts:
      raise UserError(
        "standard input holds no prompt; give --prompt=TEXT, or a prompt a line"
      )
  if len(prompts) == 1 and sampling.n == 1 and not args.json:
    continue_one(prompts[0])
  else:
    continue_all(prompts)
  return 0


if __name__ == "__main__":
  sys.exit(guarded(main, sys.argv[1:]))
