// From likelihood parameters to pixels: nvae_tf/export/tflite/host_sampler.py in JavaScript; tests compare the two.
// `params` is a Float32Array [H, W, P] as the decoder returns it, including padding; images are Float32Array [H, W, C] in
// [0, 1]. The likelihoods, and the order of the mixture's parameters, are those of nvae_tf/distributions.

import {PIXELS, rowKey, splitKey, standardNormal, uniform} from "./philox.js";

const MIN_LOG_SCALE = -7, BOUND = 5, MIN_SCALE = 1e-2;
// The logarithm is taken twice of some uniforms: they keep away from 0 and 1.
const OPEN_INTERVAL = [1e-5, 1 - 1e-5];

const clip = (value, low, high) => Math.min(Math.max(value, low), high);
const softClamp = value => BOUND * Math.tanh(value / BOUND);

/** `values`, if they are a multiple of `size`; others would give a wrong image without a word. */
function checked(values, size, name = "params") {
  if (values.length > 0 && values.length % size === 0) return values;
  throw new Error(`${name}: expected a multiple of ${size} numbers. Received: ${values.length}`);
}

/** Probability of a 1 for every value. */
export function bernoulliMean(logits) {
  return logits.map(logit => 1 / (1 + Math.exp(-logit)));
}

/** 1 where a uniform in [0, 1) is below the probability, else 0. */
export function drawBernoulli(logits, uniforms) {
  return bernoulliMean(logits).map((probability, i) => Number(uniforms[i] < probability));
}

/** The location, clipped to an image. */
export function normalMean(params, numChannels) {
  return drawNormal(params, numChannels, new Float32Array(checked(params, 2 * numChannels).length / 2));
}

/** Location plus scale times a standard normal, [H, W, C], clipped to an image. */
export function drawNormal(params, numChannels, normals) {
  checked(params, 2 * numChannels);
  return normals.map((normal, i) => {
    const at = i + Math.floor(i / numChannels) * numChannels;
    const scale = Math.exp(softClamp(params[at + numChannels])) + MIN_SCALE;
    return clip((softClamp(params[at]) + scale * normal + 1) / 2, 0, 1);
  });
}

/** Means and coefficients mixed by the weights of the components, then the chain over channels. */
export function logisticMixtureMean(params, numChannels, numMixtures) {
  const layout = mixtureLayout(numChannels, numMixtures);
  return eachPixel(params, layout, pixel => {
    const logits = pixel.subarray(0, numMixtures), largest = Math.max(...logits);
    const weights = Float64Array.from(logits, logit => Math.exp(logit - largest));
    const total = weights.reduce((sum, weight) => sum + weight);
    const mix = (start, transform) =>
      weights.reduce((sum, weight, k) => sum + weight * transform(pixel[start + k]), 0) / total;
    return [layout.means.map(start => mix(start, mean => mean)), layout.coefficients.map(start => mix(start, Math.tanh))];
  });
}

/** Index of one pixel's component, by the Gumbel trick; `uniforms` are as many as `logits`, in (0, 1). */
export function pickComponent(logits, uniforms) {
  const values = Array.from(logits, (logit, k) => logit - Math.log(-Math.log(uniforms[k])));
  return values.indexOf(Math.max(...values));
}

/**
 * Picks a component for each pixel, draws its logistics, and runs the chain over channels.
 * Both kinds of uniforms, [H, W, numMixtures] and [H, W, C], lie in [1e-5, 1 - 1e-5].
 */
export function drawLogisticMixture(params, numChannels, numMixtures, componentUniforms, valueUniforms) {
  const layout = mixtureLayout(numChannels, numMixtures);
  return eachPixel(params, layout, (pixel, index) => {
    const uniforms = componentUniforms.subarray(index * numMixtures, (index + 1) * numMixtures);
    const picked = pickComponent(pixel.subarray(0, numMixtures), uniforms);
    const values = layout.means.map((start, channel) => {
      const u = valueUniforms[index * numChannels + channel];
      const scale = Math.exp(Math.max(pixel[start + numMixtures + picked], MIN_LOG_SCALE));
      return pixel[start + picked] + scale * (Math.log(u) - Math.log1p(-u));
    });
    return [values, layout.coefficients.map(start => Math.tanh(pixel[start + picked]))];
  });
}

