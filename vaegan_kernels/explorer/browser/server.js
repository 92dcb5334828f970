"use strict";
// The backend that asks this machine's server (explorer/routes.py). Its other form is onnx.js.

async function ask(path, body) {
  let answer;
  for (let tries = 0; tries < 5; tries++) {
    try {
      answer = await fetch(path, body === undefined ? {} : {method: "POST", body});
    } catch {
      throw new Error("The server does not answer. Is the command in the terminal still running?");
    }
    if (answer.status !== 503) break;
    await new Promise(done => setTimeout(done, 300 * (tries + 1)));
  }
  if (!answer.ok) throw new Error((await answer.json().catch(() => ({}))).error || `The server said ${answer.status}.`);
  return answer;
}

function encoded(buffer, model) {  // {image, z, attributes} of an image, mu and attributes, one behind the other
  const pixels = 3 * model.size ** 2, numbers = new Float32Array(buffer.slice(pixels));
  return {image: new Uint8Array(buffer, 0, pixels), z: numbers.slice(0, model.latent), attributes: numbers.slice(model.latent)};
}

const backend = {
  live: true,
  limit: 10 * 2 ** 20,  // bytes of a photo

  async models() {  // what is shown: see Shown.about
    return (await ask("models")).json();
  },

  async decode(model, rows) {  // Float32Arrays of z with its attributes: RGB bytes of each
    const width = rows[0].length, flat = new Float32Array(rows.length * width);
    rows.forEach((row, i) => flat.set(row, i * width));
    const bytes = new Uint8Array(await (await ask(`decode?run=${model.index}`, flat)).arrayBuffer());
    return rows.map((_, i) => bytes.subarray(i * bytes.length / rows.length, (i + 1) * bytes.length / rows.length));
  },

  async open(file) {  // a photo to choose a square in
    return {file, picture: await createImageBitmap(await (await ask("preview", file)).blob())};
  },

  async encode(model, photo, crop) {  // {image, z, attributes} of a square: left, top, side in units of the photo's shorter side
    const query = `run=${model.index}&left=${crop.left.toFixed(5)}&top=${crop.top.toFixed(5)}&side=${crop.side.toFixed(5)}`;
    return encoded(await (await ask(`encode?${query}`, photo.file)).arrayBuffer(), model);
  },

  async map(model) {
    return (await ask(`map?run=${model.index}`)).json();
  },

  async point(model, index) {
    return encoded(await (await ask(`point?run=${model.index}&index=${index}`)).arrayBuffer(), model);
  },

  async training(model) {
    return (await ask(`training?run=${model.index}`)).json();
  },

  async grid(model, kind, step) {
    return (await ask(`grid?run=${model.index}&kind=${kind}&step=${step}`)).blob();
  },
};
