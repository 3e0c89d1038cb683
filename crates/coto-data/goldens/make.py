"""Writes *.gguf, tokens.json and chats.json with transformers (5.24), tokenizers, sentencepiece and gguf.

    python goldens/make.py SmolLM2-135M-Instruct.gguf

Tokenizers: `smollm` has the first tokens and merges of SmolLM2; the others are trained here, on a licence text. The ids are those
of transformers, with what its GGUF reader leaves out put in as the models' own tokenizer.json files have it: the split into
single digits (SmolLM2), ignore_merges (Llama 3), the normal form C (Qwen 2). SentencePiece itself agrees on every text without
control tokens. Chats are rendered by `apply_chat_template`.
"""

import datetime
import io
import json
import sys
import tempfile
from pathlib import Path

import gguf
import jinja2
import sentencepiece
from gguf import GGUFReader
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer
from transformers.integrations.gguf import gguf_tokenizer_mapping as known
from transformers.utils import chat_template_utils

HERE = Path(__file__).parent
CORPUS = (HERE / "../../../LICENSE-APACHE").read_text().split("\n")
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6

TEXTS = [
    "",
    " ",
    "Hello, world!",
    " leading and trailing ",
    "I'm sure they'll say it's what we've done; don't you'd? I'M SURE, THEY'LL",
    "1 22 333 4444 55555 0.125 1,000,000 x2y3 ²³½ ٣٤",
    "two  spaces, three   spaces, four    and more          ",
    "line\nline\n\nline\r\n\r\n  indented\n\ttab\t\ttabs \t mixed \n ",
    "\n",
    "\n\n\n",
    "  \n  x",
    "emoji 🙂🎉👩‍👩‍👧‍👦🇩🇪 and more🙂",
    "中文字符和标点。日本語テキスト、한국어",
    "naïve café Größe ŒUVRE Ωμέγα Привет नमस्ते שלום",
    "cafe\u0301 Å Å ﬁ",
    "zero\u200bwidth\u00a0nbsp\u3000ideographic\ufeffbom",
    "def f(x):\n    return {'a': [x ** 2, -1], \"b\": None}  # done\n",
    "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n",
    "a<|endoftext|>b <|im_end|> c",
    "<s>[INST] hi [/INST] ok</s> more </s>  two",
    "<unk> <0x0A> ▁ ▁▁ <|eot_id|>x<|start_header_id|>user<|end_header_id|>\n\n",
    "<tool> and <tool>text",
    "https://example.org/a?b=c&d=%20#frag @user #tag $5.00 50% a/b\\c a_b-c",
    "...!!!???---***___```",
    "AaBbCc XMLHttpRequest snake_case_name kebab-case",
    "You may reproduce and distribute copies of the Work or Derivative Works thereof in any medium.",
    "\u0000\u0001\u001f\u007f",
    "�",
    "a" * 70,
    "The quick brown fox jumps over the lazy dog. " * 3,
    "zymurgy quixotic reproduc distribut",
    "'s 't 're's''ll",
    "   'll   123   ?!  ",
]


def write(name, architecture, model, pre, tokens, types, extra, merges=None, scores=None):
    writer = gguf.GGUFWriter(HERE / name, architecture)
    writer.add_tokenizer_model(model)
    if pre:
        writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    if merges is not None:
        writer.add_token_merges(merges)
    if scores is not None:
        writer.add_token_scores(scores)
    for key, value in extra.items():
        getattr(writer, f"add_{key}")(value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()


def smollm(source, count=700):
    fields = {key: field.contents() for key, field in GGUFReader(source).fields.items()}
    tokens, types = fields["tokenizer.ggml.tokens"], fields["tokenizer.ggml.token_type"]
    merges = fields["tokenizer.ggml.merges"][:count]
    joined = {merge.replace(" ", "") for merge in merges}
    kept = [i for i, t in enumerate(tokens) if types[i] == CONTROL or len(t) == 1 or t in joined]
    new = {tokens[i]: place for place, i in enumerate(kept)}
    at = lambda key: new[tokens[fields[f"tokenizer.ggml.{key}_token_id"]]]
    extra = {
        "bos_token_id": at("bos"), "eos_token_id": at("eos"), "unk_token_id": at("unknown"),
        "pad_token_id": at("padding"), "add_bos_token": False, "add_space_prefix": False,
        "chat_template": fields["tokenizer.chat_template"],
    }
    write("smollm.gguf", "llama", "gpt2", "smollm", [tokens[i] for i in kept], [types[i] for i in kept], extra, merges)

    tokenizer = AutoTokenizer.from_pretrained(HERE, gguf_file="smollm.gguf")
    digits = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(digits)
    return tokenizer


def byte_level(name, pre, split, special, extra, alone=(), normalizer=None):
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(split), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trained.train_from_iterator(CORPUS + TEXTS, trainers.BpeTrainer(vocab_size=600, initial_alphabet=sorted(alphabet)))
    model = json.loads(trained.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].get) + list(alone)
    types = [NORMAL] * len(tokens)
    for token, kind in special.items():
        tokens.append(token)
        types.append(kind)
    extra = {key: tokens.index(value) if key.endswith("_id") else value for key, value in extra.items()}
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    write(name, "llama", "gpt2", pre, tokens, types, extra, merges)

    tokenizer = AutoTokenizer.from_pretrained(HERE, gguf_file=name)
    if normalizer:
        tokenizer.backend_tokenizer.normalizer = normalizer
    if alone:
        whole = json.loads(tokenizer.backend_tokenizer.to_str())
        whole["model"]["ignore_merges"] = True
        tokenizer._tokenizer = Tokenizer.from_str(json.dumps(whole))
    return tokenizer


