"use strict";
// The photo, the map, a training that goes on; and the start.

const photo = {opened: null, crop: {left: 0, top: 0, side: 1}};

function setUpPhoto() {
  const can = ready().some(model => model.encoder);
  $("no-encoder").hidden = can;
  $("photo-tools").hidden = !can;
  document.documentElement.ondragover = event => event.preventDefault();  // a photo that is dropped does not replace the page
  document.documentElement.ondrop = event => event.preventDefault();
  if (!can) return;
  $("file").onchange = attempt(() => takeFile($("file").files[0]).finally(() => $("file").value = ""));
  $("file-label").onkeydown = event => { if (event.key === "Enter" || event.key === " ") $("file").click(); };
  const page = document.documentElement, panel = $("photo-panel");
  page.ondragover = event => { event.preventDefault(); panel.classList.add("drop"); };
  page.ondragleave = () => panel.classList.remove("drop");
  page.ondrop = attempt(event => {
    event.preventDefault();
    panel.classList.remove("drop");
    return takeFile(event.dataTransfer.files[0]);
  });
  document.onpaste = attempt(event => {
    const file = event.clipboardData.files[0];
    return file ? takeFile(file) : undefined;
  });
  for (const id of ["zoom", "across", "down"]) $(id).oninput = readCrop;
  const canvas = $("crop");
  canvas.onpointerdown = event => canvas.setPointerCapture(event.pointerId);
  canvas.onpointermove = event => {
    if (!event.buttons || !photo.opened) return;
    const {picture} = photo.opened, shorter = Math.min(picture.width, picture.height);
    const step = photo.crop.side * shorter / canvas.clientWidth;
    moveBy(-event.movementX * step, -event.movementY * step);
  };
  canvas.onkeydown = event => {
    const [x, y] = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]}[event.key] || [];
    if (x === undefined || !photo.opened) return;
    event.preventDefault();
    const step = 0.03 * photo.crop.side * Math.min(photo.opened.picture.width, photo.opened.picture.height);
    moveBy(x * step, y * step);
  };
  canvas.onwheel = event => {
    event.preventDefault();
    $("zoom").value = Number($("zoom").value) * Math.exp(-event.deltaY / 500);
    readCrop();
  };
}

function moveBy(x, y) {  // the square, in pixels of the picture
  const {picture} = photo.opened, side = photo.crop.side * Math.min(picture.width, picture.height);
  for (const [id, by, room] of [["across", x, picture.width - side], ["down", y, picture.height - side]]) {
    if (room > 0) $(id).value = Number($(id).value) + by / room;
  }
  readCrop();
}

async function takeFile(file) {
  if (!file) return;
  if (file.size > backend.limit) throw new Error(`${file.name || "The picture"} has ${(file.size / 2 ** 20).toFixed(1)} MB, at most ${backend.limit / 2 ** 20} MB are taken.`);
  photo.opened = await backend.open(file);
  photo.name = file.name || "your photo";
  [$("zoom").value, $("across").value, $("down").value] = [1, 0.5, 0.5];
  $("cropper").hidden = false;
  await readCrop();
}

function readCrop() {  // the sliders' square, drawn, encoded
  const {picture} = photo.opened, shorter = Math.min(picture.width, picture.height), side = 1 / Number($("zoom").value);
  const left = (picture.width / shorter - side) * Number($("across").value), top = (picture.height / shorter - side) * Number($("down").value);
  photo.crop = {left, top, side};
  const context = $("crop").getContext("2d");
  context.imageSmoothingQuality = "high";
  context.fillStyle = "white";
  context.fillRect(0, 0, 256, 256);
  context.drawImage(picture, left * shorter, top * shorter, side * shorter, side * shorter, 0, 0, 256, 256);
  return encodePhoto();
}

const encodePhoto = latest(async () => {
  const opened = photo.opened, crop = photo.crop, none = state.models.map(() => null);
  const taken = {name: photo.name, index: null, z: none.slice(), attributes: none.slice(), originals: none.slice()};
  for (const model of ready().filter(one => one.encoder)) {
    const found = await backend.encode(model, opened, crop);
    [taken.z[model.index], taken.originals[model.index], taken.attributes[model.index]] = [found.z, found.image, found.attributes];
  }
  await pick(taken);
});

