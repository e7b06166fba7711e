"""Every common key, once, with its unit and meaning. Other configs start here.

A config file is a function of values:

    from ablax.configs import base

    def get_config():
      config = base.get_config()
      config.model.d_model = 512
      return config

`<namespace>.opts.<entry>.<option>` holds what only one registry entry knows,
as in `config.model.opts.rope = {"rope_theta": 5e5}`; the entry's file lists
them.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  c = ConfigDict()
  c.seed = 0  # of the initial weights and dropout; data has its own
  c.steps = 1000  # optimizer updates
  c.plugins = ()  # files outside the repo that register entries
  c.init_from = ""  # workdir whose parameters to start from; not a resume

  m = c.model = ConfigDict()
  m.d_model = 256  # D, width of the residual stream
  m.n_layers = 4  # L
  m.n_heads = 4  # N, query heads
  m.n_kv_heads = 0  # K, key and value heads; 0: n_heads
  m.head_dim = 0  # H; 0: d_model / n_heads
  m.ff_dim = 0  # F; 0: 8/3 d_model, rounded up to a multiple of 16
  m.vocab_size = 0  # V; 0: the tokenizer's, up to a multiple of 64
  m.max_len = 1024  # tokens, the context that sampling may fill
  # Layers in turn, tiled over the depth: MIXER, or MIXER/FFN for another ffn
  # than model.ffn.
  m.pattern = ("attention",)
  m.first = ()  # layers before the pattern begins
  m.mixer = ""  # short for pattern = (mixer,)
  m.position = "auto"  # rope where a mixer of the pattern uses one, else none
  m.ffn = "glu"
  m.norm = "rms_norm"
  m.norm_eps = 1e-5
  # pre | post | after | sandwich | parallel | parallel_norms | deep_norm:
  # where the norms of a layer stand; models/block.py
  m.residual = "pre"
  m.tie_embeddings = True  # the output matrix is the embedding table
  m.output_bias = False  # of the logits, as Phi's
  m.embed_rank = 0  # numbers of a token before they are made D; 0: D at once
  # With both of these: the map that makes them D, transposed, also leads back.
  m.tie_embed_maps = True
  m.embed_scale = 1.0  # times the embeddings: sqrt(D) in Gemma
  m.embed_norm = False  # a norm of the embeddings, as BLOOM's
  # Modules that predict tokens further on, for objective.name = "multi_token";
  # 0: none.
  m.n_ahead = 0
  m.use_bias = False  # biases in every projection
  m.dropout = 0.0  # after embedding, mixer and ffn; in [0, 1)
  # Drop probability of the last layer's branches, per example; it rises
  # linearly from 0 at the first layer. In [0, 1); 0: none.
  m.stochastic_depth = 0.0
  m.init_scale = 1.0  # times the initial standard deviation
  # muP: d_model of the proxy that opt.lr was tuned on; 0: off. All else is as
  # it was there, but for what grows with d_model: ff_dim and, says mup_grows,
  # n_heads (head_dim is the proxy's) or head_dim (n_heads is).
  m.mup_base = 0
  m.mup_grows = ""
  m.logits_soft_cap = 0.0  # cap * tanh(logits / cap); 0: none
  m.param_dtype = "float32"
  # float32 | bfloat16 | float16 (with opt.loss_scale) | auto: bfloat16 where
  # the device has it, float16 on an older GPU, float32 on a CPU. A run keeps,
  # and hashes, what auto came to.
  m.compute_dtype = "float32"
  m.matmul = "default"  # of every projection: default | fp8
  m.remat = "dots"  # none | dots | no_batch_dots | full; models/block.py
  m.scan_unroll = 1  # layer groups per iteration of the layer loop
  m.implementation = "auto"  # of kernels: auto, or one of kernels/dispatch.py
  m.opts = ConfigDict()

  o = c.opt = ConfigDict()
  o.name = "adamw"
  o.lr = 1e-3  # peak learning rate
  o.schedule = "cosine"
  o.warmup_steps = 0  # updates of linear warm-up, before the schedule
  o.weight_decay = 0.1  # decoupled; times the matching decay rule
  o.clip_norm = 1.0  # of the global gradient; 0: none
  o.accum_steps = 1  # microbatches per update
  # With float16: the gradient of (mean loss * scale) is taken. A step that
  # overflows is skipped and halves the scale; loss_scale_growth good ones in a
  # row double it; one that would fall below loss_scale_min ends the run.
  o.loss_scale = 65536.0  # at the start
  o.loss_scale_growth = 2000  # updates
  o.loss_scale_min = 1.0
  # (regex, factor) lists, factors of opt.lr and of opt.weight_decay. Rules may
  # overlap: the first that matches a parameter's path counts. Every parameter
  # must have one, and every rule must count for one.
  o.lr_rules = ((".*", 1.0),)
  # Rate of a layer, as a share of the next one's; 1: off. The embedding has the
  # least, and with model.tie_embeddings the output matrix is the embedding.
  o.layer_decay = 1.0
  o.decay_rules = (
    (
      r"(^|/)(\w*bias|scale|sinks|alpha|lambda_\w+"
      r"|log_\w+|frequency|skip|bonus|mix\w*)$",
      0.0,
    ),
    (".*", 1.0),
  )
  o.average = "none"  # of the weights, to evaluate with
  o.opts = ConfigDict()

  d = c.data = ConfigDict()
  # A synthetic task in place of text, as in "mqar": data/tasks/ has them, with
  # their options. Then the keys of text keep their defaults, checkpoint.best is
  # "loss", and there are no prompts but those that are set.
  d.task = ""
  # (source, weight, most epochs); 0 epochs: any number. A source is NAME or
  # NAME:WHAT, as in text:notes/ and tfds:three_kingdoms. A fourth element
  # holds options of this one alone, over those of data.opts.NAME, as in
  # ("hf:notes", 1.0, 0.0, {"split": "test", "column": "body"}).
  d.mixture = (("stdlib", 1.0, 0.0),)
  d.source = ""  # short for mixture = ((source, 1.0, 0.0),)
  d.balance = "shares"  # what weights are: shares of the rows | epochs
  d.temperature = 1.0  # shares to the power 1/temperature
  d.clean = ()  # cleaning steps in turn, as in ("gopher", "exact")
  d.tokenizer = "bpe"
  d.vocab_size = 4096  # of the tokenizer, where it is trained
  d.tokenizer_bytes = 4_000_000  # of text that the tokenizer is trained on
  d.max_bytes = 0  # of text to use of each source; 0: all
  d.heldout_bytes = 200_000  # of each source: documents never trained on
  d.seq_len = 256  # T, tokens per row
  # T of other rows of the held-out text, scored too, as len=512/loss; 0: none
  d.eval_lengths = (0,)
  d.batch_size = 8  # B, rows per update, over all hosts
  d.seed = 0  # of the shuffle
  d.prefetch = 16  # batches read ahead
  d.opts = ConfigDict()

  b = c.objective = ConfigDict()
  b.name = "next_token"
  b.z_loss = 0.0  # weight of log(Z)^2
  b.label_smoothing = 0.0  # in [0, 1)
  b.opts = ConfigDict()

  e = c.eval = ConfigDict()
  e.every = 200  # updates; 0: only at the end
  # What rows longer than data.seq_len are scored with in place of rope: yarn,
  # ntk, linear, ..., with factor length / seq_len; "": as trained.
  e.stretch = ""
  e.prompts = ("def ", "The ")  # texts continued after training
  e.sample_tokens = 80  # tokens generated for each
  e.temperature = 0.8

  k = c.checkpoint = ConfigDict()
  k.every = 200  # updates; 0: only at the end
  k.keep = 2  # latest ones to keep, besides the best
  k.best = "bits_per_byte"  # held-out metric whose minimum is kept too

  h = c.mesh = ConfigDict()  # devices along each axis; -1: all that are left
  h.data = -1
  h.fsdp = 1
  h.tensor = 1
  h.sequence = 1
  h.expert = 1
  h.stage = 1
  h.rules = "fsdp"  # table in parallel/rules.py

  g = c.log = ConfigDict()
  g.every = 10  # updates between lines of metrics.jsonl
  g.progress = True  # bar on a terminal, lines elsewhere
  g.spike = 2.0  # nats above the running mean that count as a loss spike
  # Updates between lines of detail.jsonl: norms of gradients, weights and
  # updates, and activation statistics, by layer. 0: never.
  g.detail = 0
  g.noise_scale = False  # gradient noise scale, from microbatches; in tokens
  g.wandb = ""  # online | offline: Weights & Biases too
  g.project = "ablax"  # there
  return c
