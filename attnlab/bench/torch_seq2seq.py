"""The recurrent model of `models/seq2seq.py` in plain PyTorch: the baseline of `bench training`.

It has the same sizes and equations, and dropout in the same places. It is idiomatic PyTorch in its fastest plain form:
a packed `nn.GRU` as the encoder, a cell in a loop as the decoder, keys projected once, and readout and logits of all
positions at once where no step depends on them.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from attnlab.config.attention import Attention
from attnlab.config.models.recurrent import RecurrentSeq2Seq as Config

LAYERS = {"gru": nn.GRU, "lstm": nn.LSTM}
CELLS = {"gru": nn.GRUCell, "lstm": nn.LSTMCell}


class DecoderAttention(nn.Module):
    """Softmax attention with the score of the config; keys are projected once per batch."""

    def __init__(self, config: Attention, query_width: int, width: int):
        super().__init__()
        self.kind = config.score.kind
        if config.score.kind == "additive":
            self.w_query = nn.Linear(query_width, config.score.hidden, bias=False)
            self.w_key = nn.Linear(width, config.score.hidden, bias=False)
            self.v = nn.Parameter(torch.randn(config.score.hidden) * config.score.hidden**-0.5)
        elif config.score.kind == "general":
            self.w_key = nn.Linear(width, query_width, bias=False)

    def project_keys(self, annotations: Tensor) -> Tensor:
        return self.w_key(annotations) if self.kind in ("additive", "general") else annotations

    def forward(self, query: Tensor, keys: Tensor, values: Tensor, padding: Tensor) -> Tensor:
        """Return the context [b c]."""
        if self.kind == "additive":
            logits = torch.tanh(keys + self.w_query(query).unsqueeze(1)) @ self.v
        else:
            logits = torch.bmm(keys, query.unsqueeze(-1)).squeeze(-1)
        if self.kind == "scaled_dot":
            logits = logits / math.sqrt(query.shape[-1])
        weights = logits.masked_fill(padding, -math.inf).softmax(dim=-1)
        return torch.bmm(weights.unsqueeze(1), values).squeeze(1)


class Seq2Seq(nn.Module):
    """A recurrent encoder and decoder that map source and target tokens to next-token logits (teacher forcing)."""

    def __init__(self, config: Config, source_vocabulary: int, target_vocabulary: int):
        super().__init__()
        self.config = config
        encoder, decoder, width = config.encoder, config.decoder, 2 * config.encoder.hidden
        luong = decoder.variant == "luong"
        self.target_embedding = nn.Embedding(target_vocabulary, config.embedding)
        tied = config.tie_embeddings == "all"
        self.source_embedding = self.target_embedding if tied else nn.Embedding(source_vocabulary, config.embedding)
        self.encoder = LAYERS[encoder.cell](
            config.embedding,
            encoder.hidden,
            encoder.layers,
            batch_first=True,
            bidirectional=True,
            dropout=config.dropout if encoder.layers > 1 else 0.0,
        )
        self.bridge = nn.Linear(width, decoder.hidden)
        self.cell = CELLS[decoder.cell](config.embedding + (config.embedding if luong else width), decoder.hidden)
        self.attend = None if config.attention is None else DecoderAttention(config.attention, decoder.hidden, width)
        self.readout = nn.Linear(decoder.hidden + width + (0 if luong else config.embedding), config.embedding)
        self.output = nn.Linear(config.embedding, target_vocabulary)
        if config.tie_embeddings != "none":
            self.output.weight = self.target_embedding.weight
        self.dropout = nn.Dropout(config.dropout)
        self._initialize()

    def forward(self, source: Tensor, source_lengths: Tensor, target: Tensor) -> Tensor:
        """Return logits [b t v].

        A padding row (length 0) is encoded as one token; it does not contribute to the loss. `source_lengths` must be
        on the CPU, whatever the device of the other tensors.
        """
        lengths = source_lengths.clamp(min=1)
        annotations, summary = self._encode(source, lengths)
        embedded = self.dropout(self.target_embedding(target))
        padding = (torch.arange(annotations.shape[1]) >= lengths.unsqueeze(1)).to(source.device)
        keys = annotations if self.attend is None else self.attend.project_keys(annotations)

        def context(hidden: Tensor) -> Tensor:
            return summary if self.attend is None else self.attend(hidden, keys, annotations, padding)

        start = torch.tanh(self.bridge(summary))
        decode = {"bahdanau": self._bahdanau, "luong": self._luong}[self.config.decoder.variant]
        return self.output(self.dropout(decode(start, embedded, context)))

    def _encode(self, source: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        embedded = self.dropout(self.source_embedding(source))
        packed = pack_padded_sequence(embedded, lengths.cpu(), batch_first=True, enforce_sorted=False)
        outputs, last = self.encoder(packed)
        annotations, _ = pad_packed_sequence(outputs, batch_first=True)
        hidden = last[0] if isinstance(last, tuple) else last
        return self.dropout(annotations), torch.cat([hidden[-2], hidden[-1]], dim=-1)

    def _bahdanau(self, hidden: Tensor, embedded: Tensor, attend) -> Tensor:
        """Attend with the previous state; return the readouts [b t e], computed for all steps at once."""
        state, states, contexts = self._start(hidden), [], []
        for word in embedded.unbind(dim=1):
            context = attend(self._hidden(state))
            state = self.cell(torch.cat([word, context], dim=-1), state)
            states.append(self._hidden(state))
            contexts.append(context)
        features = torch.cat([torch.stack(states, dim=1), torch.stack(contexts, dim=1), embedded], dim=-1)
        return torch.tanh(self.readout(features))

    def _luong(self, hidden: Tensor, embedded: Tensor, attend) -> Tensor:
        """Attend with the current state and feed the readout to the next step; return the readouts [b t e]."""
        state, readouts = self._start(hidden), []
        readout = embedded.new_zeros(embedded.shape[0], embedded.shape[-1])
        for word in embedded.unbind(dim=1):
            state = self.cell(torch.cat([word, readout], dim=-1), state)
            hidden = self._hidden(state)
            readout = torch.tanh(self.readout(torch.cat([hidden, attend(hidden)], dim=-1)))
            readouts.append(readout)
        return torch.stack(readouts, dim=1)

    def _start(self, hidden: Tensor):
        return (hidden, hidden) if self.config.decoder.cell == "lstm" else hidden

    def _hidden(self, state) -> Tensor:
        return state[0] if isinstance(state, tuple) else state

    def _initialize(self) -> None:
        """Scale embeddings for the tied output layer, and set forget-gate biases to 1 as in `layers.recurrent.lstm`."""
        for embedding in (self.source_embedding, self.target_embedding):
            nn.init.normal_(embedding.weight, std=embedding.embedding_dim**-0.5)
        nn.init.zeros_(self.output.bias)
        for name, parameter in self.named_parameters():
            if name.startswith(("encoder.bias_hh", "cell.bias_hh")):
                nn.init.zeros_(parameter)
                if isinstance(self.encoder if name.startswith("encoder") else self.cell, (nn.LSTM, nn.LSTMCell)):
                    quarter = parameter.shape[0] // 4
                    nn.init.ones_(parameter.detach()[quarter : 2 * quarter])
