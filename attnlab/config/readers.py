"""Models that answer questions: the memory network, the reader with attention flow, and Transformers for both."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from attnlab.config.attention import Attention, Dot, Trilinear
from attnlab.config.base import Config, Probability
from attnlab.config.pretrained import OnEncoder
from attnlab.config.transformer import TransformerEncoder


class MemoryNetwork(Config):
    """End-to-end memory network (Sukhbaatar et al. 2015): a question asks the sentences of a story, hop by hop."""

    kind: Literal["memory_network"] = "memory_network"
    width: PositiveInt = 64
    """Of questions and memories."""
    hops: Annotated[int, Field(ge=1, le=12)] = 3
    """Number of times that the memory is read."""
    tying: Literal["adjacent", "layer_wise"] = "adjacent"
    """adjacent: what a hop reads is what the next one compares with; layer_wise: all hops share their embeddings,
    and a matrix stands between them (the paper's section 2.2)."""
    encoding: Literal["bag", "position"] = "position"
    """A sentence is the sum of its words, or that sum weighted by where in the sentence they stand (eq. 4)."""
    time: bool = True
    """Tell how long ago each sentence was (section 4.1, temporal encoding)."""
    jitter: Probability = 0.1
    """In training, each sentence is followed by a gap with this probability, which shifts all that lies before it
    further into the past (section 4.1, random noise)."""
    attention: Attention = Attention(score=Dot())
    """The attention of the question's state over the sentences."""
    dropout: Probability = 0.0
    """Of the question's state before every hop."""

    @model_validator(mode="after")
    def _between_sequences(self) -> Self:
        self.attention.over_another_sequence("attention")
        return self

    def tiny(self) -> Self:
        """Keep the hops."""
        return self.changed(width=min(self.width, 16), attention=self.attention.tiny())


class Characters(Config):
    """A convolution over a word's letters, its largest answers kept (Kim 2014)."""

    embedding: PositiveInt = 16
    """Width of the character embeddings."""
    filters: PositiveInt = 64
    """Number of filters."""
    width: PositiveInt = 5
    """Letters that a filter sees."""
    longest: PositiveInt = 16
    """Letters of a word that are read."""

    def tiny(self) -> Self:
        return self.at_most(embedding=4, filters=8)


class BidafReader(Config):
    """Bidirectional attention flow (Seo et al. 2017): every word of the passage attends to the question, and the
    question to the passage."""

    kind: Literal["bidaf_reader"] = "bidaf_reader"
    embedding: PositiveInt = 100
    """Width of the token embeddings."""
    characters: Characters | None = None
    """Character embeddings of words beside the word embeddings; null uses none."""
    exact_match: bool = False
    """Tell of each word of the passage whether the question has it too (Chen et al. 2017)."""
    highway: Annotated[int, Field(ge=0, le=4)] = 2
    """Highway layers on the embeddings."""
    cell: Literal["gru", "lstm"] = "lstm"
    """Kind of recurrent cell."""
    hidden: PositiveInt = 64
    """Units a direction."""
    attention: Attention | None = Attention(score=Trilinear())
    """null is the control without attention: every word of the passage sees the question as one vector."""
    flow: Literal["both", "context_to_query"] = "both"
    """context_to_query leaves out the attention of the question to the passage."""
    modeling_layers: Annotated[int, Field(ge=1, le=4)] = 2
    """Recurrent layers after the attention."""
    dropout: Probability = 0.2
    """Dropout rate of embeddings and states."""

    @model_validator(mode="after")
    def _between_sequences(self) -> Self:
        if self.attention is not None:
            self.attention.over_another_sequence("attention")
        return self

    def tiny(self) -> Self:
        """Keep the layers."""
        return self.changed(
            embedding=min(self.embedding, 16),
            hidden=min(self.hidden, 8),
            characters=None if self.characters is None else self.characters.tiny(),
            attention=None if self.attention is None else self.attention.tiny(),
        )


def _told_apart(model: Any) -> Any:
    """Raise where a single type of tokens would be given to question and text alike."""
    if model.encoder.token_types == 1:
        raise ValueError("encoder.token_types 1 does not tell the question from the text; valid: 2, or 0 for none")
    return model


class TransformerReader(OnEncoder):
    """Question and passage in one sequence through a Transformer; two linear maps point at the span (BERT)."""

    kind: Literal["transformer_reader"] = "transformer_reader"
    encoder: TransformerEncoder = TransformerEncoder(layers=4, token_types=2)
    """The Transformer encoder that reads the input."""
    exact_match: bool = False
    """Tell of each token of the passage whether the question has it too (Chen et al. 2017)."""

    @model_validator(mode="after")
    def _two_types_or_none(self) -> Self:
        return _told_apart(self)


class TransformerStories(Config):
    """Question and story in one sequence through a Transformer; the first position's state says the answer."""

    kind: Literal["transformer_stories"] = "transformer_stories"
    unit: Literal["word", "sentence"] = "word"
    """What a position holds: a word, or a whole sentence, made of its words as in a memory network (Dehghani et al.
    2019, section 3.1)."""
    encoder: TransformerEncoder = TransformerEncoder(layers=3, width=128, feed_forward=256, token_types=2)
    """The Transformer encoder that reads the input."""

    @model_validator(mode="after")
    def _two_types_or_none(self) -> Self:
        return _told_apart(self)

    def tiny(self) -> Self:
        return self.changed(encoder=self.encoder.tiny())
