"""The bottom-up pass: stem, preprocessing, encoder tower (paper figure 2a)."""

import tensorflow as tf

from nvae_tf import hierarchy
from nvae_tf.layers.cells import CELL_OPERATIONS, Cell, Resampling, apply_cells, build_cells
from nvae_tf.layers.conv import Conv2D
from nvae_tf.models.model_part import ModelPart


def preprocess_cells(config):
    """Cells before the encoder tower; the last of each block halves the resolution and doubles the width."""
    operations, count = CELL_OPERATIONS[config.cell_set].preprocess, config.preprocess_cells
    cells = []
    for block in range(config.preprocess_blocks):
        width = config.encoder_channels * 2**block
        for index in range(count):
            down = index == count - 1
            kind, filters = (Resampling.DOWN, 2 * width) if down else (Resampling.NONE, width)
            name = f"preprocess_{block}_cell_{index}"
            cells.append(Cell(operations, filters, kind, config.squeeze_excite, name=name))
    return cells


class Encoder(ModelPart):
    """The encoder of a `ModelConfig`, from images to features for the posteriors of all groups.

    Input: images [B, H, W, C] in [0, 1].
    Output: list of features [B, h, w, encoder width], one for each group in generation order; the feature of group 0 is
    the top of the encoder.
    """

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        config = self.model_config
        self.stem = Conv2D(config.encoder_channels, 3, name="stem")
        self.preprocess = preprocess_cells(config)
        self.group_cells = []  # one list of cells for each group, bottom-up
        self.down_cells = []  # one cell after each scale except the coarsest
        if hierarchy.has_towers(config):
            self._make_tower(config)
        coarsest = hierarchy.scales(config)[0]
        self.top = Conv2D(coarsest.encoder_channels, 1, name="top")

    def _make_tower(self, config):
        operations, gate = CELL_OPERATIONS[config.cell_set].encoder, config.squeeze_excite
        index = hierarchy.num_groups(config)
        for scale in reversed(hierarchy.scales(config)):
            width = scale.encoder_channels
            for _ in range(scale.num_groups):
                index -= 1
                names = [f"group_{index}_cell_{i}" for i in range(config.encoder_cells_per_group)]
                cells = [Cell(operations, width, squeeze_excite=gate, name=name) for name in names]
                self.group_cells.append(cells)
            if scale.index:
                down = Cell(operations, 2 * width, Resampling.DOWN, gate, name=f"down_{scale.index}")
                self.down_cells.append(down)
        self.groups_per_scale = tuple(reversed(hierarchy.groups_per_scale(config)))  # finest first

    def stages(self):
        """The tower, bottom-up: pairs of the cells of a group and the downsampling cell after them, or None."""
        if not self.group_cells:
            return []
        downs, cells = iter(self.down_cells), iter(self.group_cells)
        stages = []
        for count in self.groups_per_scale:
            stages += [(next(cells), None) for _ in range(count)]
            stages[-1] = (stages[-1][0], next(downs, None))
        return stages

    def build(self, input_shape):
        self.stem.build(input_shape)
        shape = build_cells(self.preprocess, (*input_shape[:-1], self.stem.filters))
        for cells, down in self.stages():
            shape = build_cells(cells, shape)
            if down is not None:
                shape = build_cells([down], shape)
        self.top.build(shape)

    def call(self, images, training=False):
        x = self.stem(2.0 * images - 1.0)
        x = apply_cells(self.preprocess, x, training)
        features = []
        for cells, down in self.stages():
            x = apply_cells(cells, x, training)
            features.append(x)
            if down is not None:
                x = down(x, training=training)
        # The last feature passes through the top instead, whose output is the input of group 0's posterior.
        top = tf.nn.elu(self.top(tf.nn.elu(x)))
        return [top, *reversed(features[:-1])]
