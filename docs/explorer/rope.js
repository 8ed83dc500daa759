"use strict";
// A translation of rope_ref: frequencies.py, magnitude.py, and bands and decay of explain.py, names and order kept.

const pairs = (r) => Array.from({ length: r / 2 }, (_, i) => i);
const clip = (x, low, high) => Math.min(Math.max(x, low), high);

// w_i = 1 / (f_i theta^(2i/r))
const geometric = (r, theta, f) => pairs(r).map((i) => 1 / ((f ? f[i] : 1) * theta ** ((2 * i) / r)));

const proportional = (d, part, theta) =>
  geometric(d, theta).map((w, i) => (i < Math.floor((part * d) / 2) ? w : 0));

const linear = (w, s) => w.map((v) => v / s);

const ntkTheta = (theta, s, r) => (s === 1 ? theta : theta * s ** (r / (r - 2)));

const dynamicFactor = (s, n, trained) => (n > trained ? (s * n) / trained - (s - 1) : 1);

const byParts = (w, s, trained, low, high) =>
  w.map((v) => {
    const rotations = (trained * v) / (2 * Math.PI);
    const t = rotations < low ? 0 : rotations >= high ? 1 : (rotations - low) / (high - low);
    return ((1 - t) * v) / s + t * v;
  });

const yarn = (r, theta, s, trained, fast, slow, truncate) => {
  const pair = (rotations) => (r * Math.log(trained / (rotations * 2 * Math.PI))) / (2 * Math.log(theta));
  let [low, high] = [pair(fast), pair(slow)];
  if (truncate) [low, high] = [Math.floor(low), Math.ceil(high)];
  [low, high] = [Math.max(low, 0), Math.min(high, r - 1)];
  if (low === high) high += 0.001;
  return geometric(r, theta).map((w, i) => {
    const ramp = clip((i - low) / (high - low), 0, 1);
    return (w / s) * ramp + w * (1 - ramp);
  });
};

const yarnScale = (s, mscale = 1) => (s > 1 ? 0.1 * mscale * Math.log(s) + 1 : 1);

const yarnAttention = (s, mscale, all) => (mscale && all ? yarnScale(s, mscale) / yarnScale(s, all) : yarnScale(s));

const longropeAttention = (s, trained) => (s > 1 ? Math.sqrt(1 + Math.log(s) / Math.log(trained)) : 1);

// variants.py: what each is made of, [frequencies, magnitude], from the arguments that it has there
const VARIANTS = {
  default: (a) => [geometric(a.rotary_dim, a.theta), 1],
  proportional: (a) => [linear(proportional(a.head_dim, a.partial_rotary_factor, a.theta), a.factor), 1],
  linear: (a) => [linear(geometric(a.rotary_dim, a.theta), a.factor), 1],
  ntk: (a) => [geometric(a.rotary_dim, ntkTheta(a.theta, a.factor, a.rotary_dim)), 1],
  dynamic_ntk: (a) =>
    VARIANTS.ntk({ ...a, factor: dynamicFactor(a.factor, a.length, a.max_position_embeddings) }),
  llama3: (a) => [
    byParts(geometric(a.rotary_dim, a.theta), a.factor, a.original_max_position_embeddings, a.low_freq_factor,
      a.high_freq_factor),
    1,
  ],
  yarn: (a) => [
    yarn(a.rotary_dim, a.theta, a.factor, a.original_max_position_embeddings, a.beta_fast, a.beta_slow,
      a.truncate ?? true),
    a.attention_factor ?? yarnAttention(a.factor, a.mscale, a.mscale_all_dim),
  ],
  longrope: (a) => [
    geometric(a.rotary_dim, a.theta, a.length > a.original_max_position_embeddings ? a.long_factor : a.short_factor),
    a.attention_factor ?? longropeAttention(a.factor, a.original_max_position_embeddings),
  ],
};

// m^2 mean_i cos(w_i d)
const decay = (w, magnitude, d) => (magnitude ** 2 * w.reduce((sum, v) => sum + Math.cos(v * d), 0)) / w.length;

// runs of pairs that are unchanged, blended, stretched (by the most of all), shortened or still
const bands = (w, theta) => {
  const slowed = geometric(2 * w.length, theta).map((plain, i) => (w[i] > 0 ? plain / w[i] : Infinity));
  const most = Math.max(...slowed.filter(Number.isFinite));
  const close = 1e-5;
  const name = (s) =>
    !Number.isFinite(s) ? "still" : s < 1 - close ? "shortened" : s <= 1 + close ? "unchanged"
      : s >= most * (1 - close) ? "stretched" : "blended";
  const runs = [];
  slowed.forEach((s, i) => {
    const last = runs[runs.length - 1];
    if (last && last.name === name(s)) last.pairs.push(i);
    else runs.push({ name: name(s), pairs: [i] });
  });
  return runs.map((run) => ({ ...run, slowed: run.pairs.map((i) => slowed[i]) }));
};

if (typeof module !== "undefined") module.exports = { VARIANTS, bands, decay, geometric };
