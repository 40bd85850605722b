"""Every bias of more families against folded biases; tied ones once; families without any refuse."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers as tf

from hubcli.adapted import adapt
from hubcli.errors import UnsupportedSiteError
from tests.tensor.models import apart

pytestmark = pytest.mark.filterwarnings("ignore")

SHAPE: dict[str, Any] = {
    "vocab_size": 60, "max_position_embeddings": 40, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
PLAIN = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 24,
    "initializer_range": 0.3,
    **SHAPE,
}
GROUPED = {**PLAIN, "num_key_value_heads": 2}
BOTH = {
    f"{side}_{key}": n
    for side in ("encoder", "decoder")
    for key, n in (("layers", 2), ("attention_heads", 4), ("ffn_dim", 24))
}
VISION = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 24,
    "image_size": 8,
    "patch_size": 4,
}
DISENTANGLED = {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]}
torch.manual_seed(7)
IDS = {"input_ids": torch.randint(3, 60, (3, 7))}
DECODED = {"decoder_input_ids": torch.randint(3, 60, (3, 4))}
SOUND = {"input_features": torch.randn(3, 8, 20, dtype=torch.float64), **DECODED}
IMAGES = {**IDS, "pixel_values": torch.randn(2, 3, 8, 8, dtype=torch.float64)}

# name: (class, config, inputs, biases that are another's under a second name)
CASES: dict[str, tuple[Any, Any, dict[str, torch.Tensor], set[str]]] = {
    "electra": (tf.ElectraForSequenceClassification, tf.ElectraConfig(embedding_size=16, **PLAIN), IDS, set()),
    "mpnet": (tf.MPNetForSequenceClassification, tf.MPNetConfig(**PLAIN), IDS, set()),
    "deberta-v2": (tf.DebertaV2ForSequenceClassification, tf.DebertaV2Config(**DISENTANGLED, **PLAIN), IDS, set()),
    "gpt-neox": (tf.GPTNeoXForCausalLM, tf.GPTNeoXConfig(**PLAIN), IDS, set()),
    "qwen2": (tf.Qwen2ForCausalLM, tf.Qwen2Config(**GROUPED), IDS, set()),
    "bart": (
        tf.BartForConditionalGeneration,
        tf.BartConfig(d_model=16, init_std=0.3, decoder_start_token_id=2, **BOTH, **SHAPE), {**IDS, **DECODED}, set(),
    ),
    "whisper": (
        tf.WhisperForConditionalGeneration,
        tf.WhisperConfig(d_model=16, init_std=0.3, num_mel_bins=8, max_source_positions=10, max_target_positions=12,
                         decoder_start_token_id=2, **BOTH, **SHAPE), SOUND, set(),
    ),
    "clip": (tf.CLIPModel, tf.CLIPConfig(text_config=PLAIN, vision_config=VISION, projection_dim=8), IMAGES, set()),
    "bert for masked words": (tf.BertForMaskedLM, tf.BertConfig(**PLAIN), IDS, {"cls.predictions.bias"}),
    "albert for masked words": (tf.AlbertForMaskedLM, tf.AlbertConfig(embedding_size=8, **PLAIN), IDS, {"predictions.bias"}),
    "roberta for masked words": (tf.RobertaForMaskedLM, tf.RobertaConfig(**PLAIN), IDS, {"lm_head.bias"}),
}  # fmt: skip


def answer(model: Any, inputs: dict[str, torch.Tensor], changed: dict[str, torch.Tensor] | None = None) -> torch.Tensor:
    with torch.no_grad():
        out = torch.func.functional_call(model, changed, (), inputs, tie_weights=False) if changed else model(**inputs)
    return out.logits if hasattr(out, "logits") else out.logits_per_image  # type: ignore[no-any-return]


@pytest.mark.parametrize("family", CASES)
def test_every_bias_of_a_family(family: str) -> None:
    made, config, inputs, tied = CASES[family]
    torch.manual_seed(0)
    model = made(config).double().eval()
    before, handle = answer(model, inputs), adapt(model)
    own = {k: p for k, p in model.named_parameters(remove_duplicate=False) if k.endswith("bias")}
    handle.add("bitfit", "a", head=None)
    with torch.no_grad():
        for parameter in handle.trainable("a"):
            parameter.normal_(std=0.3)
    handle.trainable([])
    delta = {f"{s.path}.bias": t["bias_delta"].detach() for s, t in handle.engine.adapters["a"].sites.items()}
    assert set(own) - set(delta) == tied
    expected = answer(model, inputs, {key: own[key] + delta[key] for key in delta})
    handle.activate("a")
    assert apart(answer(model, inputs), expected) <= 1e-10 and apart(expected, before) > 1e-2
    handle.detach()
    assert torch.equal(answer(model, inputs), before)


NONE: dict[str, tuple[Any, Any, str]] = {
    "qwen3": (tf.Qwen3ForCausalLM, tf.Qwen3Config(head_dim=4, **GROUPED), "has a bias"),
    "gemma3": (tf.Gemma3ForCausalLM, tf.Gemma3TextConfig(head_dim=4, **GROUPED), "has a bias"),
    "mistral": (tf.MistralForCausalLM, tf.MistralConfig(**GROUPED), "has a bias"),
    "deberta": (
        tf.DebertaForSequenceClassification, tf.DebertaConfig(**DISENTANGLED, **PLAIN),
        r"attention\.self: where a DisentangledSelfAttention adds its bias",
    ),
}  # fmt: skip


@pytest.mark.parametrize("family", NONE)
def test_without_biases_or_with_strange_ones(family: str) -> None:
    made, config, message = NONE[family]
    with pytest.raises(UnsupportedSiteError, match=message):
        adapt(made(config)).add("bitfit", "a", head=None)
