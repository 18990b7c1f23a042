"""What learns: a backbone with its heads, its tokenizer, and the batches that it reads.

How it learns stands in ``training``; where tokens are hidden from it, in ``masking``.
"""

from trivium.encoders.encoder import Encoder, Pretrained, Scratch, from_pretrained, from_scratch, load_tokenizer
from trivium.encoders.streams import collate
from trivium.encoders.tokenizer import train_tokenizer

__all__ = [
    "Encoder",
    "Pretrained",
    "Scratch",
    "collate",
    "from_pretrained",
    "from_scratch",
    "load_tokenizer",
    "train_tokenizer",
]
