"""`fold` converts an NVAE to plain float64 arrays: convolutions absorb batch norm, weight norm and constants."""

import collections
import dataclasses
import types

import numpy as np

from nvae_tf.distributions.normal import BOUND
from nvae_tf.inference.linear import ELU, SWISH, UPSAMPLE, Affine, Linear, join
from nvae_tf.layers.cells import RESIDUAL_SCALE, InvertedResidual, NormSwishConv, Resampling
from nvae_tf.layers.norm import EPSILON
from nvae_tf.layers.resample import SHIFTS


class FoldedCell(types.SimpleNamespace):
    """A `Cell`: skip(x) + gate(last(steps(x))).

    Attributes:
        steps: list of `Affine`, `Linear` and the names of `inference.linear`.
        last: `Linear` at the end of the residual, including the residual's factor.
        skip: `Linear` of the skip path. If the cell downsamples, it has stride 2 and follows a swish; if it upsamples,
            it precedes a bilinear upsampling. None for the identity.
        gate: the two `Linear`s of squeeze-and-excitation, or None.
    """


class FoldedGroup(types.SimpleNamespace):
    """A `LatentGroup`.

    Attributes:
        cells: list of `FoldedCell` before the prior; where a scale begins, it includes the upsampling cell.
        prior_head, posterior_head: `Linear`s of the parameters, divided by the bound of their soft clamp. prior_head is
            None for group 0.
        combiner: `Linear` of the state, whose output is added to the encoder's feature; None for group 0.
        flows: for each autoregressive net, the list of its three `Linear`s.
        merge: `Linear` of [state, z]; for group 0 only of z.
        start: contribution of the learned start to the merge, including the bias, [1, h, w, C]; None without a start.
        residual_posterior: whether the posterior's parameters are relative to the prior's.
    """


class FoldedNVAE(types.SimpleNamespace):
    """A whole `NVAE`.

    Attributes:
        model_config: its `ModelConfig`.
        stem, top, likelihood_head: `Linear`s.
        encoder: for each group, bottom-up, the list of `FoldedCell` between the previous feature and its own.
        groups: `FoldedGroup`s in generation order.
        postprocess: list of `FoldedCell`.
        counts: `{description of what was folded: number of times}`.
    """


def fold(nvae):
    """Folds all layers of a model that can be folded exactly.

    Args:
        nvae: `NVAE` with the weights and batch-norm statistics to use (`nvae_tf.load_run` chooses them).

    Returns:
        `FoldedNVAE`, which holds no Keras layer.
    """
    folding = _Folding(nvae)
    encoder, decoder = nvae.encoder, nvae.decoder
    stages, before = [], encoder.preprocess
    for cells, down in encoder.stages() or [([], None)]:
        stages.append([*before, *cells])
        before = [down]
    start = np.asarray(decoder.start, np.float64) if decoder.has_start else None
    return FoldedNVAE(
        model_config=nvae.model_config,
        stem=folding.linear(encoder.stem),
        encoder=[folding.cells(cells) for cells in stages],
        top=folding.linear(encoder.top),
        groups=[folding.group(up, group, start) for up, group in decoder.stages()],
        postprocess=folding.cells(decoder.postprocess),
        likelihood_head=folding.linear(decoder.likelihood_head),
        counts=dict(folding.counts),
    )


