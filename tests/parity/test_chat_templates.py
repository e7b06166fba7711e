"""Chat templates are rendered as transformers renders them."""

import json

import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from ablax.errors import UserError
from ablax.infer.chat import TEMPLATES, render

PROVES = ("feature:chat",)

# In the manner of the published ones: white space control, loop variables,
# namespaces, macros, filters, dates, refusals, loop controls, tools.
INST = """\
{%- if messages[0]['role'] == 'system' %}
    {%- set system = messages[0]['content'] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('roles must alternate') }}
    {%- endif %}
    {%- if message['role'] == 'user' %}
        {%- if loop.first and system is defined %}
            {{- '[INST] ' + system + '\\n\\n' }}
            {{- message['content'] + '[/INST]' }}
        {%- else %}
            {{- '[INST] ' + message['content'] + '[/INST]' }}
        {%- endif %}
    {%- elif message['role'] == 'assistant' %}
        {{- ' ' + message['content'] | trim + eos_token }}
    {%- endif %}
{%- endfor %}
"""
HEADERS = """\
{{- bos_token }}
{%- set date = strftime_now("%Y") if strftime_now is defined else "2024" %}
{%- for message in messages %}
  {%- if 'tool_calls' in message %}
    {%- for call in message.tool_calls %}
{{ '<|call|>' }}{"name": "{{ call.function.name }}", "arguments": \
{{ call.function.arguments | tojson }}}
    {%- endfor %}
    {%- continue %}
  {%- endif %}
{{ '<|' + message.role + '|>' }} {{ date }}
{%- if message.content is string %}
{{ message.content }}
{%- else %}
    {%- for part in message.content %}
        {%- if part.type == 'text' %}{{ part.text }}{% else %}<{{ part.type }}>\
{% endif %}
    {%- endfor %}
{%- endif %}
<|eot|>
{%- endfor %}
{% if add_generation_prompt %}
<|assistant|>
{% endif %}
"""
TOOLS = """\
{% macro show(tool) %}
{{ tool.function.name }}: {{ tool.function | tojson(indent=2) }}
{% endmacro %}
{% set ns = namespace(last=-1, n=0) %}
{% for m in messages %}
  {% if m.role == 'user' %}
    {% set ns.last = loop.index0 %}
    user {{ loop.index }}
  {% endif %}
{% endfor %}
{% if tools %}
# Tools
{% for tool in tools %}
{{ show(tool) }}
{% set ns.n = ns.n + 1 %}
{% endfor %}
{{ ns.n }} in all
{% endif %}
{% for m in messages %}
{% if loop.index0 > ns.last and m.reasoning_content is defined %}
<think>{{ m.reasoning_content.strip('\\n') }}</think>
{% endif %}
{% generation %}
{{ m.role }}: {{ (m.content or 'nothing') | upper }}
{% endgeneration %}
{% if loop.index > 7 %}{% break %}{% endif %}
{% endfor %}
{% for d in documents or [] %}[{{ d.title }}]({{ d.text | length }}){% endfor %}
{{ dict(a=1).items() | list }}
{{ messages | map(attribute='role') | join('-') }}
"""
SCHEMA = {
  "type": "function",
  "function": {
    "name": "weather",
    "description": "Today's <weather> & more: „é日“",
    "parameters": {
      "type": "object",
      "properties": {"city": {"type": "string", "enum": ["a", "b"]}},
    },
  },
}
TURNS = [
  {"role": "system", "content": " You are 'kind'.\n"},
  {"role": "user", "content": '  1 < 2 && "x" é日 🙂\n\n{{ 7*7 }}'},
  {"role": "assistant", "content": "yes \n", "reasoning": "\nwell\n"},
  {"role": "user", "content": ""},
]
CALLS = [
  {
    "role": "user",
    "content": [{"type": "text", "text": "a"}, {"type": "image"}],
  },
  {
    "role": "assistant",
    "content": None,
    "thinking": "hm",
    "tool_calls": [
      {"function": {"name": "weather", "arguments": {"city": "a", "n": 1.5}}}
    ],
  },
  {"role": "tool", "content": '{"t": -3}', "name": "weather"},
]
TEMPLATE = {**TEMPLATES, "inst": INST, "headers": HEADERS, "tools": TOOLS}
CHATS = {"turns": TURNS, "first": TURNS[1:2], "calls": CALLS}


@pytest.mark.parametrize("prompt", [False, True])
@pytest.mark.parametrize("chat", CHATS)
@pytest.mark.parametrize("template", TEMPLATE)
def test_the_text_is_that_of_transformers(template, chat, prompt):
  arguments = {
    "tools": [SCHEMA, SCHEMA],
    "documents": [{"title": "t", "text": "abc"}],
    "add_generation_prompt": prompt,
    "bos_token": "<s>",
    "eos_token": "</s>",
  }
  # What apply_chat_template does before it renders.
  messages = [
    {k: v for k, v in message.items() if v is not None}
    for message in json.loads(json.dumps(CHATS[chat]))
  ]
  try:
    (expected,), _ = render_jinja_template(
      [messages], chat_template=TEMPLATE[template], **arguments
    )
  except Exception:
    # Theirs is a traceback.
    with pytest.raises(UserError):
      render(TEMPLATE[template], CHATS[chat], **arguments)
    assert (template, chat) in (
      ("inst", "calls"),
      ("chatml", "calls"),
      ("tools", "calls"),
    )
  else:
    assert render(TEMPLATE[template], CHATS[chat], **arguments) == expected
    assert expected.strip()
