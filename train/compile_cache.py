"""JAX's compiled programs on disk, shared between processes.

A program is found again by its text, its devices and the versions: the seeds
of an arm share all of theirs, for a seed is in the state. Numbers of the config
stand in the programs that use them: arms that differ in opt.lr share all but
the update itself.
"""

import pathlib

import jax


def use_compile_cache(folder: pathlib.Path) -> None:
  """Keeps what this process compiles from now on, and finds what is there.

  Any number of processes may use a folder; it can be deleted at any time.
  """
  folder.mkdir(parents=True, exist_ok=True)
  for name, value in {
    "jax_compilation_cache_dir": str(folder.absolute()),
    # However small: a run compiles dozens of programs, each in under 1 s.
    "jax_persistent_cache_min_compile_time_secs": 0.0,
    "jax_persistent_cache_min_entry_size_bytes": -1,
  }.items():
    jax.config.update(name, value)
