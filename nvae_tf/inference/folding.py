"""`fold` reads an NVAE once: batch norm, weight norm and constants go into plain arrays of convolutions.

Everything is computed in float64 and rounded to float32 once. What `fold` returns holds no Keras layer.
"""

import collections
import dataclasses

import numpy as np

from nvae_tf.config import ModelConfig
from nvae_tf.distributions.normal import BOUND
from nvae_tf.inference.linear import ELU, SWISH, UPSAMPLE, Affine, Linear, join
from nvae_tf.layers.cells import RESIDUAL_SCALE, EluConv, InvertedResidual, NormEluConv, NormSwishConv, Resampling
from nvae_tf.layers.norm import EPSILON
from nvae_tf.layers.resample import SHIFTS


@dataclasses.dataclass(frozen=True)
class FoldedCell:
    """A `Cell`: skip(x) + gate(last(steps(x))).

    Attributes:
        steps: list of `Affine`, `Linear` and the names of `inference.linear`.
        last: `Linear` at the end of the residual, its factor included.
        skip: `Linear` of the skip path: of stride 2 after a swish where the cell downsamples, of stride 1 before a
            bilinear upsampling where it upsamples; None for the identity.
        gate: the two `Linear`s of squeeze-and-excitation, or None.
    """

    steps: list
    last: Linear
    skip: Linear | None
    gate: tuple | None


@dataclasses.dataclass(frozen=True)
class FoldedGroup:
    """A `LatentGroup`.

    Attributes:
        cells: list of `FoldedCell` before the prior.
        prior_head: `Linear` of the prior's parameters, divided by the bound of their soft clamp; None for group 0.
        posterior_head: the same for the posterior.
        combiner: `Linear` from the state to what is added to the encoder's feature; None for group 0.
        flows: list of the three `Linear`s of each autoregressive net.
        merge: `Linear` of [state, z]; of z only for group 0.
        start: what the merge makes of the learned start [1, h, w, C], bias included; None where there is none.
        residual_posterior: whether the posterior's parameters are relative to the prior's.
    """

    cells: list
    prior_head: Linear | None
    posterior_head: Linear
    combiner: Linear | None
    flows: list
    merge: Linear
    start: np.ndarray | None
    residual_posterior: bool


@dataclasses.dataclass(frozen=True)
class FoldedNVAE:
    """A whole `NVAE` as float32 arrays.

    Attributes:
        model_config: its `ModelConfig`.
        stem, top, likelihood_head: `Linear`s.
        preprocess, postprocess: lists of `FoldedCell`.
        encoder: bottom-up, pairs of a group's list of cells and the downsampling `FoldedCell` after them, or None.
        decoder: top-down, pairs of the upsampling `FoldedCell` before a group, or None, and the `FoldedGroup`.
        counts: `{what was folded: how often}`.
    """

    model_config: ModelConfig
    stem: Linear
    preprocess: list
    encoder: list
    top: Linear
    decoder: list
    postprocess: list
    likelihood_head: Linear
    counts: dict


def fold(nvae):
    """Folds everything that can be folded exactly.

    Args:
        nvae: `NVAE` with the weights and batch-norm statistics to use (`nvae_tf.load_run` chooses them).

    Returns:
        `FoldedNVAE`.
    """
    folding = _Folding(nvae.kernel_stacks)
    encoder, decoder = nvae.encoder, nvae.decoder
    start = np.asarray(decoder.start, np.float64) if decoder.has_start else None
    return FoldedNVAE(
        model_config=nvae.model_config,
        stem=folding.linear(encoder.stem).rounded(),
        preprocess=folding.cells(encoder.preprocess),
        encoder=[(folding.cells(cells), down and folding.cell(down)) for cells, down in encoder.stages()],
        top=folding.linear(encoder.top).rounded(),
        decoder=[(up and folding.cell(up), folding.group(group, start)) for up, group in decoder.stages()],
        postprocess=folding.cells(decoder.postprocess),
        likelihood_head=folding.linear(decoder.likelihood_head).rounded(),
        counts=dict(folding.counts),
    )


