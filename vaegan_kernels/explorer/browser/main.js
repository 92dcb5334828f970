"use strict";
// The runs: read, shown, read again when a training has saved; and the start.

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
  const redraw = seed => Promise.all([draw(seed), pick(state.samples[0])]);  // at once: a click that comes meanwhile counts
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
