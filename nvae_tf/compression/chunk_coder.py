"""Bits-back coding of a chunk of images on one stack of an entropy coder.

Townsend et al. 2019 (arXiv 1901.04866) and 2020 (HiLLoC, arXiv 1912.09953). Compression takes latents from the stack
as if it held samples of the posterior, puts pixels and latents on it, and so pays -ELBO for an image: the bits that it
took come back when the decoder, which then knows the image, puts the latents on its stack again.
"""

import dataclasses
import hashlib

import constriction
import numpy as np
from scipy.special import ndtr

# Latents beyond this many standard deviations of the prior are coded as if they were there.
_REACH = 8
_WORD_BITS = 32
# Words of the coder's state, which is the top of the stack.
_STATE_WORDS = 2
# Bits that the coder's 24-bit probabilities spend on a symbol at most.
_MAX_SYMBOL_BITS = 24
# Least probability that counts in `Statistics.ideal_bits`: no symbol costs the coder more.
_LEAST = 2.0**-_MAX_SYMBOL_BITS


class DifferentArithmeticError(ValueError):
    """A chunk that is intact was not decoded to what was compressed."""


@dataclasses.dataclass
class Statistics:
    """Where the bits of coded images went; all are sums over the images.

    Attributes:
        num_images: number of images.
        start_bits: bits that were on the stacks before the first image and had to be stored.
        stored_bits: size of all stacks, start_bits included.
        ideal_bits: information content of the symbols under the exact distributions on the grid,
            -log2 p(x | z) - log2 p(z) + log2 q(z | x).
    """

    num_images: int = 0
    start_bits: int = 0
    stored_bits: int = 0
    ideal_bits: float = 0.0

    def add(self, other):
        for field in dataclasses.fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))


class ChunkCoder:
    """Compresses and decompresses chunks of images.

    Args:
        networks: `CodingNetworks`.

    Attributes:
        networks: the argument.
    """

    def __init__(self, networks):
        self.networks, steps = networks, networks.settings.steps
        models, reach = constriction.stream.model, _REACH * steps
        self._prior = models.QuantizedGaussian(-reach, reach, 0.0, float(steps))
        self._posterior = models.QuantizedGaussian(-reach, reach)
        self._pixel = models.Categorical(perfect=False)

    def compress(self, levels, first):
        """Compresses a chunk.

        Args:
            levels: uint8 [N, h, w, C], values below the number of levels of the likelihood.
            first: number of the first image in its file.

        Returns:
            (little-endian uint32 array, `Statistics`).
        """
        networks, done = self.networks, 0
        sizes = networks.settings.batches(len(levels))
        per_image = sum(map(networks.num_symbols, range(networks.num_groups)))
        # What all latents of the largest batch can take at most.
        lowest = prefilled = _STATE_WORDS + -(-_MAX_SYMBOL_BITS * per_image * max(sizes) // _WORD_BITS)
        stack, statistics = constriction.stream.stack.AnsCoder(_start(prefilled)), Statistics(len(levels))
        for size in sizes:
            left, ideal = self._push_images(stack, levels[done : done + size], first + done)
            statistics.ideal_bits += ideal
            lowest, done = min(lowest, left), done + size
        # The words that were never on top of the stack are those with which every chunk starts.
        words = stack.get_compressed()[lowest - _STATE_WORDS :]
        statistics.start_bits = _WORD_BITS * (prefilled - lowest + _STATE_WORDS)
        statistics.stored_bits = _WORD_BITS * len(words)
        return words.astype("<u4"), statistics

    def decompress(self, words, count, first):
        """Decompresses a chunk.

        Args:
            words: what `compress` returned.
            count: number of images.
            first: number of the first image in its file.

        Returns:
            uint8 [count, h, w, C].

        Raises:
            DifferentArithmeticError: the words were computed from other numbers.
        """
        try:
            stack = constriction.stream.stack.AnsCoder(words.astype(np.uint32))
        except ValueError as error:
            raise DifferentArithmeticError(str(error)) from error
        levels = np.zeros((count, *self.networks.image_shape), np.uint8)
        for size in reversed(self.networks.settings.batches(count)):
            count -= size
            levels[count : count + size] = self._pop_images(stack, size, first + count)
        rest = stack.get_compressed()
        if len(rest) < _STATE_WORDS or not np.array_equal(rest, _start(len(rest))):
            raise DifferentArithmeticError("expected the stack as it was before the first image. Received: another")
        return levels

    def _push_images(self, stack, levels, first):
        """Encodes a batch; returns the words on the stack when there were fewest, and the ideal bits."""
        networks, features = self.networks, self.networks.encode(levels)
        descent, symbols, ideal = networks.start(first, len(levels)), [], 0.0
        for group in range(networks.num_groups):
            descent.prior()
            posterior = descent.posterior(group, features)
            symbols.append(stack.decode(self._posterior, *posterior))
            descent.take(symbols[-1])
            ideal += _normal_bits(symbols[-1], 0.0, networks.settings.steps) - _normal_bits(symbols[-1], *posterior)
        left, channels = stack.num_words(), range(levels.shape[-1])
        probabilities = [descent.pixels(channel, levels) for channel in channels]
        for channel in reversed(channels):
            values = levels[..., channel].astype(np.int32).ravel()
            stack.encode_reverse(values, self._pixel, probabilities[channel])
            ideal += _level_bits(values, probabilities[channel])
        for group in reversed(range(networks.num_groups)):
            stack.encode_reverse(symbols[group], self._prior)
        return left, ideal

    def _pop_images(self, stack, count, first):
        """Decodes a batch of images, uint8 [count, h, w, C]."""
        networks, descent, symbols = self.networks, self.networks.start(first, count), []
        for group in range(networks.num_groups):
            descent.prior()
            symbols.append(stack.decode(self._prior, count * networks.num_symbols(group)))
            descent.take(symbols[-1])
        levels = np.zeros((count, *networks.image_shape), np.uint8)
        for channel in range(levels.shape[-1]):
            values = stack.decode(self._pixel, descent.pixels(channel, levels))
            levels[..., channel] = values.reshape(levels.shape[:-1])
        features = networks.encode(levels)
        for group in reversed(range(networks.num_groups)):
            stack.encode_reverse(symbols[group], self._posterior, *descent.posterior(group, features))
        return levels


def _normal_bits(symbols, mean, std):
    """Bits of symbols under normal distributions on the grid."""
    # On the left of the mean, where a difference of two probabilities keeps its digits.
    left = -np.abs(symbols - mean)
    return -float(np.log2(np.maximum(ndtr((left + 0.5) / std) - ndtr((left - 0.5) / std), _LEAST)).sum())


def _level_bits(values, probabilities):
    """Bits of levels [n] under probabilities [n, L]."""
    chosen = np.take_along_axis(probabilities, values[:, np.newaxis], axis=1)[:, 0]
    return -float(np.log2(np.maximum(chosen / probabilities.sum(axis=1), _LEAST)).sum())


def _start(count):
    """The stack before the first image: uint32 [count], the top last; a larger one has more words below."""
    words = np.frombuffer(hashlib.shake_128(b"nvz").digest(4 * count), "<u4").astype(np.uint32)
    words[:1] |= 1  # the coder's top word is never zero
    return words[::-1].copy()