function setUpCamera() {
  let stream = null;
  const stop = () => {
    stream?.getTracks().forEach(track => track.stop());
    stream = null;
    $("video").hidden = $("snap").hidden = true;
    $("camera").textContent = "Camera";
  };
  $("camera").onclick = attempt(async () => {
    if (stream) return stop();
    if (!navigator.mediaDevices) throw new Error("The browser gives its camera only to pages of this machine (127.0.0.1 or https).");
    stream = await navigator.mediaDevices.getUserMedia({video: {facingMode: "user"}}).catch(error => {
      throw new Error(`No camera: ${error.message || error.name}.`);
    });
    $("video").srcObject = stream;
    $("video").hidden = $("snap").hidden = false;
    $("camera").textContent = "Stop the camera";
    await $("video").play();
  });
  $("snap").onclick = attempt(async () => {
    const video = $("video"), canvas = make("canvas", {width: video.videoWidth, height: video.videoHeight});
    canvas.getContext("2d").drawImage(video, 0, 0);
    const blob = await new Promise(done => canvas.toBlob(done, "image/png"));
    stop();
    await takeFile(new File([blob], "your photo"));
  });
}

function setUpMap() {
  const shown = {model: null, version: null, map: null, at: null, places: []}, canvas = $("map"), tip = $("map-tip");
  $("map-frame").hidden = true;
  $("map-state").textContent = "";
  $("map-panel").hidden = !backend.map || !ready().some(model => model.encoder);
  if ($("map-panel").hidden) return;
  const choices = ready().filter(model => model.encoder);
  $("map-run").replaceChildren(...choices.map(model => make("option", {value: model.index, textContent: model.name})));
  $("map-run-label").hidden = choices.length < 2;
  const colours = () => getComputedStyle(document.documentElement);
  const paintMap = () => {
    const {x, y, attributes} = shown.map, context = canvas.getContext("2d"), size = canvas.width, filled = attributes[$("colour").value];
    const bounds = [x, y].map(v => [Math.min(...v), Math.max(...v)]);
    const place = (v, [low, high]) => 14 + (size - 28) * (v - low) / (high - low || 1);
    shown.places = x.map((v, i) => [place(v, bounds[0]), size - place(y[i], bounds[1])]);
    context.clearRect(0, 0, size, size);
    const [accent, second] = ["--accent", "--second"].map(name => colours().getPropertyValue(name));
    shown.places.forEach(([px, py], i) => {
      context.beginPath();
      context.arc(px, py, i === shown.at ? 7 : 3.2, 0, 7);
      context.strokeStyle = filled && filled[i] ? second : accent;
      context.fillStyle = second;
      context.stroke();
      if (filled && filled[i]) context.fill();
    });
  };
  const point = latest(async () => {
    const at = shown.at;
    if (at === null) return;
    const found = await backend.point(shown.model, at), [px, py] = shown.places[at], scale = canvas.clientWidth / canvas.width;
    shown.found = {at, ...found};
    paint(tip.querySelector("canvas"), found.image);
    const names = Object.entries(shown.map.attributes).filter(([, v]) => v[at]).map(([name]) => readable(name));
    tip.querySelector("figcaption").textContent = names.slice(0, 4).join(", ") || `image ${at}`;
    tip.hidden = false;
    tip.style.left = `${Math.min(Math.max(0, px * scale - 52), canvas.clientWidth - 104)}px`;
    tip.style.top = py * scale > canvas.clientHeight / 2 ? `${py * scale - 150}px` : `${py * scale + 14}px`;
  });
  const move = at => {
    if (at === shown.at) return;
    shown.at = at;
    paintMap();
    if (at === null) tip.hidden = true; else point();
  };
  const nearest = event => {
    const scale = canvas.width / canvas.clientWidth, at = [event.offsetX * scale, event.offsetY * scale];
    const away = shown.places.map(([px, py]) => Math.hypot(px - at[0], py - at[1])), best = away.indexOf(Math.min(...away));
    return away[best] < 18 ? best : null;
  };
  const take = attempt(async () => {
    if (shown.at === null) return;
    const at = shown.at, own = await backend.point(shown.model, at), file = await fileOf(own.image), whole = {left: 0, top: 0, side: 1};
    const [z, originals, attributes] = [0, 1, 2].map(() => state.models.map(() => null));
    for (const model of ready().filter(one => one.encoder)) {
      const found = model === shown.model ? own : await backend.encode(model, {file}, whole);
      [z[model.index], originals[model.index], attributes[model.index]] = [found.z, found.image, found.attributes];
    }
    await pick({name: `Image ${at} of ${shown.map.data}`, index: null, z, originals, attributes});
  });
  canvas.onpointermove = event => move(nearest(event));
  canvas.onpointerleave = () => move(null);
  canvas.onclick = event => { move(nearest(event)); return take(); };
  canvas.onkeydown = event => {
    const step = {ArrowRight: 1, ArrowLeft: -1, ArrowDown: 1, ArrowUp: -1}[event.key];
    if (event.key === "Enter") return take();
    if (!step) return undefined;
    event.preventDefault();
    const order = shown.map.x.map((_, i) => i).sort((a, b) => shown.map.x[a] - shown.map.x[b]), here = order.indexOf(shown.at);
    return move(order[(here + step + order.length) % order.length]);
  };
  $("colour").onchange = paintMap;
  matchMedia("(prefers-color-scheme: dark)").onchange = () => shown.map && paintMap();
  $("map-run").onchange = () => $("draw-map").onclick();
  $("draw-map").onclick = attempt(async () => {
    shown.model = state.models[Number($("map-run").value)];
    shown.at = null;
    $("draw-map").disabled = true;
    try {
      for (;;) {
        const found = await backend.map(shown.model);
        if (found.error) throw new Error(found.error);
        if (found.x) { shown.map = found; break; }
        $("map-state").textContent = found.done ? `Encoding the images: ${Math.round(100 * found.done)} %` : "Reading the images…";
        await new Promise(done => setTimeout(done, 400));
      }
      $("map-state").textContent = `${shown.map.x.length} images of ${shown.map.data}.`;
    } catch (error) {
      $("map-state").textContent = "";
      throw error;
    } finally {
      $("draw-map").disabled = false;
    }
    $("colour").replaceChildren(...Object.keys(shown.map.attributes).map(name => make("option", {value: name, textContent: readable(name)})));
    $("colour-label").hidden = !$("colour").options.length;
    $("map-frame").hidden = false;
    paintMap();
  });
}

