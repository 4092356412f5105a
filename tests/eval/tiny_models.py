"""Writes two tiny language models for a server into a folder, without a download: `python tiny_models.py FOLDER`.

`babbler` has random weights and says noise. `offerer` says the reply in `OFFER`, whatever it is asked: its tokenizer
has that reply as one token, and its weights, all set by hand, let it follow the beginning and the end follow it.
"""

from __future__ import annotations

import sys
from pathlib import Path

OFFER = '{"reasoning": "A is all I want.", "action": "offer", "keep": {"A": 1, "B": 0}}'
TEMPLATE = "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}<reply>"


def main(folder: Path) -> None:
    import torch
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokens = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "<reply>", "<end>"]
    bytes_alone = Tokenizer(models.BPE(vocab={token: index for index, token in enumerate(tokens)}, merges=[]))
    bytes_alone.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytes_alone.decoder = decoders.ByteLevel()
    bytes_alone.add_tokens([AddedToken(OFFER, normalized=False)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bytes_alone, bos_token="<reply>", eos_token="<end>", pad_token="<end>", chat_template=TEMPLATE
    )
    begin, end, offer = tokenizer.convert_tokens_to_ids(["<reply>", "<end>", OFFER])
    size = len(tokenizer)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=size,
        hidden_size=2 * size,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=1,
        max_position_embeddings=8192,
        bos_token_id=begin,
        eos_token_id=end,
        pad_token_id=end,
    )
    model = LlamaForCausalLM(config)
    _save(model, tokenizer, folder / "babbler")
    with torch.no_grad():
        for name, weights in model.named_parameters():
            weights.fill_(1.0 if "norm" in name else 0.0)
        model.model.embed_tokens.weight[:, :size] = torch.eye(size)  # each token is a direction of its own
        model.lm_head.weight[offer, begin] = model.lm_head.weight[end, offer] = 10.0
    _save(model, tokenizer, folder / "offerer")


def _save(model: object, tokenizer: object, folder: Path) -> None:
    for part in (model, tokenizer):
        part.save_pretrained(folder)  # type: ignore[attr-defined]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
