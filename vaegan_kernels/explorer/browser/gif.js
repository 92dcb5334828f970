"use strict";
// An animated GIF of frames of RGB pixels: 256 colours for all of them (median cut), LZW.

function palette(pixels) {  // [colours, the colour's number of each 15-bit colour]
  const counts = new Map();
  for (let i = 0; i < pixels.length; i += 3) {
    const key = (pixels[i] >> 3) << 10 | (pixels[i + 1] >> 3) << 5 | pixels[i + 2] >> 3;
    const sum = counts.get(key) || counts.set(key, [0, 0, 0, 0, key]).get(key);
    for (let c = 0; c < 3; c++) sum[c] += pixels[i + c];
    sum[3] += 1;
  }
  const mean = (sum, c) => sum[c] / sum[3];
  const boxes = [[...counts.values()]];
  const spread = (box, c) => Math.max(...box.map(s => mean(s, c))) - Math.min(...box.map(s => mean(s, c)));
  const widths = box => [0, 1, 2].map(c => box.length > 1 ? spread(box, c) : 0);
  const weight = box => Math.max(...widths(box)) * Math.sqrt(box.reduce((n, s) => n + s[3], 0));
  const sizes = [weight(boxes[0])];
  while (boxes.length < 256) {
    const widest = sizes.indexOf(Math.max(...sizes));
    if (sizes[widest] <= 0) break;
    const box = boxes[widest], all = widths(box), c = all.indexOf(Math.max(...all));
    box.sort((a, b) => mean(a, c) - mean(b, c));
    const half = box.reduce((n, s) => n + s[3], 0) / 2;
    let seen = 0, cut = 0;
    while (cut < box.length - 1 && (cut === 0 || seen + box[cut][3] <= half)) seen += box[cut++][3];
    boxes.push(box.splice(cut));
    sizes[widest] = weight(box);
    sizes.push(weight(boxes.at(-1)));
  }
  const number = new Map();
  const colours = boxes.map((box, i) => {
    box.forEach(sum => number.set(sum[4], i));
    const total = box.reduce((n, s) => n + s[3], 0);
    return [0, 1, 2].map(c => Math.round(box.reduce((n, s) => n + s[c], 0) / total));
  });
  return [colours, number];
}

function lzw(indices) {  // of 8-bit numbers, in GIF's sub-blocks
  const bytes = [];
  let table = new Map(), size = 9, buffer = 0, filled = 0, prefix = indices[0];
  const put = code => {
    buffer |= code << filled;
    filled += size;
    for (; filled >= 8; filled -= 8, buffer >>>= 8) bytes.push(buffer & 255);
  };
  put(256);
  for (let i = 1; i < indices.length; i++) {
    const key = prefix << 8 | indices[i], known = table.get(key);
    if (known !== undefined) { prefix = known; continue; }
    put(prefix);
    prefix = indices[i];
    const next = 258 + table.size;
    if (next < 4096) {
      table.set(key, next);
      if (next === 1 << size && size < 12) size++;
    } else {
      put(256);
      table = new Map();
      size = 9;
    }
  }
  put(prefix);
  if (258 + table.size === 1 << size && size < 12) size++;
  put(257);
  if (filled) bytes.push(buffer & 255);
  const blocks = [];
  for (let i = 0; i < bytes.length; i += 255) {
    const part = bytes.slice(i, i + 255);
    blocks.push(part.length, ...part);
  }
  return [8, ...blocks, 0];
}

function gif(frames, width, height, scale, hundredths) {  // frames: RGB bytes; hundredths of a second each is shown: a Blob
  const all = new Uint8Array(frames.length * frames[0].length);
  frames.forEach((frame, i) => all.set(frame, i * frame.length));
  const [colours, number] = palette(all);
  const short = n => [n & 255, n >> 8];
  const parts = [new TextEncoder().encode("GIF89a"), Uint8Array.from([...short(width * scale), ...short(height * scale), 0xf7, 0, 0])];
  parts.push(Uint8Array.from({length: 768}, (_, i) => colours[Math.floor(i / 3)]?.[i % 3] ?? 0));
  parts.push(Uint8Array.from([0x21, 0xff, 11, ...new TextEncoder().encode("NETSCAPE2.0"), 3, 1, 0, 0, 0]));
  frames.forEach((frame, k) => {
    const indices = new Uint8Array(width * height * scale * scale);
    for (let y = 0, at = 0; y < height * scale; y++) {
      for (let x = 0; x < width * scale; x++, at++) {
        const i = 3 * (Math.floor(y / scale) * width + Math.floor(x / scale));
        indices[at] = number.get((frame[i] >> 3) << 10 | (frame[i + 1] >> 3) << 5 | frame[i + 2] >> 3);
      }
    }
    parts.push(Uint8Array.from([0x21, 0xf9, 4, 0, ...short(hundredths[k]), 0, 0]));
    parts.push(Uint8Array.from([0x2c, 0, 0, 0, 0, ...short(width * scale), ...short(height * scale), 0, ...lzw(indices)]));
  });
  return new Blob([...parts, Uint8Array.from([0x3b])], {type: "image/gif"});
}
