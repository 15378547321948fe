"""What tasks share whose models may start from pretrained weights of BERT's family."""

from jaxtyping import PyTree

from attnlab.config.models.encoder_model import EncoderModel
from attnlab.config.models.transformer import TransformerEncoder
from attnlab.data.pretrained.source import Pretrained
from attnlab.models import bert
from attnlab.tasks.base import Task


class PretrainedTask(Task):
    """A task whose model may start from pretrained weights of its encoder.

    Attributes:
        pretrained: the weights that training starts from; None for fresh ones, and for a trained model.
    """

    pretrained: Pretrained | None

    @property
    def encoder_config(self) -> TransformerEncoder:
        """The config of the model's Transformer encoder."""
        assert isinstance(self.config.model, EncoderModel)
        return self.config.model.encoder

    def weight_fingerprints(self) -> dict[str, str]:
        """Return the fingerprint of the pretrained weights, if there are any."""
        return {} if self.pretrained is None else {"pretrained": self.pretrained.fingerprint}

    def load_pretrained(self, params: PyTree) -> PyTree:
        """Replace the initial parameters of the encoder with pretrained ones, if there are any."""
        if self.pretrained is None:
            return params
        return bert.replace_parameters(params, self.encoder_config, self.pretrained)

    def pretrained_summary(self) -> list[str]:
        """Return a line for the log that describes the pretrained weights, if there are any."""
        return [] if self.pretrained is None else [bert.describe_weights(self.encoder_config, self.pretrained)]
