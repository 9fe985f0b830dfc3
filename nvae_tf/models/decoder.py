"""The top-down pass: latent groups, decoder tower, postprocessing (paper figure 2)."""

import keras
import tensorflow as tf

from nvae_tf import hierarchy
from nvae_tf.layers.cells import CELL_OPERATIONS, Cell, Resampling, apply_cells, build_cells
from nvae_tf.layers.conv import Conv2D
from nvae_tf.models.latent_group import LatentGroup
from nvae_tf.models.model_part import ModelPart


def postprocess_cells(config, filters):
    """Cells after the last group of width `filters`; each block doubles the resolution and halves the width."""
    operations = CELL_OPERATIONS[config.cell_set].postprocess
    cells = []
    for block in range(config.postprocess_blocks):
        for index in range(config.postprocess_cells):
            kind, name = Resampling.NONE if index else Resampling.UP, f"postprocess_{block}_cell_{index}"
            cells.append(Cell(operations, filters // 2 ** (block + 1), kind, config.squeeze_excite, name=name))
    return cells


class Decoder(ModelPart):
    """The decoder of a `ModelConfig`, from latents to the parameters of the likelihood.

    Attributes:
        has_start: whether the top-down pass starts from a learned state; False with one scale and one group.
        start: the learned state [h, w, C].
    """

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        config = self.model_config
        self.scales = hierarchy.scales(config)
        self.has_start = hierarchy.has_towers(config)
        self.groups = [LatentGroup(config, i, name=f"group_{i}") for i in range(hierarchy.num_groups(config))]
        operations, gate = CELL_OPERATIONS[config.cell_set].decoder, config.squeeze_excite
        self.up_cells = [
            Cell(operations, scale.decoder_channels, Resampling.UP, gate, name=f"up_{scale.index}")
            for scale in self.scales[1:]
        ]
        finest = self.scales[-1].decoder_channels if self.has_start else self.scales[-1].encoder_channels
        self.postprocess = postprocess_cells(config, finest)
        self.likelihood_head = Conv2D(hierarchy.num_likelihood_parameters(config), 3, name="likelihood_head")

    def stages(self):
        """The tower, top-down: pairs of the upsampling cell before a group, or None, and the group."""
        groups, stages = iter(self.groups), []
        for scale in self.scales:
            for position in range(scale.num_groups):
                up = self.up_cells[scale.index - 1] if scale.index and position == 0 else None
                stages.append((up, next(groups)))
        return stages

    def build(self, input_shape=None):
        coarsest = self.scales[0]
        shape = (None, coarsest.height, coarsest.width, coarsest.decoder_channels)
        if self.has_start:
            uniform = keras.initializers.RandomUniform(0.0, 1.0)
            self.start = self.add_weight(shape=shape[1:], initializer=uniform, name="start")
        for up, group in self.stages():
            if up is not None:
                shape = build_cells([up], shape)
            group.build(shape)
        if not self.has_start:
            shape = (*shape[:-1], coarsest.encoder_channels)
        self.likelihood_head.build(build_cells(self.postprocess, shape))

    def infer(self, features, noise, training=False):
        """Top-down pass with posterior samples: likelihood parameters [B, H, W, P], and each group's `LatentTerms`."""
        return self._top_down(LatentGroup.infer, training, features, noise)

    def generate(self, noise, temperatures, training=False):
        """Top-down pass with prior samples, each at its group's temperature: likelihood parameters [B, H, W, P]."""
        return self._top_down(LatentGroup.generate, training, noise, temperatures)[0]

    def decode(self, latents):
        """Top-down pass with given latents: likelihood parameters, and the noise from which `generate` makes them."""
        return self._top_down(LatentGroup.decode, False, latents)

    def _top_down(self, step, training, *inputs):
        """Passes the state through the tower; `step` is a method of the groups that returns a state and an output."""
        state, outputs = None, []
        if self.has_start:
            state = tf.broadcast_to(tf.convert_to_tensor(self.start), [tf.shape(inputs[0][0])[0], *self.start.shape])
        for (up, group), *group_inputs in zip(self.stages(), *inputs, strict=True):
            if up is not None:
                state = up(state, training=training)
            state, output = step(group, state, *group_inputs, training=training)
            outputs.append(output)
        x = apply_cells(self.postprocess, state, training)
        return tf.cast(self.likelihood_head(tf.nn.elu(x)), tf.float32), outputs