/** Noise of one image, Float32Arrays of the given sizes, equal to that of tools/sample.py for this seed and image. */
export function latentNoise(sizes, seed, index = 0) {
  const noise = standardNormal(rowKey(seed, index), sizes.reduce((sum, size) => sum + size, 0));
  let end = 0;
  return sizes.map(size => noise.subarray(end, end += size));
}

/** The likelihood's mean image; `likelihood` is the sidecar's: its kind, and num_mixtures of a mixture. */
export function meanImage(params, likelihood, numChannels) {
  switch (likelihood.kind) {
    case "bernoulli": return bernoulliMean(checked(params, numChannels));
    case "normal": return normalMean(params, numChannels);
    case "logistic_mixture": return logisticMixtureMean(params, numChannels, likelihood.num_mixtures);
    default: throw new Error(`likelihood: expected one that this page can draw. Received: ${likelihood.kind}`);
  }
}

/** An image drawn from the likelihood, as by tools/sample.py --pixels=sample for this seed and image. */
export function drawImage(params, likelihood, numChannels, seed, index = 0) {
  const key = rowKey(seed, index, PIXELS);
  switch (likelihood.kind) {
    case "bernoulli": return drawBernoulli(checked(params, numChannels), uniform(key, params.length));
    case "normal": {
      const numValues = checked(params, 2 * numChannels).length / 2;
      return drawNormal(params, numChannels, standardNormal(key, numValues));
    }
    case "logistic_mixture": {
      const numMixtures = likelihood.num_mixtures, [componentKey, valueKey] = splitKey(key);
      const {size} = mixtureLayout(numChannels, numMixtures), numPixels = checked(params, size).length / size;
      const componentUniforms = uniform(componentKey, numPixels * numMixtures, ...OPEN_INTERVAL);
      const valueUniforms = uniform(valueKey, numPixels * numChannels, ...OPEN_INTERVAL);
      return drawLogisticMixture(params, numChannels, numMixtures, componentUniforms, valueUniforms);
    }
    default: throw new Error(`likelihood: expected one that this page can draw. Received: ${likelihood.kind}`);
  }
}

/** The inner [height, width, C] of an image with `padding` more pixels on every side. */
export function cropPadding(image, height, width, padding) {
  const numPixels = (height + 2 * padding) * (width + 2 * padding);
  const numChannels = checked(image, numPixels, "image").length / numPixels;
  const cropped = new Float32Array(height * width * numChannels);
  for (let y = 0; y < height; y++) {
    const start = ((y + padding) * (width + 2 * padding) + padding) * numChannels;
    cropped.set(image.subarray(start, start + width * numChannels), y * width * numChannels);
  }
  return cropped;
}

/** Bytes of an image in [0, 1]: times 255, rounded to the nearest integer, halves to the even one. */
export function toUint8(image) {
  // The clamped array rounds halves to even; the product is rounded to float32 first, as in NumPy.
  return Uint8ClampedArray.from(image, value => Math.fround(value * 255));
}

/** Where a pixel's parameters start: of each channel's means (its log scales follow), of each pair's coefficients. */
function mixtureLayout(numChannels, numMixtures) {
  const numPairs = numChannels * (numChannels - 1) / 2, means = [], coefficients = [];
  let piece = 1;
  for (let channel = 0; channel < numChannels; channel++) {
    means.push(numMixtures * piece);
    piece += 2;
    // The coefficients of all pairs are dealt to the blocks of the channels, the first blocks taking the remainder.
    const count = Math.floor(numPairs / numChannels) + (channel < numPairs % numChannels);
    for (let i = 0; i < count; i++) coefficients.push(numMixtures * piece++);
  }
  return {means, coefficients, size: numMixtures * piece};
}

/** Image from a function of each pixel's parameters that gives a value per channel and a coefficient per pair. */
function eachPixel(params, layout, valuesOf) {
  const numPixels = checked(params, layout.size).length / layout.size, numChannels = layout.means.length;
  const image = new Float32Array(numPixels * numChannels);
  for (let index = 0; index < numPixels; index++) {
    const pixel = params.subarray(index * layout.size, (index + 1) * layout.size);
    const [values, coefficients] = valuesOf(pixel, index);
    let pair = 0;
    for (let channel = 0; channel < numChannels; channel++) {
      for (let before = 0; before < channel; before++) values[channel] += coefficients[pair++] * values[before];
      values[channel] = clip(values[channel], -1, 1);
      image[index * numChannels + channel] = (values[channel] + 1) / 2;
    }
  }
  return image;
}