async function fileOf(rgb) {  // pixels as a PNG
  const canvas = make("canvas");
  paint(canvas, rgb);
  return new Promise(done => canvas.toBlob(done, "image/png"));
}

const ago = seconds => seconds === null ? "" : [[86400, "days"], [3600, "hours"], [60, "minutes"], [1, "seconds"]]
  .filter(([unit]) => seconds >= 2 * unit || unit === 1).map(([unit, name]) => `, ${Math.round(seconds / unit)} ${name} ago`)[0];

function setUpTraining() {
  const followed = state.models.filter(model => model.training);
  $("training-panel").hidden = !backend.training || !followed.length;
  if ($("training-panel").hidden) return;
  for (const model of followed) {
    const about = make("p", {className: "faint"}), charts = make("div", {className: "charts"});
    const slider = make("input", {type: "range", min: 0, max: 0, step: 1, value: 0, ariaLabel: "Grids over time"});
    const time = make("output"), grids = make("div", {className: "grids"});
    const box = make("div", {className: "run", dataset: {run: model.index}}, make("h3", {textContent: model.name}), about, charts,
      make("label", {className: "wide"}, "Time ", slider, time), grids);
    $("trainings").append(box);
    let steps = [], wanted = null;
    const show = latest(async () => {
      const step = steps[Number(slider.value)];
      if (step === undefined || step === wanted) return;
      wanted = step;
      time.textContent = `step ${step.toLocaleString("en")}`;
      const pictures = [];
      for (const kind of Object.keys(model.grids).filter(one => model.grids[one].includes(step))) {
        const url = URL.createObjectURL(await backend.grid(model, kind, step));
        pictures.push(make("img", {src: url, alt: `${kind} at step ${step}`, onload: () => URL.revokeObjectURL(url)}));
      }
      grids.replaceChildren(...pictures);
    });
    slider.oninput = show;
    const poll = async () => {
      let wait = 15000;
      try {
        const found = await backend.training(model);
        const atEnd = Number(slider.value) === steps.length - 1 || !steps.length;
        model.grids = found.grids;
        steps = [...new Set(Object.values(found.grids).flat())].sort((a, b) => a - b);
        slider.max = Math.max(0, steps.length - 1);
        if (atEnd) slider.value = slider.max;
        slider.parentElement.hidden = !steps.length;
        const last = found.steps.at(-1), step = last === undefined ? "No step yet." : `Step ${last.toLocaleString("en")}${ago(found.age)}.`;
        about.textContent = `${step} ${found.problem}`;
        if (found.problem !== model.problem) {
          model.problem = found.problem;
          describeAll();
        }
        charts.replaceChildren(...found.curves.map(curve => chart(curve, found.steps)));
        if (found.age !== null && found.age < 120) wait = 2000;
        if (found.version !== model.version) await reload();
        await show();
      } catch (error) {
        say(error.message, "drawing");
      }
      setTimeout(poll, wait);
    };
    poll();
  }
}

const short = x => Number(x.toPrecision(3)).toLocaleString("en");