def sentence_piece():
    file = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([line for line in CORPUS + TEXTS if line.strip() and "\0" not in line]), model_writer=file,
        model_type="bpe", vocab_size=600, byte_fallback=True, normalization_rule_name="identity",
        remove_extra_whitespaces=False, allow_whitespace_only_pieces=True, user_defined_symbols=["<tool>"],
        split_digits=True, character_coverage=0.999, minloglevel=2,
    )
    pieces = sentencepiece.SentencePieceProcessor(model_proto=file.getvalue())
    count = pieces.get_piece_size()
    kind = lambda i: (UNKNOWN if pieces.is_unknown(i) else CONTROL if pieces.is_control(i) else BYTE if pieces.is_byte(i)
                      else USER_DEFINED if pieces.id_to_piece(i) == "<tool>" else NORMAL)
    extra = {"bos_token_id": 1, "eos_token_id": 2, "unk_token_id": 0, "add_bos_token": True, "add_eos_token": False}
    # Of architectures, transformers gives Phi 3 the space before each section, as SentencePiece and llama.cpp have it.
    write("llama.gguf", "phi3", "llama", "default", [pieces.id_to_piece(i) for i in range(count)],
          [kind(i) for i in range(count)], extra, scores=[pieces.get_score(i) for i in range(count)])
    tokenizer = AutoTokenizer.from_pretrained(HERE, gguf_file="llama.gguf")
    for text in TEXTS:
        if text and not any(control in text for control in ["<s>", "</s>", "<unk>", "<tool>", "▁"]):
            ours = tokenizer.encode(text, add_special_tokens=False)
            assert ours == pieces.encode(text), (text, ours, pieces.encode(text))
    return tokenizer


def tokens(tokenizers):
    expected = {}
    for name, tokenizer in tokenizers.items():
        rows = []
        for text in TEXTS:
            ids = tokenizer.encode(text, add_special_tokens=False)
            rows.append({
                "text": text, "ids": ids, "marked": tokenizer.encode(text),
                "decoded": tokenizer.decode(ids, clean_up_tokenization_spaces=False),
                "plain": tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False),
            })
        expected[name] = rows
    return expected


