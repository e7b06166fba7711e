"""Techniques without a registry of their own: a config key, or a command.

The catalog lists them beside the registries' entries. A test that proves one
says `PROVES = ("feature:NAME",)`.
"""

from typing import NamedTuple


class Feature(NamedTuple):
  """A technique, the config word that chooses it, and where it is written.

  Attributes:
    word: config key and a value, or a command with its flag.
    paper: "" for a command that is no paper's.
    file: relative to the root of the repository.
  """

  word: str
  technique: str
  paper: str
  file: str


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
  "mup": Feature(
    "model.mup_base=64",
    "muP: the learning rate of a narrow proxy",
    "Yang et al. 2022, arXiv:2203.03466",
    "models/mup.py",
  ),
  "mixture": Feature(
    "data.temperature=2.0",
    "Mixtures of sources, balanced by temperature",
    "Conneau et al. 2020, arXiv:1911.02116",
    "data/mixture.py",
  ),
  "prepare": Feature(
    "data.clean=exact,minhash",
    "Cleaning in passes, resumable, on several processes",
    "Penedo et al. 2024, arXiv:2406.17557",
    "data/clean.py",
  ),
  "beam": Feature(
    "ablax prepare --beam",
    "Cleaning by Apache Beam",
    "Akidau et al. 2015, doi:10.14778/2824032.2824076",
    "data/beam.py",
  ),
  "packing": Feature(
    "data.seq_len=256",
    "Packed documents, best fit",
    "Ding et al. 2024, arXiv:2404.10830",
    "data/packing.py",
  ),
  "pre_norm": Feature(
    "model.residual=pre",
    "Norms before the sublayers",
    "Xiong et al. 2020, arXiv:2002.04745",
    "models/block.py",
  ),
  "post_norm": Feature(
    "model.residual=post",
    "Norms after the sublayers",
    "Vaswani et al. 2017, arXiv:1706.03762",
    "models/block.py",
  ),
  "after_norm": Feature(
    "model.residual=after",
    "Norms of what the sublayers add",
    "Liu et al. 2022, arXiv:2111.09883",
    "models/block.py",
  ),
  "sandwich_norm": Feature(
    "model.residual=sandwich",
    "Norms before and after the sublayers",
    "Ding et al. 2021, arXiv:2105.13290",
    "models/block.py",
  ),
  "parallel_block": Feature(
    "model.residual=parallel",
    "Mixer and feed-forward network side by side",
    "Wang and Komatsuzaki 2021",
    "models/block.py",
  ),
  "parallel_norms": Feature(
    "model.residual=parallel_norms",
    "Mixer and feed-forward network side by side, each with its norm",
    "Black et al. 2022, arXiv:2204.06745",
    "models/block.py",
  ),
  "deep_norm": Feature(
    "model.residual=deep_norm",
    "DeepNorm",
    "Wang et al. 2022, arXiv:2203.00555",
    "models/block.py",
  ),
  "tied_embeddings": Feature(
    "model.tie_embeddings=True",
    "Output matrix tied to the embeddings",
    "Press and Wolf 2017, arXiv:1608.05859",
    "models/lm.py",
  ),
  "factorized_embedding": Feature(
    "model.embed_rank=64",
    "Factorized embeddings",
    "Lan et al. 2019, arXiv:1909.11942",
    "models/lm.py",
  ),
  "embed_scale": Feature(
    "model.embed_scale=16.0",
    "Embeddings times a factor, as sqrt(D)",
    "Vaswani et al. 2017, arXiv:1706.03762",
    "models/lm.py",
  ),
  "eval_lengths": Feature(
    "data.eval_lengths=512,2048",
    "Held-out text in longer rows than training's",
    "Press et al. 2022, arXiv:2108.12409",
    "train/evaluate.py",
  ),
  "eval_stretch": Feature(
    "eval.stretch=yarn",
    "Forms of RoPE on rows longer than training's",
    "Chen et al. 2023, arXiv:2306.15595",
    "models/positions/stretch.py",
  ),
  "output_bias": Feature(
    "model.output_bias=True",
    "A bias of the logits",
    "Li et al. 2023, arXiv:2309.05463",
    "models/lm.py",
  ),
  "embed_norm": Feature(
    "model.embed_norm=True",
    "A norm of the embeddings",
    "Le Scao et al. 2022, arXiv:2210.15424",
    "models/lm.py",
  ),
  "soft_cap": Feature(
    "model.logits_soft_cap=30.0",
    "Soft cap on the logits",
    "Gemma Team 2024, arXiv:2408.00118",
    "models/lm.py",
  ),
  "soft_cap_attention": Feature(
    "model.opts.attention.soft_cap=50.0",
    "Soft cap on the scores of attention",
    "Gemma Team 2024, arXiv:2408.00118",
    "kernels/flash_attention/reference.py",
  ),
  "attention_sinks": Feature(
    "model.opts.attention.sinks=True",
    "A learned score per head that joins the softmax",
    "OpenAI 2025, arXiv:2508.10925",
    "kernels/flash_attention/reference.py",
  ),
  "shared_experts": Feature(
    "model.opts.moe.shared_experts=1",
    "Shared and fine-grained experts (DeepSeekMoE)",
    "Dai et al. 2024, arXiv:2401.06066",
    "models/ffn/moe.py",
  ),
  "expert_capacity": Feature(
    "model.opts.moe.capacity_factor=1.25",
    "Experts of a fixed capacity, which drop who comes late",
    "Lepikhin et al. 2020, arXiv:2006.16668",
    "models/ffn/dispatch.py",
  ),
  "grouped_matmul": Feature(
    "model.opts.moe.capacity_factor=0.0",
    "Dropless experts: sorted tokens, grouped matmul",
    "Gale et al. 2022, arXiv:2211.15841",
    "kernels/grouped_matmul/xla.py",
  ),
  "upcycling": Feature(
    "init_from=runs/dense",
    "Sparse upcycling: experts that begin as a trained dense network",
    "Komatsuzaki et al. 2022, arXiv:2212.05055",
    "train/upcycle.py",
  ),
  "load_balance_loss": Feature(
    "model.opts.softmax.balance_loss=0.01",
    "Load-balancing loss of experts",
    "Fedus et al. 2021, arXiv:2101.03961",
    "models/routers/balance.py",
  ),
  "router_z_loss": Feature(
    "model.opts.softmax.z_loss=0.001",
    "z-loss of a router",
    "Zoph et al. 2022, arXiv:2202.08906",
    "models/routers/balance.py",
  ),
  "loss_free_balance": Feature(
    "model.opts.sigmoid.bias_rate=0.001",
    "Loss-free balancing of experts by a bias",
    "Wang et al. 2024, arXiv:2408.15664",
    "models/routers/balance.py",
  ),
  "qk_norm": Feature(
    "model.opts.attention.qk_norm=rms_norm",
    "Norms of queries and keys",
    "Dehghani et al. 2023, arXiv:2302.05442",
    "models/mixers/attention.py",
  ),
  "log_n": Feature(
    "model.opts.attention.log_n=1024",
    "Scores that grow with the logarithm of the length",
    "Chiang and Cholak 2022, arXiv:2202.12172",
    "models/mixers/attention.py",
  ),
  "clip_qkv": Feature(
    "model.opts.attention.clip_qkv=8.0",
    "Queries, keys and values cut to a range",
    "MosaicML 2023",
    "models/mixers/attention.py",
  ),
  "dropout": Feature(
    "model.dropout=0.1",
    "Dropout",
    "Srivastava et al. 2014",
    "models/context.py",
  ),
  "remat": Feature(
    "model.remat=full",
    "Activation recomputation",
    "Chen et al. 2016, arXiv:1604.06174",
    "models/block.py",
  ),
  "bfloat16": Feature(
    "model.compute_dtype=bfloat16",
    "Mixed precision in bfloat16",
    "Kalamkar et al. 2019, arXiv:1905.12322",
    "models/matmuls/default.py",
  ),
  "stochastic_depth": Feature(
    "model.stochastic_depth=0.1",
    "Stochastic depth",
    "Huang et al. 2016, arXiv:1603.09382",
    "models/context.py",
  ),
  "loss_scaling": Feature(
    "model.compute_dtype=float16",
    "Mixed precision in float16, with dynamic loss scaling",
    "Micikevicius et al. 2018, arXiv:1710.03740",
    "train/loss_scale.py",
  ),
  "layer_decay": Feature(
    "opt.layer_decay=0.8",
    "Layer-wise learning rates",
    "Howard and Ruder 2018, arXiv:1801.06146",
    "train/optimizers/rules.py",
  ),
  "noise_scale": Feature(
    "log.noise_scale=True",
    "Gradient noise scale",
    "McCandlish et al. 2018, arXiv:1812.06162",
    "train/noise.py",
  ),
  "detail": Feature(
    "log.detail=100",
    "Norms and activations, layer by layer",
    "Glorot and Bengio 2010",
    "train/detail.py",
  ),
  "blockwise_attention": Feature(
    "model.implementation=xla",
    "Attention by blocks, with recomputation",
    "Dao et al. 2022, arXiv:2205.14135",
    "kernels/flash_attention/xla.py",
  ),
  "chunked_cross_entropy": Feature(
    "model.implementation=auto",
    "Cross-entropy without all logits",
    "Hsu et al. 2024, arXiv:2410.10989",
    "kernels/cross_entropy/xla.py",
  ),
  "z_loss": Feature(
    "objective.z_loss=1e-4",
    "z-loss",
    "Chowdhery et al. 2022, arXiv:2204.02311",
    "kernels/cross_entropy/reference.py",
  ),
  "label_smoothing": Feature(
    "objective.label_smoothing=0.1",
    "Label smoothing",
    "Szegedy et al. 2016, arXiv:1512.00567",
    "kernels/cross_entropy/reference.py",
  ),
  "clipping": Feature(
    "opt.clip_norm=1.0",
    "Gradient clipping by the global norm",
    "Pascanu et al. 2013, arXiv:1211.5063",
    "train/step.py",
  ),
  "accumulation": Feature(
    "opt.accum_steps=4",
    "Gradient accumulation, equal to one big batch",
    "Ott et al. 2018, arXiv:1806.00187",
    "train/step.py",
  ),
  "data_parallel": Feature(
    "mesh.data=8",
    "Data parallelism",
    "Goyal et al. 2017, arXiv:1706.02677",
    "parallel/rules.py",
  ),
  "fully_sharded": Feature(
    "mesh.fsdp=8",
    "Sharded parameters and optimizer state",
    "Rajbhandari et al. 2020, arXiv:1910.02054",
    "parallel/rules.py",
  ),
  "tensor_parallel": Feature(
    "mesh.tensor=2",
    "Tensor parallelism",
    "Shoeybi et al. 2019, arXiv:1909.08053",
    "parallel/rules.py",
  ),
  "special_tokens": Feature(
    "data.opts.bpe.special_tokens=<end>",
    "Control tokens that no text can spell",
    "OpenAI 2023",
    "data/tokenizers/pieces.py",
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
  "wandb": Feature(
    "log.wandb=offline",
    "Weights & Biases as a sink",
    "Biewald 2020",
    "train/weights_and_biases.py",
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
