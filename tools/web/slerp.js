// The way from one image's noise to another's: slerp of nvae_tf/evaluation/interpolation.py in JavaScript.

/**
 * Spherical interpolation: the direction turns evenly, and the norm changes evenly from one to the other.
 * `first` and `second` are Float32Arrays of one size, neither all zero; `fraction` goes from 0 to 1.
 */
export function slerp(first, second, fraction) {
  const norms = [first, second].map(values => Math.hypot(...values));
  const dot = first.reduce((sum, value, i) => sum + value * second[i], 0) / (norms[0] * norms[1]);
  const angle = Math.acos(Math.min(Math.max(dot, -1), 1)), sine = Math.sin(angle);
  // Parallel: no direction to turn in. Two draws are never opposite.
  const [a, b] = sine < 1e-6 ? [1 - fraction, fraction] : [(1 - fraction) * angle, fraction * angle].map(t => Math.sin(t) / sine);
  const norm = (1 - fraction) * norms[0] + fraction * norms[1];
  return first.map((value, i) => norm * (a * value / norms[0] + b * second[i] / norms[1]));
}
