"use strict";
// Random numbers and walks, the same as in Python: seed 7 here is seed 7 of `vaegan sample`.

const PRIOR = 7;  // kernels/philox.py: STREAM_FIGURE_PRIOR

function product(a, b) {  // of two 32-bit numbers: [high, low]
  const [ah, al, bh, bl] = [a >>> 16, a & 0xffff, b >>> 16, b & 0xffff];
  const low = al * bl, mid = ah * bl + (low >>> 16), mid2 = al * bh + (mid & 0xffff);
  return [(ah * bh + Math.floor(mid / 65536) + Math.floor(mid2 / 65536)) >>> 0, Math.imul(a, b) >>> 0];
}

function philox(counter, key) {  // ten rounds of Philox4x32 (kernels/philox.py): four 32-bit words
  let [c0, c1, c2, c3] = counter, [k0, k1] = key;
  for (let round = 0; round < 10; round++) {
    const [h0, l0] = product(0xd2511f53, c0), [h1, l1] = product(0xcd9e8d57, c2);
    [c0, c1, c2, c3] = [(h1 ^ c1 ^ k0) >>> 0, l1, (h0 ^ c3 ^ k1) >>> 0, l0];
    k0 = (k0 + 0x9e3779b9) >>> 0;
    k1 = (k1 + 0xbb67ae85) >>> 0;
  }
  return [c0, c1, c2, c3];
}

function uint32(count, seed) {
  const found = [], key = [seed >>> 0, Math.floor(seed / 2 ** 32)];
  for (let block = 0; found.length < count; block++) found.push(...philox([block, PRIOR, 0, 0], key));
  return found.slice(0, count);
}

function prior(count, latent, seed) {  // z ~ N(0, I): `count` Float32Arrays, as Model.prior
  const total = count * latent, drawn = uint32(total + total % 2, seed), flat = new Float32Array(total + total % 2);
  for (let i = 0; i < flat.length; i += 2) {
    const r = Math.sqrt(-2 * Math.log((drawn[i] + 0.5) / 2 ** 32)), angle = 2 * Math.PI * ((drawn[i + 1] + 0.5) / 2 ** 32);
    flat[i] = r * Math.cos(angle);
    flat[i + 1] = r * Math.sin(angle);
  }
  return Array.from({length: count}, (_, i) => flat.slice(i * latent, (i + 1) * latent));
}

function examplesOf(rows, count, seed) {  // `count` of the rows of attributes, as Model.examples
  const drawn = uint32(2 * rows.length, seed), order = rows.map((_, i) => i);
  order.sort((a, b) => drawn[2 * a] - drawn[2 * b] || drawn[2 * a + 1] - drawn[2 * b + 1] || a - b);
  return Array.from({length: count}, (_, i) => rows[order[i % order.length]]);
}

const dot = (a, b) => a.reduce((sum, x, i) => sum + x * b[i], 0);

function walk(a, b, t) {  // the point at t of the spherical way from a to b, as interpolate.walk
  const lengths = [Math.sqrt(dot(a, a)), Math.sqrt(dot(b, b))];
  const angle = Math.acos(Math.min(1, Math.max(-1, dot(a, b) / (lengths[0] * lengths[1] || 1))));
  if (!lengths[0] || !lengths[1] || angle < 1e-4 || angle > Math.PI - 1e-4) return a.map((x, i) => (1 - t) * x + t * b[i]);
  const length = (1 - t) * lengths[0] + t * lengths[1];
  const [u, v] = [Math.sin((1 - t) * angle) / lengths[0], Math.sin(t * angle) / lengths[1]].map(x => x * length / Math.sin(angle));
  return a.map((x, i) => u * x + v * b[i]);
}

function cosine(a, b) {
  return dot(a, b) / (Math.sqrt(dot(a, a) * dot(b, b)) || 1);
}

function floats(text) {  // base64, also as it stands in a link, of float32 numbers
  const bytes = atob(text.replaceAll("-", "+").replaceAll("_", "/"));
  return new Float32Array(Uint8Array.from(bytes, c => c.charCodeAt(0)).buffer);
}

function textOf(numbers) {  // the other way
  const text = btoa(String.fromCharCode(...new Uint8Array(Float32Array.from(numbers).buffer)));
  return text.replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

function rowsOf(flat, width) {  // a Float32Array as rows
  return width ? Array.from({length: flat.length / width}, (_, i) => flat.slice(i * width, (i + 1) * width)) : [];
}
