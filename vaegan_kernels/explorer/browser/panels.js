"use strict";
// The panels: what a person does in each.

const SAMPLES = 24;

function draw(seed) {  // the samples of a seed; runs with as many latent numbers are given the same z
  state.seed = seed;
  $("seed").value = seed;
  const drawn = state.models.map(model => model.size ? prior(SAMPLES, model.latent, seed) : null);
  const given = state.models.map(model => model.size ? examplesOf(model.examples, SAMPLES, seed) : null);
  state.samples = Array.from({length: SAMPLES}, (_, i) => ({
    name: `Sample ${i + 1} of seed ${seed}`, index: i, originals: state.models.map(() => null),
    z: drawn.map(rows => rows && rows[i]), attributes: given.map(rows => rows && (rows[i] || [])),
  }));
  return updateSamples();
}

const seedOf = text => Math.min(Math.max(0, Math.floor(Number(text)) || 0), Number.MAX_SAFE_INTEGER);

function setUpSamples() {
  $("samples").replaceChildren(...ready().map(model => {
    const cells = state.samples.map((sample, i) => {
      const button = make("button", {ariaLabel: `Take sample ${i + 1}`, ariaPressed: "false", dataset: {index: i}}, make("canvas"));
      button.onclick = () => pick(state.samples[i]);
      return button;
    });
    const title = ready().length > 1 ? [make("h3", {textContent: model.name})] : [];
    return make("div", {className: "run", dataset: {run: model.index}}, ...title, make("div", {className: "cells"}, ...cells));
  }));
}

function setUpSliders() {
  const names = [...new Set(ready().flatMap(model => Object.keys(model.directions)))];
  const switches = [...new Set(ready().flatMap(model => model.condition))];
  $("no-attributes").hidden = Boolean(names.length + switches.length);
  $("attributes-tools").hidden = !(names.length + switches.length);
  $("sliders").replaceChildren(...names.map(name => {
    const output = make("output", {textContent: "0"}), input = make("input", {type: "range", min: -3, max: 3, step: 0.05, value: 0});
    const label = make("label", {title: "Double-click the slider: back to 0"}, make("span", {textContent: readable(name)}), output);
    input.id = `slider-${name}`;
    label.htmlFor = input.id;
    input.oninput = () => {
      state.strengths[name] = Number(input.value);
      output.textContent = Number(input.value).toFixed(2).replace(/\.?0+$/, "");
      changed();
    };
    input.ondblclick = () => { input.value = 0; input.oninput(); };
    const owners = ready().filter(model => model.directions[name]).map(model => model.name);
    const only = owners.length < ready().length ? [`${owners.join(", ")} only`] : [];
    const near = make("small", {textContent: [...only, related(name)].filter(Boolean).join("; ")});
    return make("div", {className: "slider", dataset: {name}}, label, input, near);
  }));
  $("no-switch").hidden = !switches.length;
  $("switches").replaceChildren(...switches.map(name => {
    const box = make("input", {type: "checkbox", indeterminate: true});
    box.onchange = () => { state.switches[name] = box.checked ? 1 : -1; changed(); };
    return make("div", {className: "switch", dataset: {name}}, make("label", {}, make("span", {textContent: readable(name)}), box));
  }));
  search();
  for (const [name, strength] of Object.entries(state.strengths)) setSlider(name, strength);
  for (const [name, value] of Object.entries(state.switches)) setSwitch(name, value);
}

const readable = name => name.replaceAll("_", " ");

function related(name) {  // attributes whose vectors point much the same way, or the other
  const model = ready().find(one => one.directions[name]), own = model.directions[name];
  const found = Object.entries(model.directions).filter(([other]) => other !== name).map(([other, v]) => [other, cosine(own, v)]);
  const near = found.filter(([, c]) => Math.abs(c) >= 0.3).sort((a, b) => Math.abs(b[1]) - Math.abs(a[1])).slice(0, 3);
  return near.length ? "moves along: " + near.map(([other, c]) => `${readable(other)} ${c > 0 ? "+" : "−"}${Math.abs(c).toFixed(2)}`).join(", ") : "";
}

function setSlider(name, strength) {
  const input = $(`slider-${name}`);
  if (!input) return;
  input.value = strength;
  input.parentElement.querySelector("output").textContent = String(strength);
}

function setSwitch(name, value) {  // null: as the picture has it
  const box = $("switches").querySelector(`[data-name="${CSS.escape(name)}"] input`);
  if (!box) return;
  box.indeterminate = value === null;
  box.checked = value > 0;
}

function search() {
  const text = $("search").value.trim().toLowerCase(), rows = [...document.querySelectorAll(".slider, .switch")];
  for (const row of rows) row.hidden = !readable(row.dataset.name).toLowerCase().includes(text);
  $("none-found").hidden = rows.some(row => !row.hidden) || !rows.length;
}

function setUpAttributes() {
  $("search").oninput = search;
  $("reset").onclick = () => {
    Object.keys(state.strengths).forEach(name => setSlider(name, 0));
    Object.keys(state.switches).forEach(name => setSwitch(name, null));
    state.strengths = {};
    state.switches = {};
    changed();
  };
}

