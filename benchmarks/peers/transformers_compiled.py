"""As transformers_llama.py, with forward and backward under torch.compile."""

from transformers_llama import make_with
from worker import serve

if __name__ == "__main__":
  serve(lambda shape: make_with(shape, compiled=True))
