"""The top-down pass: latent groups, decoder tower, postprocessing (paper figure 2)."""

import keras
import tensorflow as tf

from nvae_tf import hierarchy
from nvae_tf.layers.cells import CELL_SETS, Cell, Resampling, apply_cells, build_cells
from nvae_tf.layers.conv import Conv2D
from nvae_tf.layers.layer import Layer
from nvae_tf.models.encoder import make_block
from nvae_tf.models.latent_group import GroupPlace, LatentGroup


@keras.saving.register_keras_serializable(package="nvae_tf")
class Decoder(Layer):
    """From latents to the likelihood's parameters.

    Args:
        config: `ModelConfig`.

    Attributes:
        groups: `LatentGroup`s in generation order.
        up_cells: one upsampling cell after each scale but the finest.
        postprocess: cells after the last group.
        likelihood_head: convolution that gives the likelihood's parameters.
        start: learned start of the top-down pass [h, w, C].
    """

    def __init__(self, config, **kwargs):
        super().__init__(**kwargs)
        operations = CELL_SETS[config.cell_set]
        gate = config.squeeze_excite
        self.scales = hierarchy.scales(config)
        towers = hierarchy.has_towers(config)
        self.groups = []
        for index, scale in enumerate(hierarchy.group_scales(config)):
            width = scale.decoder_channels if towers else scale.encoder_channels
            group = LatentGroup(config, GroupPlace(index, scale), width, merge_state=towers, name=f"group_{index}")
            self.groups.append(group)
        self.up_cells = [
            Cell(operations.decoder, scale.decoder_channels, Resampling.UP, gate, name=f"up_{scale.index}")
            for scale in self.scales[1:]
        ]
        finest = self.scales[-1].decoder_channels if towers else self.scales[-1].encoder_channels
        self.postprocess = []
        for block in range(config.postprocess_blocks):
            self.postprocess += make_block(
                operations.postprocess,
                config.postprocess_cells,
                finest // 2 ** (block + 1),
                Resampling.UP,
                gate,
                resample_first=True,
                prefix=f"postprocess_{block}",
            )
        self.likelihood_head = Conv2D(hierarchy.num_likelihood_parameters(config), 3, name="likelihood_head")
        self.has_start = towers

    def stages(self):
        """The tower top-down: pairs of the upsampling cell that comes before a group, or None, and the group."""
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

    def _initial_state(self, batch_size):
        if not self.has_start:
            return None
        start = tf.convert_to_tensor(self.start)[tf.newaxis]
        return tf.broadcast_to(start, [batch_size, *start.shape[1:]])

    def _finish(self, state, training):
        x = apply_cells(self.postprocess, state, training)
        return tf.cast(self.likelihood_head(tf.nn.elu(x)), tf.float32)

    def infer(self, features, noise, training=False):
        """Top-down pass with posterior samples.

        Args:
            features: the encoder's, one for each group.
            noise: standard normals [B, h, w, latent_channels], one for each group.

        Returns:
            Likelihood parameters [B, H, W, P] and the list of the groups' `LatentTerms`.
        """
        state = self._initial_state(tf.shape(features[0])[0])
        terms = []
        for (up, group), feature, eps in zip(self.stages(), features, noise, strict=True):
            if up is not None:
                state = up(state, training=training)
            state, group_terms = group.infer(state, feature, eps, training=training)
            terms.append(group_terms)
        return self._finish(state, training), terms

    def generate(self, noise, temperatures, training=False):
        """Top-down pass with prior samples; returns likelihood parameters [B, H, W, P].

        Args:
            noise: standard normals [B, h, w, latent_channels], one for each group.
            temperatures: factor of the prior's scale for each group, numbers or tensors [B, 1, 1, 1].
        """
        state = self._initial_state(tf.shape(noise[0])[0])
        for (up, group), eps, temperature in zip(self.stages(), noise, temperatures, strict=True):
            if up is not None:
                state = up(state, training=training)
            state = group.generate(state, eps, temperature, training=training)
        return self._finish(state, training)

    def decode(self, latents, training=False):
        """Top-down pass with latents that are given.

        Args:
            latents: z [B, h, w, latent_channels] of each group.

        Returns:
            Likelihood parameters [B, H, W, P], and the list of the groups' standard normals from which `generate` makes
            these latents at temperature 1.
        """
        state = self._initial_state(tf.shape(latents[0])[0])
        noise = []
        for (up, group), latent in zip(self.stages(), latents, strict=True):
            if up is not None:
                state = up(state, training=training)
            state, eps = group.decode(state, latent, training=training)
            noise.append(eps)
        return self._finish(state, training), noise
