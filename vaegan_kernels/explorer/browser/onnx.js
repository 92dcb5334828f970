"use strict";
// The backend of a page without a server: the networks are in it (explorer/standalone.py), and onnxruntime-web computes them here.

const FINER = 16;  // times the model's pixels is what a photo is reduced from; the browser makes a larger one as small

async function unpacked(id) {  // the bytes of a script element of data: base64, gzip
  const element = document.getElementById(id), text = atob(element.textContent), bytes = new Uint8Array(text.length);
  element.remove();
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

let ort = null;
const sessions = {};
let before = Promise.resolve();

async function start() {
  const url = URL.createObjectURL(new Blob([await unpacked("runtime")], {type: "text/javascript"}));
  ort = await import(url);
  URL.revokeObjectURL(url);
  [ort.env.wasm.numThreads, ort.env.wasm.wasmBinary] = [1, await unpacked("wasm")];
  for (const name of ["decoder", "encoder"]) {
    if ($(name)) sessions[name] = await ort.InferenceSession.create(await unpacked(name), {executionProviders: ["wasm"]});
  }
}

function run(name, inputs) {  // {its name: [shape, Float32Array]}: the outputs, one call after another
  const feeds = Object.fromEntries(Object.entries(inputs).map(([key, [shape, data]]) => [key, new ort.Tensor("float32", data, shape)]));
  const result = before.then(() => sessions[name].run(feeds));
  before = result.catch(() => {});
  return result;
}

function joined(rows) {
  const flat = new Float32Array(rows.length * rows[0].length);
  rows.forEach((row, i) => flat.set(row, i * row.length));
  return [[rows.length, rows[0].length], flat];
}

const lanczos = x => x === 0 ? 1 : Math.abs(x) >= 3 ? 0 : 3 * Math.sin(Math.PI * x) * Math.sin(Math.PI * x / 3) / (Math.PI * x) ** 2;

function weightsOf(from, to) {  // of Lanczos, as Pillow has it: for each new pixel the first old one and the share of each
  const scale = Math.max(1, from / to);
  return Array.from({length: to}, (_, i) => {
    const centre = (i + 0.5) * from / to, first = Math.max(0, Math.floor(centre - 3 * scale + 0.5));
    const length = Math.min(from, Math.floor(centre + 3 * scale + 0.5)) - first;
    const shares = Array.from({length}, (_, k) => lanczos((first + k - centre + 0.5) / scale)), sum = shares.reduce((a, b) => a + b);
    return [first, shares.map(x => x / sum)];
  });
}

function narrowed(pixels, rows, from, to) {  // RGB of `rows` rows of `from` pixels: `to` pixels of each, written as columns
  const found = new Uint8ClampedArray(3 * rows * to);
  weightsOf(from, to).forEach(([first, shares], x) => {
    for (let y = 0; y < rows; y++) {
      for (let c = 0; c < 3; c++) {
        let sum = 0;
        for (let k = 0, at = 3 * (y * from + first) + c; k < shares.length; k++, at += 3) sum += shares[k] * pixels[at];
        found[3 * (x * rows + y) + c] = sum;
      }
    }
  });
  return found;
}

function cut(picture, crop, size, grey) {  // a square as RGB bytes, as data/images.py reads it
  const shorter = Math.min(picture.width, picture.height), side = Math.max(1, Math.round(crop.side * shorter));
  const [left, top] = [[crop.left, picture.width], [crop.top, picture.height]].map(([at, length]) => Math.min(Math.max(Math.round(at * shorter), 0), length - side));
  const work = Math.min(side, FINER * size), canvas = make("canvas", {width: work, height: work}), context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.fillStyle = "white";
  context.fillRect(0, 0, work, work);
  context.drawImage(picture, left, top, side, side, 0, 0, work, work);
  const rgba = context.getImageData(0, 0, work, work).data, rgb = new Uint8ClampedArray(3 * work * work);
  for (let i = 0, j = 0; i < rgb.length; i += 3, j += 4) {
    const luma = (19595 * rgba[j] + 38470 * rgba[j + 1] + 7471 * rgba[j + 2] + 32768) >> 16;
    for (let c = 0; c < 3; c++) rgb[i + c] = grey ? luma : rgba[j + c];
  }
  return new Uint8Array(narrowed(narrowed(rgb, work, work, size), size, work, size).buffer);
}

const backend = {
  live: false,
  limit: 64 * 2 ** 20,  // bytes of a photo

  async models() {
    const models = JSON.parse($("models").textContent);
    await start().catch(error => { throw new Error(`This browser cannot run the model: ${error.message || error}`); });
    let notices = null;
    const licence = make("button", {textContent: "Its licence", onclick: attempt(async () => {
      notices ??= await unpacked("licences");
      save(new Blob([notices], {type: "text/plain"}), "onnxruntime-web-licence.txt");
    })});
    document.body.append(make("footer", {}, make("p", {textContent: "onnxruntime-web computes in this page. Nothing leaves it."}), licence));
    return models;
  },

  async decode(model, rows) {  // as server.js
    const latent = model.latent, pixels = model.size ** 2, inputs = {z: joined(rows.map(row => row.subarray(0, latent)))};
    if (model.condition.length) inputs.attributes = joined(rows.map(row => row.subarray(latent)));
    const {data} = (await run("decoder", inputs)).images;  // NCHW in [-1, 1]
    return rows.map((_, n) => {
      const image = new Uint8Array(3 * pixels);
      for (let i = 0; i < image.length; i++) {
        const value = data[(n * model.channels + i % 3 % model.channels) * pixels + Math.floor(i / 3)];
        image[i] = Math.min(255, Math.max(0, (value + 1) * 127.5 + 0.5));
      }
      return image;
    });
  },

  async open(file) {
    try {
      return {file, picture: await createImageBitmap(file, {imageOrientation: "from-image"})};
    } catch {
      throw new Error(`${file.name || "This"} is no picture that this browser can read. PNG, JPEG, WebP and GIF are.`);
    }
  },

  async encode(model, photo, crop) {
    const image = cut(photo.picture, crop, model.size, model.channels === 1), pixels = model.size ** 2;
    const data = Float32Array.from({length: model.channels * pixels}, (_, i) => image[3 * (i % pixels) + Math.floor(i / pixels)] / 127.5 - 1);
    const inputs = {images: [[1, model.channels, model.size, model.size], data]};
    if (model.condition.length) inputs.attributes = joined([model.mean]);
    return {image, z: Float32Array.from((await run("encoder", inputs)).mu.data), attributes: model.mean};
  },
};
