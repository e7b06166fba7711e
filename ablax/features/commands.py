"""What a command does, and models and runs that are configs of their own."""

from .feature import Feature

FEATURES = {
  "ablate": Feature(
    "ablax ablate",
    "Ablations: arms times seeds, fair budgets, paired tests, Holm",
    "Holm 1979, Scand. J. Statist. 6:65-70",
    "ablate/run.py",
  ),
  "report": Feature(
    "ablax report",
    "Report of an ablation: Markdown, LaTeX, HTML and figures from its record",
    "",
    "ablate/report.py",
  ),
  "diff": Feature(
    "ablax diff",
    "What two runs differ in, config and result",
    "",
    "ablax/diff.py",
  ),
  "beam": Feature(
    "ablax prepare --beam",
    "Cleaning by Apache Beam",
    "Akidau et al. 2015, doi:10.14778/2824032.2824076",
    "data/beam.py",
  ),
  "tokenizer_measures": Feature(
    "ablax tokenizer --source",
    "Compression and fertility of a tokenizer",
    "Rust et al. 2021, arXiv:2012.15613",
    "data/tokenizers/measure.py",
  ),
  "stop_texts": Feature(
    "ablax sample --stop",
    "Stop texts, wherever tokens have their borders",
    "OpenAI 2020",
    "infer/text.py",
  ),
  "chat": Feature(
    "ablax sample --chat",
    "Chat templates",
    "OpenAI 2023",
    "infer/chat.py",
  ),
  "profile": Feature(
    "ablax train --profile",
    "Traces of some updates, for xprof",
    "",
    "train/trace.py",
  ),
  "info": Feature(
    "ablax info",
    "A run's story; several runs side by side",
    "",
    "ablax/info.py",
  ),
  "zoo": Feature(
    "ablax train --config=configs/zoo.py",
    "Published architectures by name, as in configs/zoo.py:llama2_7b",
    "",
    "models/zoo/__init__.py",
  ),
  "small": Feature(
    "ablax train --config=configs/lm/small.py",
    "A Llama-style decoder of 32 M parameters",
    "Touvron et al. 2023, arXiv:2302.13971",
    "configs/lm/small.py",
  ),
  "llama_1b": Feature(
    "ablax train --config=configs/lm/llama_1b.py",
    "The shape of Llama 3.2 1B",
    "Grattafiori et al. 2024, arXiv:2407.21783",
    "configs/lm/llama_1b.py",
  ),
  "llama_7b": Feature(
    "ablax train --config=configs/lm/llama_7b.py",
    "The shape of Llama 2 7B",
    "Touvron et al. 2023, arXiv:2307.09288",
    "configs/lm/llama_7b.py",
  ),
}