class _Folding:
    """Reads the layers of an `NVAE` and counts what was folded."""

    def __init__(self, nvae):
        self._kernels = {}
        for stack in nvae.kernel_stacks:
            self._kernels.update(zip(map(id, stack.layers), np.asarray(stack.effective()), strict=True))
        self.counts = collections.Counter()

    def linear(self, conv):
        """`Linear` of a `Conv2D`."""
        if conv.weight_norm:
            self.counts["weight norm evaluated"] += 1
        kernel, dilation = self._kernels[id(conv)].astype(np.float64), conv.dilation
        if dilation > 1 and conv.strides == dilation:
            # TensorFlow has no dilated convolution with strides, so the kernel gets zeros between its taps.
            size = (kernel.shape[0] - 1) * dilation + 1
            spread = np.zeros((size, size, *kernel.shape[2:]))
            spread[::dilation, ::dilation] = kernel
            kernel, dilation = spread, 1
        bias = np.asarray(conv.bias, np.float64) if conv.use_bias else None
        return Linear(kernel, bias, conv.strides, dilation, conv.groups)

    def cells(self, cells):
        """List of `FoldedCell`; None is skipped."""
        return [self._cell(cell) for cell in cells if cell is not None]

    def _cell(self, cell):
        (*steps, last), counts = join(step for operation in cell.operations for step in self._steps(operation))
        self.counts.update(counts)
        self.counts["residual factor folded into the last convolution"] += 1
        last, skip, gate = last.times(RESIDUAL_SCALE), None, None
        if cell.squeeze_excite is not None:
            reduce, expand = cell.squeeze_excite.reduce, cell.squeeze_excite.expand
            # The gate is computed from the residual before the factor.
            gate = [_pointwise(reduce, 1.0 / RESIDUAL_SCALE), _pointwise(expand)]
        if cell.resampling is Resampling.DOWN:
            skip = self._downsample(cell.skip)
            if gate is None:
                # A single bias is added after the sum of both convolutions; see `blocks.Convolution`.
                skip = dataclasses.replace(skip, bias=skip.bias + last.bias)
                last = dataclasses.replace(last, bias=None)
        elif cell.resampling is Resampling.UP:
            skip = self.linear(cell.skip.conv)
        return FoldedCell(steps=steps, last=last, skip=skip, gate=gate)

    def _steps(self, operation):
        upsample = [UPSAMPLE] if operation.resampling is Resampling.UP else []
        if isinstance(operation, InvertedResidual):
            norms = operation.norm_in, operation.norm_expand, operation.norm_mix, operation.norm_out
            norm_in, norm_expand, norm_mix, norm_out = map(affine, norms)
            expand, mix, project = map(self.linear, (operation.expand, operation.mix, operation.project))
            before = [norm_in, expand, norm_expand, SWISH, *upsample]
            return [*before, mix, norm_mix, SWISH, project, norm_out]
        norm = [] if operation.norm is None else [affine(operation.norm)]
        activation = SWISH if isinstance(operation, NormSwishConv) else ELU
        return [*norm, activation, *upsample, self.linear(operation.conv)]

    def _downsample(self, skip):
        """The four 1x1 convolutions of a `FactorizedDownsample` as one 2x2 convolution with stride 2."""
        parts = [self.linear(conv) for conv in skip.convolutions]
        kernels = [np.zeros((2, 2, *part.kernel.shape[2:])) for part in parts]
        for kernel, part, (row, column) in zip(kernels, parts, SHIFTS, strict=True):
            kernel[row, column] = part.kernel[0, 0]
        self.counts["four 1x1 convolutions of a downsampling joined in one of 2x2"] += 1
        return Linear(np.concatenate(kernels, -1), np.concatenate([part.bias for part in parts]), strides=2)

    def group(self, up, group, start):
        """`FoldedGroup` of a `LatentGroup` and the upsampling cell before it, or None; start is [h, w, C] or None."""
        first = group.first
        nets = [net for flow in group.flows for net in (flow.net, flow.mirrored_net)]
        merge, constant = self.linear(group.merge.conv if group.merge_state else group.merge), None
        if first and start is not None:
            # The start does not depend on the input, and neither does its part of the merge.
            split = start.shape[-1]
            constant = (start @ merge.kernel[0, 0, :split] + merge.bias)[np.newaxis]
            merge = Linear(merge.kernel[:, :, split:])
            self.counts["learned start merged into a constant"] += 1
        return FoldedGroup(
            cells=self.cells([up, *group.cells]),
            prior_head=None if first else self.linear(group.prior_head).times(1.0 / BOUND),
            posterior_head=self.linear(group.posterior_head).times(1.0 / BOUND),
            combiner=None if first else self.linear(group.encoder_combiner.conv),
            flows=[[self.linear(conv) for conv in (net.conv_in, net.conv_hidden, net.conv_out)] for net in nets],
            merge=merge,
            start=constant,
            residual_posterior=group.residual_posterior,
        )


def affine(norm):
    """`Affine` of a `BatchNorm`, from its running statistics."""
    variables = norm.gamma, norm.beta, norm.moving_mean, norm.moving_variance
    gamma, beta, mean, variance = (np.asarray(variable, np.float64) for variable in variables)
    scale = gamma / np.sqrt(variance + EPSILON)
    return Affine(scale, beta - mean * scale)


def _pointwise(dense, factor=1.0):
    """1x1 `Linear` of a Keras `Dense` layer, its kernel multiplied by a factor."""
    kernel = np.asarray(dense.kernel, np.float64)[np.newaxis, np.newaxis]
    return Linear(kernel * factor, np.asarray(dense.bias, np.float64))
