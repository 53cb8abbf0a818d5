"""From captions to what the U-Nets read: frozen text encoders, masks, the null condition, a cache on disk.

encoder = load_text_encoder("openai-community/gpt2")       # or a folder; T5, BERT, GPT-2 or CLIP
text = EmbeddingCache("gpt2.sqlite", encoder)(["a red cone"])   # tokens (1, L, D), mask (1, L)
text = EmbeddingCache("gpt2.sqlite")(["a red cone"])       # the same later, without the encoder
"""

from imagen_lite.text.cache import EmbeddingCache
from imagen_lite.text.embedding import TextEmbedding, TextEncoder, null_text
from imagen_lite.text.encoder import FrozenTextEncoder, load_text_encoder
from imagen_lite.text.families import FAMILIES, Family
from imagen_lite.text.tokenizer import CaptionTokenizer

__all__ = [
    "FAMILIES", "CaptionTokenizer", "EmbeddingCache", "Family", "FrozenTextEncoder", "TextEmbedding",
    "TextEncoder", "load_text_encoder", "null_text",
]  # fmt: skip
