"""A plain program for each task: what is read up to a slot -> the answer.

None shares code with the generators. Each sees the ids of its segment up to
and with the slot where the answer is asked, and the options.
"""


def mqar(read, o, _):
  pairs = [(read[2 * i], read[2 * i + 1]) for i in range(o.n_pairs)]
  assert len(dict(pairs)) == o.n_pairs
  return dict(pairs)[read[-1]]


def in_context_recall(read, o, _):
  told = {}
  for i in range(0, len(read) - 1, 2):
    assert told.setdefault(read[i], read[i + 1]) == read[i + 1]
  return told[read[-1]]


def noisy_recall(read, o, _):
  told = {}
  for i in range(0, len(read) - 1, 2):
    if read[i] <= o.symbols:
      assert told.setdefault(read[i], read[i + 1]) == read[i + 1]
    else:
      assert read[i + 1] > o.symbols
  return told[read[-1]]


def fuzzy_recall(read, o, _):
  def is_key(symbol):
    return symbol <= o.symbols // 2

  runs = []
  for symbol in read:
    if not runs or is_key(symbol) != is_key(runs[-1][-1]):
      runs.append([])
    runs[-1].append(symbol)
  if is_key(runs[-1][-1]):
    runs.append([])
  *before, key, value = map(tuple, runs)
  told = {}
  for k, v in zip(before[::2], before[1::2], strict=True):
    assert told.setdefault(k, v) == v
  assert told[key][: len(value)] == value
  return told[key][len(value)]


def selective_copying(read, o, _):
  blank, sign = 1, 2
  at = read.index(sign)
  copied = [symbol for symbol in read[:at] if symbol != blank]
  return copied[len(read) - at - 2]


def compression(read, o, _):
  sign = 1
  first_index = 2 + o.symbols
  return read[: read.index(sign)][read[-1] - first_index]


def memorization(read, o, learned):
  return learned[read[-2]]


def induction_heads(read, o, _):
  if o.form == "trigger":
    return read[read.index(read[-1]) + 1]
  earlier = [i for i in range(len(read) - 1) if read[i] == read[-1]]
  return read[earlier[-1] + 1]


def dyck(read, o, _):
  is_open = []
  for symbol in read:
    if symbol <= o.n_brackets:
      is_open.append(symbol)
    else:
      assert is_open.pop() == symbol - o.n_brackets
    assert len(is_open) <= o.depth
  return is_open[-1] + o.n_brackets


def parity(read, o, _):
  bits = read if o.every_prefix else read[:-1]
  return 1 + sum(bit == 2 for bit in bits) % 2


def modular_addition(read, o, _):
  a, plus, b, equals = read
  assert (plus, equals) == (1, 2)
  return 3 + (a - 3 + b - 3) % o.modulus


def needle(read, o, _):
  mark = 1
  told = {read[i + 1]: read[i + 2] for i, s in enumerate(read) if s == mark}
  assert len(told) == o.n_needles
  return told[read[-1]]


def passkey(read, o, _):
  told, again, ask = (read.index(sign) for sign in (1, 2, 3))
  key = read[told + 1 : again]
  assert read[again + 1 : again + 1 + o.n_digits] == key
  return key[len(read) - ask - 1]


SOLVERS = {
  solver.__name__: solver
  for solver in (
    *(mqar, in_context_recall, noisy_recall, fuzzy_recall, selective_copying),
    *(compression, memorization, induction_heads, dyck, parity),
    *(modular_addition, needle, passkey),
  )
}
