"use strict";
// A run's training: curves, and grids over time; of one that goes on, as they come.

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