function chart(curve, steps) {  // an SVG of the series over the steps
  const series = Object.entries(curve.series), log = curve.scale === "log";
  const values = series.flatMap(([, v]) => v).filter(x => x !== null && (!log || x > 0)).map(x => log ? Math.log10(x) : x);
  const [low, high] = [Math.min(...values), Math.max(...values)], svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 100 100");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  const last = series.map(([label, v], i) => `${series.length > 1 ? ["—", "- -", "···"][i] : ""} ${label} ${v.at(-1) === null ? "not a number" : short(v.at(-1))}`).join(", ");
  svg.setAttribute("aria-label", `${curve.title}: ${last}`);
  for (const [, v] of series) {
    const line = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
    const points = v.map((x, i) => x === null || (log && x <= 0) ? null : [98 * steps[i] / steps.at(-1) + 1, 96 - 92 * ((log ? Math.log10(x) : x) - low) / (high - low || 1)]);
    line.setAttribute("points", points.filter(Boolean).map(p => p.map(c => c.toFixed(2)).join(",")).join(" "));
    svg.append(line);
  }
  const value = x => short(log ? 10 ** x : x), range = values.length ? `${value(low)} to ${value(high)}${log ? ", log" : ""}` : "";
  const under = make("p", {className: "faint"}, make("span", {textContent: range}), make("span", {textContent: `step ${steps.at(-1)?.toLocaleString("en") ?? 0}`}));
  return make("div", {}, make("p", {}, make("b", {textContent: curve.title}), make("span", {textContent: last})), svg, under);
}

function describe(model) {
  if (!model.size) return `${model.name}: ${model.problem || "no checkpoint yet"}`;
  const problem = model.problem ? ` (${model.problem})` : "";
  const kind = `${model.size} × ${model.size}, ${model.system}${model.condition.length ? ", conditional" : ""}`;
  return `${model.name}: step ${model.step.toLocaleString("en")}, ${kind}${model.weights === "average" ? ", averaged weights" : ""}${problem}`;
}

const describeAll = () => $("runs").textContent = state.models.map(describe).join("  ·  ");

async function load() {  // what is known of the runs: the same objects, anew
  state.models = (await backend.models()).map((model, index) => {
    const known = state.models[index] ?? {}, directions = Object.create(null), condition = model.condition || [];
    rowsOf(floats(model.directions || ""), model.latent).forEach((row, i) => directions[model.vectors[i]] = row);
    const examples = rowsOf(floats(model.examples || ""), condition.length);
    return Object.assign(known, model, {index, directions, condition, examples, mean: floats(model.mean || "")});
  });
  describeAll();
}

async function show() {  // the panels, for the runs that have a model
  document.querySelectorAll(".column").forEach(column => column.hidden = !ready().length);
  state.ends = [null, null];
  $("pictures").replaceChildren(...ready().map(model => strip(model, [["original", "original"], ["plain", "as it is"], ["edited", "with the sliders"]])));
  setUpSliders();
  setUpWalk();
  setUpPhoto();
  setUpMap();
  if (!ready().length) return;
  const drawn = draw(state.seed);
  setUpSamples();
  await drawn;
}

const form = model => JSON.stringify([model.size, model.channels, model.latent, model.encoder, model.condition, model.vectors]);

async function reload() {  // a run in training has saved
  const before = state.models.map(form), versions = state.models.map(model => model.version);
  await load();
  if (state.models.some((model, k) => form(model) !== before[k])) {  // another network, or attribute vectors
    await show();
    return ready().length ? pick(state.samples[0]) : undefined;
  }
  if (state.models.some((model, k) => model.version !== versions[k])) {  // the map was of other weights
    const drawn = !$("map-frame").hidden || $("map-state").textContent;
    setUpMap();
    if (drawn) $("map-state").textContent = "The run has saved: draw the map again.";
  }
  return Promise.all([updateSamples(), update(), updateWalk()]);
}

attempt(async () => {
  await load();
  $("main").hidden = false;
  let linked = null;
  try {
    linked = restore(location.hash.slice(1));
  } catch (error) {
    say(error.message, "link");
  }
  setUpAttributes();
  setUpPicture();
  setUpCamera();
  state.seed = seedOf(new URLSearchParams(location.hash.slice(1)).get("seed"));
  await show();
  const redraw = seed => draw(seed).then(() => pick(state.samples[0]));
  $("new-seed").onclick = () => redraw(Math.floor(Math.random() * 2 ** 31));
  $("seed").onchange = () => redraw(seedOf($("seed").value));
  window.onhashchange = attempt(async () => {
    const picture = restore(location.hash.slice(1));
    if (!picture) return;
    setUpSliders();
    await pick(picture);
  }, "link");
  $("edit-all").onchange = updateSamples;
  if (ready().length) await pick(linked || state.samples[0]);
  setUpTraining();
}, "start")();
