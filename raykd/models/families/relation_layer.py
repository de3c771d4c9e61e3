"""The layer of a teacher whose relations MiniLMv2 transfers."""

from raykd.models.encoder import Encoder

# Stands for the paper's layer where the teacher is not known yet; blocks are counted from 1.
PAPER_LAYER = -1
# Layers of teachers of 24 layers in Wang et al. 2021, "MiniLMv2", by model type: upper middle ones.
_LAYERS_OF_LARGE = {"bert": 21, "roberta": 19}
_NUM_LAYERS_OF_LARGE = 24


def paper_relation_layer(teacher: Encoder) -> int:
    """Layer 21 of BERT-large, 19 of RoBERTa-large, and the last one of every other teacher."""
    if teacher.num_layers != _NUM_LAYERS_OF_LARGE:
        return teacher.num_layers
    return _LAYERS_OF_LARGE.get(teacher.model.config.model_type, teacher.num_layers)
