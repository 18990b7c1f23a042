"""A WordPiece vocabulary trained on the text that the encoder will read."""

from collections.abc import Iterable, Sequence
from typing import Any

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_INSIDE = "##"  # begins a piece that does not begin a word


def train_tokenizer(texts: Sequence[str], vocabulary: int, *, lower: bool = True) -> Any:
    """Train BERT's kind of tokenizer (WordPiece, Schuster and Nakajima 2012) on some texts.

    The same texts, in whatever order, give the same vocabulary. ``tokenizers`` alone does not: it numbers the letters
    inside words as a hash table happens to list them, and breaks ties between pieces by number. Here they get their
    numbers first, in order.

    Args:
        texts: What to learn from.
        vocabulary: Most entries, special tokens included; more only where the text has more different letters.
        lower: Fold case.

    Returns:
        A transformers ``PreTrainedTokenizerFast``.

    >>> tokenizer = train_tokenizer(["a cat and a dog", "cats and dogs"] * 2, 512)
    >>> tokenizer.tokenize("Cats")
    ['cats']
    """
    from tokenizers import Tokenizer, decoders, models, processors, trainers
    from transformers import PreTrainedTokenizerFast

    trained = _prepared(models.WordPiece(unk_token=SPECIAL[1]), lower)
    first = [*SPECIAL, *(_INSIDE + letter for letter in _inside(trained, texts))]
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocabulary, special_tokens=first, min_frequency=2, show_progress=False, limit_alphabet=1_000_000
    )
    trained.train_from_iterator(texts, trainer)
    tokenizer: Tokenizer = _prepared(models.WordPiece(trained.get_vocab(), unk_token=SPECIAL[1]), lower)
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.BertProcessing(
        ("[SEP]", SPECIAL.index("[SEP]")), ("[CLS]", SPECIAL.index("[CLS]"))
    )
    names = {f"{name.strip('[]').lower()}_token": name for name in SPECIAL}
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer, model_input_names=["input_ids", "token_type_ids", "attention_mask"], **names
    )


def _prepared(model: Any, lower: bool) -> Any:
    """A tokenizer that cleans text and cuts it into words as BERT's does."""
    from tokenizers import Tokenizer, normalizers, pre_tokenizers

    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lower)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def _inside(tokenizer: Any, texts: Iterable[str]) -> list[str]:
    """Every letter that occurs inside a word, in order."""
    letters: set[str] = set()
    for chunk in {chunk for text in texts for chunk in text.split()}:  # each once: most occur often
        for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(tokenizer.normalizer.normalize_str(chunk)):
            letters.update(word[1:])
    return sorted(letters)
