"""A small corpus with known dirt: English, Chinese and code, and what is wrong.

Every text is made from a seed. Sentences are drawn from word lists long enough
that two texts share next to no five words in a row.
"""

import random
from typing import NamedTuple

NOUNS = str.split(
  "river garden letter window teacher engine market forest harbour kitchen"
  " painter village ticket mountain library captain blanket theatre lantern"
  " orchard station pocket meadow doctor bridge sailor candle island farmer"
  " printer valley carpenter museum whistle shepherd cottage planet basket"
)
ADJECTIVES = str.split(
  "quiet narrow golden broken distant gentle early heavy hollow curious"
  " silver patient crooked famous empty bright frozen modern simple ancient"
)
VERBS = str.split(
  "follows carries remembers watches repairs describes avoids discovers"
  " measures crosses paints borrows praises answers studies visits protects"
  " imagines collects forgets"
)
PLACES = str.split(
  "near behind beyond above beside under inside across along towards"
)

SUBJECTS_ZH = str.split(
  "老师 农民 渔夫 画家 医生 孩子 邻居 船长 木匠 诗人 学生 商人 厨师 司机 记者"
  " 园丁 工程师 牧羊人 音乐家 图书管理员"
)
VERBS_ZH = str.split(
  "修理 描写 寻找 整理 观察 保护 收集 讨论 打扫 研究 称赞 想起 画出 搬走 带来"
  " 借走 卖掉 洗净"
)
OBJECTS_ZH = str.split(
  "窗户 小船 书信 灯笼 篮子 花园 桥梁 地图 毛毯 果园 钟表 风筝 石头 蜡烛 箱子"
  " 菜谱 帽子 竹椅"
)
TIMES_ZH = str.split(
  "清晨 傍晚 昨天 冬天 雨后 节日里 周末 午饭后 下雪时 回家前 春天 半夜"
)

# In no language that is kept: French, written for this file.
FRENCH = (
  "Le vieux jardinier traverse lentement la cour et regarde les arbres. Sa"
  " voisine lui demande pourquoi les pommes sont encore vertes. Il répond que"
  " l'été a été trop froid et que la pluie n'a jamais cessé. Alors ils"
  " s'assoient sur le banc près du mur et parlent des enfants, du marché et de"
  " la fête du village. Quand la nuit tombe, chacun rentre chez soi avec un"
  " panier rempli de poires."
)


class Document(NamedTuple):
  """A text, what it is, and the number of the document it is made from."""

  text: str
  kind: str
  origin: int = -1


def english(rng, n_sentences=20):
  """Returns paragraphs of four sentences, a line each."""

  def sentence():
    a, b, c = rng.sample(NOUNS, 3)
    x, y = rng.sample(ADJECTIVES, 2)
    return rng.choice(
      [
        f"The {x} {a} {rng.choice(VERBS)} the {b} {rng.choice(PLACES)} the {y}"
        f" {c}.",
        f"Of all that is {x}, the {a} {rng.choice(VERBS)} one {b} and"
        f" {rng.choice(VERBS)} the {c}.",
        f"With a {y} {b} {rng.choice(PLACES)} it, the {a} {rng.choice(VERBS)}"
        f" what the {x} {c} {rng.choice(VERBS)}.",
      ]
    )

  return _paragraphs([sentence() for _ in range(n_sentences)], " ")


def chinese(rng, n_sentences=24):
  def sentence():
    a, b = rng.sample(SUBJECTS_ZH, 2)
    x, y = rng.sample(OBJECTS_ZH, 2)
    return rng.choice(
      [
        f"{rng.choice(TIMES_ZH)}，{a}在{b}的门前{rng.choice(VERBS_ZH)}了{x}。",
        f"{a}不是要{rng.choice(VERBS_ZH)}{x}，而是帮{b}"
        f"{rng.choice(VERBS_ZH)}{y}。",
        f"这个{x}和那个{y}，都是{a}{rng.choice(TIMES_ZH)}从{b}家里"
        f"{rng.choice(VERBS_ZH)}的。",
      ]
    )

  return _paragraphs([sentence() for _ in range(n_sentences)], "")


def _paragraphs(sentences, space):
  lines = [
    space.join(sentences[i : i + 4]) for i in range(0, len(sentences), 4)
  ]
  return "\n\n".join(lines) + "\n"


def code(rng, n_functions=8):
  """Returns Python functions with docstrings."""
  found = []
  for _ in range(n_functions):
    a, b, c = rng.sample(NOUNS, 3)
    x = rng.choice(ADJECTIVES)
    found.append(
      f'def {x}_{a}({b}, {c}=None):\n  """Returns the {x} {a} of the {b} that'
      f' is {rng.choice(PLACES)} the {c}."""\n  if {c} is None:\n'
      f"    return {{{b!r}: {rng.randrange(1000)}}}\n"
      f"  return [{a} + {rng.randrange(1000)} for {a} in {b}.{x}({c})]\n"
    )
  return "\n\n".join(found)


def edited(rng, text, share, space=" "):
  """Returns `text` with `share` of its words, at random, made new ones."""
  units = text.split(" ") if space else list(text)
  for i in rng.sample(range(len(units)), round(share * len(units))):
    units[i] = f"new{rng.randrange(10**6)}" if space else rng.choice("甲乙丙丁")
  return space.join(units)


def corpus(seed=0, n=6):
  """Returns clean documents of three kinds, then what is made or added."""
  rng = random.Random(seed)
  found = [Document(english(rng), "english") for _ in range(n)]
  found += [Document(chinese(rng), "chinese") for _ in range(n)]
  found += [Document(code(rng), "code") for _ in range(n)]
  for origin in range(0, 3 * n, 2):
    text, kind, _ = found[origin]
    found.append(Document(text, "exact", origin))
    space = "" if kind == "chinese" else " "
    # One or two words of some 250: a resemblance of about 0.95.
    near = edited(rng, text, 0.006, space)
    found.append(Document(near, "near", origin))
  found += [
    Document(english(rng) + "Fuck you, go kill yourself, asshole.\n", "toxic"),
    Document(chinese(rng) + "去死吧，傻逼，我弄死你。\n", "toxic"),
    Document(english(rng, 2), "few words"),
    Document("Buy the best of cheap watches now\n" * 60, "duplicate lines"),
    Document(english(rng) + "lorem ipsum dolor sit amet.\n", "lorem ipsum"),
    Document("\n".join(f"- {w}" for w in NOUNS * 2), "menu"),
    Document(FRENCH, "french"),
  ]
  return found