LLAMA3 = """{{- bos_token }}
{%- if not date_string is defined %}
    {%- set date_string = strftime_now("%d %b %Y") %}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content'] | trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{%- if tools is not none %}
    {{- "Tools are here\\n" }}
{%- endif %}
{{- "Today: " + date_string + "\\n\\n" + system_message + "<|eot_id|>" }}
{%- for message in messages %}
    {%- if not (message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] | trim + '<|eot_id|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""
QWEN = """{%- if messages[0]['role'] == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
{%- else %}
    {{- '<|im_start|>system\\nYou help.<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) or (message.role == "assistant" and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "tool" %}
        {{- '<tool>' + message.content | tojson + '</tool>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""
MISTRAL = """{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system_message = messages[0]['content'] %}{% else %}{% set loop_messages = messages %}{% set system_message = false %}{% endif %}{{ bos_token }}
{% for message in loop_messages %}
    {% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
{{ raise_exception('Roles must alternate: ' + message['role'] + ' is turn ' ~ loop.index) }}
    {% endif %}
    {% if message['role'] == 'user' %}
{{ '[INST] ' + (system_message + '\\n\\n' if loop.first and system_message else '') + message['content'] + ' [/INST]' }}
    {%- elif message['role'] == 'assistant' %}
{% generation %}{{ ' ' + message['content'].strip() + eos_token }}{% endgeneration %}
    {% endif %}
{% endfor %}
"""
ODDS = """{# A comment #}
{% set ns = namespace(found=false, count=0) %}
{% for message in messages %}
    {% if message['content'].startswith('#') %}
        {% set ns.found = true %}{% set ns.count = ns.count + 1 %}
        {% continue %}
    {% endif %}
    {{ loop.index }}/{{ loop.length }} {{ message.role.upper() }}: {{ message.content.split(' ')[-1] }}
    {{ message | tojson }} {{ [1, 2.5, none, true, 'ä"<'] | tojson }} {{ {'b': [], 'a': {}} | tojson(indent=2) }}
    {{ {'b': 'é🙂', 'a': [1, {'c': 'x'}]} | tojson(ensure_ascii=true, sort_keys=true, indent=4) }}
    {{ {'b': 1, 'a': [2]} | tojson(separators=(',', ':')) }}
{% endfor %}
{{ ns.found }} {{ ns.count }} {{ missing }} {{ none }} {{ messages | length }} {{ messages[-1].content[:3] }}
{% macro shout(text) %}{{ text | upper }}!{% endmacro %}{{ shout('hey') }} {{ 'a,b' .split(',') | join(' and ') }}
{{ bos_token if bos_token is defined else 'no bos' }} {{ messages | map(attribute='role') | list | join('|') }}
{{ messages | selectattr('role', 'equalto', 'user') | list | length }} {{ '%s-%s' | format('x', 3) }} {{ 7 // 2 }} {{ -7 % 3 }}
"""

TALKS = {
    "question": [("user", "What is 2+2?")],
    "system": [("system", " Be brief. "), ("user", "Hi"), ("assistant", "Hello! "), ("user", "Bye\n"), ("assistant", "  See you  ")],
    "short": [("user", "Hi"), ("assistant", "Hello"), ("user", "# note 中文 🙂"), ("assistant", "<b>&'\"</b>")],
    "wrong": [("user", "a"), ("user", "b")],
    "assistant": [("assistant", "I begin")],
}

CHATML = """{% for message in messages %}
{{ '<|im_start|>' + message.role + '\\n' }}
{%- if message.role == 'assistant' %}
{% generation %}{{ message.content + '<|im_end|>' }}{% endgeneration %}
{%- else %}
{{- message.content + '<|im_end|>' }}
{%- endif %}
{{- '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""
LEARNT = [
    [("user", "What is 2+2?"), ("assistant", "It is 4.")],
    [("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello!\n"), ("user", "And\n\n"), ("assistant", "\n\nBye 🙂  "), ("user", "?")],
    [("assistant", "I begin"), ("assistant", "and go on <|im_end|> even so"), ("user", ""), ("assistant", "")],
]


class Clock(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls(2024, 2, 29, 13, 5, 9)


def chats(tokenizer):
    chat_template_utils.datetime = Clock
    special = {"bos_token": "<s>", "eos_token": "</s>"}
    templates = {"smollm": tokenizer.chat_template, "llama3": LLAMA3, "qwen": QWEN, "mistral": MISTRAL, "odds": ODDS}
    cases = []
    for name, template in templates.items():
        for talk in TALKS.values():
            for prompt in [False, True]:
                messages = [{"role": role, "content": content} for role, content in talk]
                case = {"template": name, "messages": messages, "add_generation_prompt": prompt}
                try:
                    rendered, _ = chat_template_utils.render_jinja_template(
                        [messages], chat_template=template, add_generation_prompt=prompt, **special)
                    case["text"] = rendered[0]
                except jinja2.exceptions.TemplateError as error:
                    case["error"] = str(error)
                cases.append(case)
    learnt = []
    for talk in LEARNT:
        messages = [{"role": role, "content": content} for role, content in talk]
        encoded = tokenizer.apply_chat_template(messages, chat_template=CHATML, return_dict=True, return_assistant_tokens_mask=True)
        learnt.append({"messages": messages, "ids": encoded["input_ids"], "learn": encoded["assistant_masks"]})
    return {"chatml": CHATML, "learnt": learnt, "special": special, "templates": templates, "now": 1709211909, "cases": cases}


def save(name, value):
    (HERE / name).write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n")


def main():
    llama3 = {"<|begin_of_text|>": CONTROL, "<|end_of_text|>": CONTROL, "<|start_header_id|>": CONTROL,
              "<|end_header_id|>": CONTROL, "<|eot_id|>": CONTROL, "<|endoftext|>": CONTROL}  # The last, transformers adds anyway.
    qwen = {"<|endoftext|>": CONTROL, "<|im_start|>": CONTROL, "<|im_end|>": CONTROL, "<tool>": USER_DEFINED}
    first = smollm(sys.argv[1])
    save("tokens.json", tokens({
        "smollm": first,
        # "Ġquixotic" is a token that no merge leads to.
        "llama-bpe": byte_level("llama-bpe.gguf", "llama-bpe", known._LLAMA3_SPLIT, llama3, {
            "bos_token_id": "<|begin_of_text|>", "eos_token_id": "<|end_of_text|>", "add_bos_token": True,
        }, alone=["Ġquixotic"]),
        "qwen2": byte_level("qwen2.gguf", "qwen2", known._QWEN2_SPLIT, qwen, {
            "eos_token_id": "<|im_end|>", "pad_token_id": "<|endoftext|>", "add_bos_token": False,
        }, normalizer=normalizers.NFC()),
        "llama": sentence_piece(),
    }))
    save("chats.json", chats(first))


if __name__ == "__main__":
    main()
