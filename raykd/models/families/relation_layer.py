"""Teacher layer whose relations MiniLMv2 transfers."""

from raykd.models.encoder import Encoder

# Placeholder for the paper's layer while the teacher is not known; layers count from 1.
PAPER_LAYER = -1
# Layers of 24-layer teachers in the MiniLMv2 paper, by model type.
_LAYERS_OF_LARGE = {"bert": 21, "roberta": 19}
_NUM_LAYERS_OF_LARGE = 24


def paper_relation_layer(teacher: Encoder) -> int:
    """Layer 21 for BERT-large, 19 for RoBERTa-large, and the last layer for all others."""
    if teacher.num_layers != _NUM_LAYERS_OF_LARGE:
        return teacher.num_layers
    return _LAYERS_OF_LARGE.get(teacher.model.config.model_type, teacher.num_layers)
