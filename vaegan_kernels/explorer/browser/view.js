"use strict";
// What is shown: pictures as latents, and how they come to the screen.

const $ = id => document.getElementById(id);

// A picture: {name, z: [one a run], attributes: [one a run], originals: [RGB bytes or null, one a run], index: of the samples or null}.
const state = {models: [], seed: 0, samples: [], picture: null, ends: [null, null], strengths: {}, switches: {}};
const ready = () => state.models.filter(model => model.size);
const has = (picture, model) => Boolean(picture && picture.z[model.index]);  // a run without an encoder has no z of a photo

function make(tag, properties = {}, ...children) {
  const {dataset, ...rest} = properties, element = Object.assign(document.createElement(tag), rest);
  Object.assign(element.dataset, dataset);
  element.append(...children);
  return element;
}

function say(text, from = "user") {  // a line for the person; "" only takes away what came from there
  const status = $("status");
  if (!text && status.dataset.from !== from) return;
  status.textContent = text;
  status.dataset.from = from;
}

function attempt(work, from = "user") {  // an event's handler, whose failure is said in one line until one of its kind goes well
  return async event => {
    try {
      await work(event);
      say("", from);
    } catch (error) {
      say(error.message || String(error), from);
    }
  };
}

function latest(work) {  // calls while one is at work become one more afterwards: a slider never runs ahead
  let running = false, again = false;
  return attempt(async () => {
    again = true;
    if (running) return;
    running = true;
    try {
      while (again) {
        again = false;
        await work();
      }
    } finally {
      running = false;
    }
  }, "drawing");
}

function rowOf(model, picture, strengths = state.strengths, switches = state.switches) {  // what Dec is given
  const row = new Float32Array(model.latent + model.condition.length), z = picture.z[model.index];
  row.set(z);
  for (const [name, strength] of Object.entries(strengths)) {
    const direction = model.directions[name];
    if (direction) for (let i = 0; i < z.length; i++) row[i] += strength * direction[i];
  }
  model.condition.forEach((name, i) => row[model.latent + i] = switches[name] ?? picture.attributes[model.index][i]);
  return row;
}

function paint(canvas, rgb) {  // RGB bytes of a square
  const size = Math.sqrt(rgb.length / 3), pixels = new ImageData(size, size);
  for (let i = 0, j = 0; i < rgb.length; i += 3, j += 4) {
    pixels.data.set(rgb.subarray(i, i + 3), j);
    pixels.data[j + 3] = 255;
  }
  canvas.width = canvas.height = size;
  canvas.getContext("2d").putImageData(pixels, 0, 0);
}

function scaled(canvas, times) {
  const large = make("canvas", {width: canvas.width * times, height: canvas.height * times}), context = large.getContext("2d");
  context.imageSmoothingEnabled = false;
  context.drawImage(canvas, 0, 0, large.width, large.height);
  return large;
}

function save(blob, name) {
  const url = URL.createObjectURL(blob), link = make("a", {href: url, download: name});
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}

const figure = (caption, kind) => make("figure", {}, make("canvas", {dataset: {kind}, role: "img", ariaLabel: caption}), make("figcaption", {textContent: caption}));

function strip(model, kinds) {  // a run's row of pictures
  const title = ready().length > 1 ? [make("h3", {textContent: model.name})] : [];
  title.push(make("p", {className: "none", textContent: "This run has no encoder, and cannot show it."}));
  return make("div", {className: "strip", dataset: {run: model.index}}, ...title, ...kinds.map(([kind, caption]) => figure(caption, kind)));
}

const canvasOf = (parent, model, kind) => $(parent).querySelector(`[data-run="${model.index}"] [data-kind="${kind}"]`);

const update = latest(async () => {  // the picture, as it is and with the sliders
  const picture = state.picture;
  if (!picture) return;
  $("picture-name").textContent = picture.name;
  for (const model of ready()) {
    const frame = $("pictures").querySelector(`[data-run="${model.index}"]`);
    frame.classList.toggle("without", !has(picture, model));
    if (!has(picture, model)) continue;
    const [plain, changed] = await backend.decode(model, [rowOf(model, picture, {}, {}), rowOf(model, picture)]);
    const original = picture.originals[model.index], shown = canvasOf("pictures", model, "original");
    shown.parentElement.hidden = !original;
    frame.querySelector('[data-kind="plain"] + figcaption').textContent = original ? "rebuilt" : "as it is";
    if (original) paint(shown, original);
    paint(canvasOf("pictures", model, "plain"), plain);
    paint(canvasOf("pictures", model, "edited"), changed);
  }
  const first = ready()[0];
  if (document.activeElement !== $("numbers") && has(picture, first)) {
    $("numbers").value = Array.from(rowOf(first, picture).slice(0, first.latent), x => x.toFixed(4)).join(", ");
  }
});

const updateSamples = latest(async () => {
  for (const model of ready()) {
    const [strengths, switches] = $("edit-all").checked ? [state.strengths, state.switches] : [{}, {}];
    const images = await backend.decode(model, state.samples.map(sample => rowOf(model, sample, strengths, switches)));
    $("samples").querySelectorAll(`[data-run="${model.index}"] canvas`).forEach((canvas, i) => paint(canvas, images[i]));
  }
});

function pick(picture) {
  say("");
  state.picture = picture;
  for (const button of $("samples").querySelectorAll("button")) {
    button.ariaPressed = String(Number(button.dataset.index) === picture.index);
  }
  return update();
}

function changed() {  // a slider or a switch
  say("");
  if ($("edit-all").checked) updateSamples();
  return update();
}

const updateWalk = latest(async () => {  // A and B have the sliders' share in them from when they were taken
  const [a, b] = state.ends;
  $("walk").hidden = !(a && b);
  $("walk-hint").hidden = Boolean(a && b);
  if (!a || !b) {
    $("walk-hint").textContent = a || b ? `${a ? "A" : "B"} is ${(a || b).name}. Pick the other one.` : $("walk-hint").textContent;
    return;
  }
  const here = between(Number($("scrubber").value));
  for (const model of ready().filter(one => has(a, one) && has(b, one))) {
    const images = await backend.decode(model, [a, here, b].map(picture => rowOf(model, picture, {}, {})));
    ["a", "here", "b"].forEach((kind, i) => paint(canvasOf("walk-pictures", model, kind), images[i]));
  }
});

function between(t) {  // the picture at t on the way from A to B
  const [a, b] = state.ends, mix = (u, v) => u.map((x, i) => (1 - t) * x + t * v[i]);
  return {
    name: `${Math.round(100 * t)} % from ${a.name} to ${b.name}`, index: null, originals: state.models.map(() => null),
    z: a.z.map((z, k) => z && b.z[k] && walk(z, b.z[k], t)), attributes: a.attributes.map((row, k) => row && b.attributes[k] && mix(row, b.attributes[k])),
  };
}