class _Folding:
    """Reads layers and counts what was folded; `kernel_stacks` give the kernels of all convolutions."""

    def __init__(self, kernel_stacks):
        self._kernels = {}
        for stack in kernel_stacks:
            self._kernels.update(zip(map(id, stack.layers), np.asarray(stack.effective()), strict=True))
        self.counts = collections.Counter()

    def linear(self, conv):
        """`Linear` of a `Conv2D` in float64."""
        if conv.weight_norm:
            self.counts["weight norm evaluated"] += 1
        kernel = self._kernels[id(conv)].astype(np.float64)
        bias = np.asarray(conv.bias, np.float64) if conv.use_bias else None
        dilation = conv.dilation
        if dilation > 1 and conv.strides == dilation:
            # TensorFlow has no dilated convolution with strides: zeros between the taps of a plain one.
            kernel, dilation = _spread(kernel, dilation), 1
        return Linear(kernel, bias, conv.strides, dilation, conv.groups)

    def cells(self, cells):
        """List of `FoldedCell`."""
        return [self.cell(cell) for cell in cells]

    def cell(self, cell):
        """`FoldedCell` of a `Cell`."""
        joined, counts = join(step for operation in cell.operations for step in self._steps(operation))
        self.counts.update(counts)
        self.counts["residual factor folded into the last convolution"] += 1
        *steps, last = joined
        last, skip, gate = last.times(RESIDUAL_SCALE), None, None
        if cell.squeeze_excite is not None:
            # The first matrix makes up for the factor of its input.
            scales = ((cell.squeeze_excite.reduce, 1.0 / RESIDUAL_SCALE), (cell.squeeze_excite.expand, 1.0))
            gate = tuple(_pointwise(dense, scale).rounded() for dense, scale in scales)
        if cell.resampling is Resampling.DOWN:
            skip = self._downsample(cell.skip)
            if gate is None:
                # One bias after the sum of both convolutions; see `blocks.Convolution`.
                skip = dataclasses.replace(skip, bias=skip.bias + last.bias)
                last = dataclasses.replace(last, bias=None)
        elif cell.resampling is Resampling.UP:
            skip = self.linear(cell.skip.conv)
        steps = [step if isinstance(step, str) else step.rounded() for step in steps]
        return FoldedCell(steps, last.rounded(), skip and skip.rounded(), gate)

    def _steps(self, operation):
        upsample = [UPSAMPLE] if operation.resampling is Resampling.UP else []
        if isinstance(operation, InvertedResidual):
            norms = operation.norm_in, operation.norm_expand, operation.norm_mix, operation.norm_out
            norm_in, norm_expand, norm_mix, norm_out = map(affine, norms)
            expand, mix, project = map(self.linear, (operation.expand, operation.mix, operation.project))
            before = [norm_in, expand, norm_expand, SWISH, *upsample]
            return [*before, mix, norm_mix, SWISH, project, norm_out]
        before = {NormSwishConv: [SWISH], NormEluConv: [ELU], EluConv: [ELU]}[type(operation)]
        if not isinstance(operation, EluConv):
            before = [affine(operation.norm), *before]
        return [*before, *upsample, self.linear(operation.conv)]

    def _downsample(self, skip):
        """`Linear` of a `FactorizedDownsample` after its swish: its four 1x1 convolutions as one 2x2 of stride 2."""
        parts = [self.linear(conv) for conv in skip.convolutions]
        channels, kernels = parts[0].kernel.shape[2], []
        for part, (row, column) in zip(parts, SHIFTS, strict=True):
            kernel = np.zeros((2, 2, channels, part.kernel.shape[3]))
            kernel[row, column] = part.kernel[0, 0]
            kernels.append(kernel)
        self.counts["four 1x1 convolutions of a downsampling joined in one of 2x2"] += 1
        return Linear(np.concatenate(kernels, -1), np.concatenate([part.bias for part in parts]), strides=2)

    def group(self, group, start):
        """`FoldedGroup` of a `LatentGroup`; `start` is the learned start [h, w, C] or None."""
        first = group.first
        cells = self.cells(group.cells)
        prior_head = None if first else self._head(group.prior_head)
        combiner = None if first else self.linear(group.encoder_combiner.conv).rounded()
        posterior_head = self._head(group.posterior_head)
        nets = [net for flow in group.flows for net in (flow.net, flow.mirrored_net)]
        flows = [[self.linear(conv).rounded() for conv in (n.conv_in, n.conv_hidden, n.conv_out)] for n in nets]
        merge, constant = self.linear(group.merge.conv if group.merge_state else group.merge), None
        if first and start is not None:
            # The start does not depend on the input, nor does its part of the merge.
            split = start.shape[-1]
            constant = (start @ merge.kernel[0, 0, :split] + merge.bias)[np.newaxis].astype(np.float32)
            merge = Linear(merge.kernel[:, :, split:])
            self.counts["learned start merged into a constant"] += 1
        return FoldedGroup(
            cells,
            prior_head,
            posterior_head,
            combiner,
            flows,
            merge.rounded(),
            constant,
            group.residual_posterior,
        )

    def _head(self, conv):
        return self.linear(conv).times(1.0 / BOUND).rounded()


def affine(norm):
    """`Affine` of a `BatchNorm`, from its running statistics."""
    variables = norm.gamma, norm.beta, norm.moving_mean, norm.moving_variance
    gamma, beta, mean, variance = (np.asarray(variable, np.float64) for variable in variables)
    scale = gamma / np.sqrt(variance + EPSILON)
    return Affine(scale, beta - mean * scale)


def _pointwise(dense, scale):
    """1x1 `Linear` of a Keras `Dense` layer whose kernel is multiplied by a number."""
    kernel = np.asarray(dense.kernel, np.float64)[np.newaxis, np.newaxis]
    return Linear(kernel * scale, np.asarray(dense.bias, np.float64))


def _spread(kernel, dilation):
    size = (kernel.shape[0] - 1) * dilation + 1
    result = np.zeros((size, size, *kernel.shape[2:]))
    result[::dilation, ::dilation] = kernel
    return result