function setUpPicture() {
  const name = () => state.picture.name.replace(/[^\p{L}\p{N}]+/gu, "-").toLowerCase().slice(0, 60);
  const shown = () => ready().filter(model => has(state.picture, model)).map(model => canvasOf("pictures", model, "edited"));
  for (const times of [1, 8]) {
    $(`save-${times}`).onclick = () => shown().forEach((canvas, i) => {
      scaled(canvas, times).toBlob(blob => save(blob, `${name()}${shown().length > 1 ? `-${ready()[i].name}` : ""}-x${times}.png`));
    });
  }
  ["a", "b"].forEach((end, i) => $(`take-${end}`).onclick = () => {
    const rows = state.models.map(model => model.size && has(state.picture, model) ? rowOf(model, state.picture) : null);
    const z = rows.map((row, k) => row && row.slice(0, state.models[k].latent));
    const attributes = rows.map((row, k) => row && row.slice(state.models[k].latent));
    state.ends[i] = {...state.picture, z, attributes};
    return updateWalk();
  });
  $("copy-link").onclick = attempt(async () => {
    history.replaceState(null, "", `#${linkOf()}`);
    await copy(location.href, $("copy-link"), "The browser does not let this page copy; the link is in the address bar.");
  });
  $("copy-numbers").onclick = attempt(() => {
    $("numbers").select();
    return copy($("numbers").value, $("copy-numbers"), "The browser does not let this page copy; the numbers are selected.");
  });
  $("apply-numbers").onclick = attempt(() => {
    const first = ready()[0], z = $("numbers").value.split(/[\s,;[\]]+/).filter(Boolean).map(Number);
    if (z.length !== first.latent) throw new Error(`z: got ${z.length} numbers, expected ${first.latent}.`);
    if (!z.every(x => Math.abs(x) <= 1000)) throw new Error("z: expected numbers between -1000 and 1000.");
    const all = state.models.map((model, k) => model.latent === first.latent ? Float32Array.from(z) : state.picture.z[k]);
    $("reset").onclick();
    return pick({...state.picture, name: "z as given", index: null, z: all, originals: state.models.map(() => null)});
  });
}

async function copy(text, button, otherwise) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {  // not there, or not allowed
    throw new Error(otherwise);
  }
  const label = button.textContent;
  button.textContent = "Copied";
  setTimeout(() => button.textContent = label, 1500);
}

function linkOf() {  // the view as text: z, sliders, switches; never a photo, nor its name
  const part = (rows, model) => model.size && has(state.picture, model) ? textOf(rows[model.index]) : "";
  const z = state.models.map(model => part(state.picture.z, model)).join(".");
  const rows = state.models.map(model => part(state.picture.attributes, model)).join(".");
  return new URLSearchParams({name: state.picture.index === null ? "" : state.picture.name, seed: state.seed, z, rows, sliders: JSON.stringify(state.strengths),
    switches: JSON.stringify(state.switches)}).toString();
}

function restore(text) {  // the picture of a link, null without one; throws where it is of other runs
  const link = new URLSearchParams(text);
  if (!link.get("z")) return null;
  try {
    return restored(link);
  } catch {
    throw new Error("The link is of other runs, or was cut.");
  }
}

function restored(link) {
  const numbers = key => (link.get(key) || "").split(".").map(floats);
  const z = numbers("z").map(row => row.length ? row : null), attributes = numbers("rows");
  const fits = state.models.every((model, k) => !model.size || z[k] === null || (z[k]?.length === model.latent && attributes[k]?.length === model.condition.length));
  const finite = [...z, ...attributes].every(row => row === null || row.every(x => Math.abs(x) <= 1000));
  if (!fits || !finite || !z.some(Boolean)) throw new Error("of other runs");
  const given = key => Object.fromEntries(Object.entries(JSON.parse(link.get(key) || "{}")).filter(([, x]) => Math.abs(x) <= 1000));
  [state.strengths, state.switches] = [given("sliders"), given("switches")];
  return {name: (link.get("name") || "from the link").slice(0, 100), index: null, z, attributes, originals: state.models.map(() => null)};
}

function setUpWalk() {
  $("walk-pictures").replaceChildren(...ready().map(model => strip(model, [["a", "A"], ["here", "between"], ["b", "B"]])));
  $("scrubber").oninput = updateWalk;
  $("take-walk").onclick = () => pick(between(Number($("scrubber").value)));
  $("save-gif").onclick = attempt(async () => {
    const count = 17, way = Array.from({length: count}, (_, i) => between(i / (count - 1)));
    for (const model of ready().filter(one => has(way[0], one))) {
      const images = await backend.decode(model, way.map(picture => rowOf(model, picture, {}, {})));
      const there = images.map((image, i) => [image, i === 0 || i === count - 1 ? 50 : 8]), loop = [...there, ...there.slice(1, -1).reverse()];
      const blob = gif(loop.map(([image]) => image), model.size, model.size, Math.max(1, Math.floor(256 / model.size)), loop.map(([, time]) => time));
      save(blob, ready().length > 1 ? `walk-${model.name}.gif` : "walk.gif");
    }
  });
}
