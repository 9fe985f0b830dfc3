// Interpolation from one image's noise to another's: slerp of nvae_tf/models/noise.py in JavaScript.

/**
 * Spherical interpolation: the direction turns evenly, and the norm changes evenly from one to the other.
 * `first` and `second` are Float32Arrays of one size, neither all zero; `fraction` goes from 0 to 1.
 */
export function slerp(first, second, fraction) {
  const dot = (one, other) => one.reduce((sum, value, i) => sum + value * other[i], 0);
  const norms = [first, second].map(values => Math.sqrt(dot(values, values)));
  const cosine = dot(first, second) / (norms[0] * norms[1]);
  const angle = Math.acos(Math.min(Math.max(cosine, -1), 1)), sine = Math.sin(angle);
  // Parallel: no direction to turn in. Two draws are never opposite.
  const [a, b] = [1 - fraction, fraction].map(part => sine < 1e-6 ? part : Math.sin(part * angle) / sine);
  const norm = (1 - fraction) * norms[0] + fraction * norms[1];
  return first.map((value, i) => norm * (a * value / norms[0] + b * second[i] / norms[1]));
}
