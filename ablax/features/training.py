"""Data, objective, optimizer, mesh and log: what a run may have besides."""

from .feature import Feature

FEATURES = {
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
  "packing": Feature(
    "data.seq_len=256",
    "Packed documents, best fit",
    "Ding et al. 2024, arXiv:2404.10830",
    "data/packing.py",
  ),
  "eval_lengths": Feature(
    "data.eval_lengths=512,1024",
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
  "wandb": Feature(
    "log.wandb=offline",
    "Weights & Biases as a sink",
    "Biewald 2020",
    "train/weights_and_biases.py",
  ),
}
