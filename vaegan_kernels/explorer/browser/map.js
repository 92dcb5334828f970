"use strict";
// The map: images of the data along the two principal components of their mu.

const map = {model: null, found: null, at: null, places: []};  // of a run; what backend.map gave; the image pointed at; where each is drawn
const dark = matchMedia("(prefers-color-scheme: dark)");

function setUpMap() {  // none is drawn yet
  const choices = ready().filter(model => model.encoder), canvas = $("map");
  $("map-panel").hidden = !backend.map || !choices.length;
  if ($("map-panel").hidden) return;
  Object.assign(map, {model: null, found: null, at: null, places: []});
  $("map-frame").hidden = true;
  $("map-state").textContent = "";
  $("map-run").replaceChildren(...choices.map(model => make("option", {value: model.index, textContent: model.name})));
  $("map-run-label").hidden = choices.length < 2;
  $("draw-map").onclick = $("map-run").onchange = attempt(drawMap);
  $("colour").onchange = dark.onchange = () => map.found && paintMap();
  canvas.onpointermove = event => pointAt(nearest(event));
  canvas.onpointerleave = () => pointAt(null);
  canvas.onclick = event => { pointAt(nearest(event)); return takePoint(); };
  canvas.onkeydown = event => {
    const step = {ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1}[event.key];
    if (event.key === "Enter") return takePoint();
    if (!step) return undefined;
    event.preventDefault();
    const {x} = map.found, order = x.map((_, i) => i).sort((a, b) => x[a] - x[b]), here = order.indexOf(map.at);
    return pointAt(order[(here + step + order.length) % order.length]);
  };
}

async function drawMap() {
  const model = state.models[Number($("map-run").value)], button = $("draw-map"), line = $("map-state");
  button.disabled = true;
  try {
    let found;
    while (!(found = await backend.map(model)).x) {
      if (found.error) throw new Error(found.error);
      line.textContent = found.done ? `Encoding the images: ${Math.round(100 * found.done)} %` : "Reading the images…";
      await new Promise(done => setTimeout(done, 400));
    }
    Object.assign(map, {model, found, at: null});
    line.textContent = `${found.x.length} images of ${found.data}.`;
  } catch (error) {
    line.textContent = "";
    throw error;
  } finally {
    button.disabled = false;
  }
  $("colour").replaceChildren(...Object.keys(map.found.attributes).map(name => make("option", {value: name, textContent: readable(name)})));
  $("colour-label").hidden = !$("colour").options.length;
  $("map-frame").hidden = false;
  paintMap();
}

function paintMap() {
  const {x, y, attributes} = map.found, canvas = $("map"), size = canvas.width, context = canvas.getContext("2d"), has = attributes[$("colour").value];
  const bounds = v => [Math.min(...v), Math.max(...v)], place = (v, [low, high]) => 14 + (size - 28) * (v - low) / (high - low || 1);
  const [wide, high] = [bounds(x), bounds(y)], colours = getComputedStyle(document.documentElement);
  const [accent, second] = ["--accent", "--second"].map(name => colours.getPropertyValue(name));
  map.places = x.map((v, i) => [place(v, wide), size - place(y[i], high)]);
  context.clearRect(0, 0, size, size);
  map.places.forEach(([px, py], i) => {
    context.beginPath();
    context.arc(px, py, i === map.at ? 7 : 3.2, 0, 7);
    context.strokeStyle = context.fillStyle = has && has[i] ? second : accent;
    context.stroke();
    if (has && has[i]) context.fill();
  });
}

function nearest(event) {  // the image that the pointer is at, or null
  const canvas = $("map"), scale = canvas.width / canvas.clientWidth;
  const away = map.places.map(([px, py]) => Math.hypot(px - event.offsetX * scale, py - event.offsetY * scale)), best = away.indexOf(Math.min(...away));
  return away[best] < 18 ? best : null;
}

function pointAt(index) {
  if (index === map.at) return;
  map.at = index;
  paintMap();
  if (index === null) $("map-tip").hidden = true; else showTip();
}

const showTip = latest(async () => {  // the image, beside its point
  const index = map.at;
  if (index === null) return;
  const {image} = await backend.point(map.model, index), canvas = $("map"), tip = $("map-tip"), scale = canvas.clientWidth / canvas.width;
  const [px, py] = map.places[index].map(p => p * scale);
  const names = Object.entries(map.found.attributes).filter(([, has]) => has[index]).map(([name]) => readable(name));
  paint(tip.querySelector("canvas"), image);
  tip.querySelector("figcaption").textContent = names.slice(0, 4).join(", ") || `image ${index}`;
  tip.hidden = false;
  tip.style.left = `${Math.min(Math.max(0, px - 52), canvas.clientWidth - 104)}px`;
  tip.style.top = `${py > canvas.clientHeight / 2 ? py - 150 : py + 14}px`;
});

const takePoint = attempt(async () => {  // the image as picture, also in the other runs
  const {at, model: from, found: {data}} = map;
  if (at === null) return;
  const own = await backend.point(from, at), file = await fileOf(own.image), whole = {left: 0, top: 0, side: 1};
  const [z, originals, attributes] = [0, 1, 2].map(() => state.models.map(() => null));
  for (const model of ready().filter(one => one.encoder)) {
    const found = model === from ? own : await backend.encode(model, {file}, whole);
    [z[model.index], originals[model.index], attributes[model.index]] = [found.z, found.image, found.attributes];
  }
  await pick({name: `Image ${at} of ${data}`, index: null, z, originals, attributes});
});

async function fileOf(rgb) {  // pixels as a PNG
  const canvas = make("canvas");
  paint(canvas, rgb);
  return new Promise(done => canvas.toBlob(done, "image/png"));
}
