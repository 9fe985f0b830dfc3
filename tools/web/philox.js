// TensorFlow's stateless random numbers: nvae_tf/export/tflite/philox.py in JavaScript; tests compare the two.
// The generator is Philox 4x32-10 (Salmon et al., SC 2011). A key is four 32-bit words.

export const LATENTS = 0, PIXELS = 1;
const ROUNDS = 10, INDEX_LIMIT = 2 ** 29;

/** Key of one image, Uint32Array [4]. `seed` up to 2^53 - 1, `index` of the image below 2^29. */
export function rowKey(seed, index = 0, purpose = LATENTS) {
  if (!Number.isSafeInteger(seed) || seed < 0) throw new RangeError(`seed: expected 0 to 2^53 - 1. Received: ${seed}`);
  if (!Number.isInteger(index) || index < 0 || index >= INDEX_LIMIT) {
    throw new RangeError(`index: expected 0 to 2^29 - 1. Received: ${index}`);
  }
  const counter = index * 2 ** 24;
  return Uint32Array.of(seed % 2 ** 32, seed / 2 ** 32, counter % 2 ** 32, counter / 2 ** 32 + purpose * 2 ** 28);
}

/** The first `count` words of a key's stream, Uint32Array. */
export function randomWords(key, count) {
  // TensorFlow mixes a seed's words before it uses them.
  const mixed = philox(key, 0x3ec8f720, 0x02461e29, new Uint32Array(4), 0);
  const words = new Uint32Array(4 * Math.ceil(count / 4));
  for (let start = 0; start < words.length; start += 4) {
    philox([start / 4, 0, mixed[2], mixed[3]], mixed[0], mixed[1], words, start);
  }
  return words.subarray(0, count);
}

/** Two keys from one. */
export function splitKey(key) {
  const words = randomWords(key, 8);
  return [words.subarray(0, 4), words.subarray(4)];
}

/** Float32Array of uniforms from `low` to below `high`, with 23 random bits each. */
export function uniform(key, count, low = 0, high = 1) {
  const first = Math.fround(low), width = Math.fround(Math.fround(high) - first);
  return Float32Array.from(randomWords(key, count), word => Math.fround(unitInterval(word) * width) + first);
}

/** Float32Array of standard normals: Box-Muller on two words for two values. */
export function standardNormal(key, count) {
  const words = randomWords(key, count + count % 2), values = new Float32Array(words.length);
  for (let i = 0; i < words.length; i += 2) {
    const radius = Math.sqrt(-2 * Math.log(Math.max(unitInterval(words[i]), 1e-7)));
    const angle = Math.fround(2 * Math.PI * unitInterval(words[i + 1]));
    values[i] = Math.sin(angle) * radius;
    values[i + 1] = Math.cos(angle) * radius;
  }
  return values.subarray(0, count);
}

// A double holds these exactly, and so does the float32 of TensorFlow.
const unitInterval = word => (word & 0x7fffff) / 2 ** 23;

/** Writes the four words of a counter under a key of two words to `out` at `start`; returns `out`. */
function philox([c0, c1, c2, c3], k0, k1, out, start) {
  for (let round = 0; round < ROUNDS; round++) {
    const high0 = multiplyHigh(0xd2511f53, c0), low0 = Math.imul(0xd2511f53, c0);
    const high1 = multiplyHigh(0xcd9e8d57, c2), low1 = Math.imul(0xcd9e8d57, c2);
    [c0, c1, c2, c3] = [(high1 ^ c1 ^ k0) >>> 0, low1 >>> 0, (high0 ^ c3 ^ k1) >>> 0, low0 >>> 0];
    [k0, k1] = [(k0 + 0x9e3779b9) >>> 0, (k1 + 0xbb67ae85) >>> 0];
  }
  out.set([c0, c1, c2, c3], start);
  return out;
}

/** High word of the product of two 32-bit words, by halves: a number is exact to 53 bits only. */
function multiplyHigh(a, b) {
  const low = a * (b & 0xffff), high = a * (b >>> 16);
  return Math.floor((high + Math.floor(low / 2 ** 16)) / 2 ** 16);
}
