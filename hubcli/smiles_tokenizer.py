"""The tokenizer of models of reaction SMILES, as an ordinary `tokenizer.json`: it needs no code of its own to be loaded.

Same ids as the class that rxnmapper 0.4 (MIT) tokenizes with: the words are what its regular expression finds, and what it
does not find is left out without a trace.
Source: Schwaller et al., "Molecular Transformer", ACS Cent. Sci. 2019 (the expression); rxnmapper/tokenization_smiles.py.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# An atom in brackets, an element outside of them, a bond, a branch, a dot, an arrow, the number of a ring.
PATTERN = r"(\[[^\]]+]|Br?|Cl?|N|O|S|P|F|I|b|c|n|o|s|p|\(|\)|\.|=|#|-|\+|\\|\/|:|~|@|\?|>>?|\*|\$|\%[0-9]{2}|[0-9])"
SPECIAL = {
    "unk_token": "[UNK]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "cls_token": "[CLS]",
    "mask_token": "[MASK]",
}


def smiles_tokenizer(vocab: Path) -> Tokenizer:
    """The tokenizer of a vocabulary, one token a line, which holds the five special tokens of BERT.

    Raises:
        OSError: it can't be read. ValueError: a special token is missing.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors

    ids = {line.rstrip("\n"): at for at, line in enumerate(vocab.read_text(encoding="utf-8").splitlines())}
    missing = [token for token in SPECIAL.values() if token not in ids]
    if missing:
        raise ValueError(f"{vocab}: {', '.join(missing)} missing")
    made = Tokenizer(models.WordLevel(ids, unk_token=SPECIAL["unk_token"]))
    # Inverted: what lies between two finds is the delimiter, and is removed.
    made.pre_tokenizer = pre_tokenizers.Split(Regex(PATTERN), behavior="removed", invert=True)
    made.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[(token, ids[token]) for token in ("[CLS]", "[SEP]")],
    )
    made.decoder = decoders.Fuse()
    made.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in SPECIAL.values()])
    return made


def write_smiles_tokenizer(vocab: Path, folder: Path, longest: int) -> None:
    """Write `tokenizer.json`, `tokenizer_config.json` and `special_tokens_map.json` into a folder.

    Args:
        vocab: one token a line. longest: how many tokens the model reads.

    Raises:
        OSError, ValueError: as `smiles_tokenizer`.
    """
    smiles_tokenizer(vocab).save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": longest,
        "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
        "clean_up_tokenization_spaces": False,
        **SPECIAL,
    }
    for name, content in (("tokenizer_config.json", config), ("special_tokens_map.json", SPECIAL)):
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
