// Training curves: a panel for each metric, a line for each training. Names are shown as text, whatever they hold.
"use strict";
(() => {
  const section = document.getElementById("curves");
  if (!section) return;
  const PALETTE = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];
  const DASHES = ["solid", "dash", "dot", "dashdot"];
  const form = section.querySelector("form.controls");
  const output = form.querySelector("output");
  const legend = section.querySelector(".legend");
  const panels = section.querySelector(".panels");
  const hidden = new Set();
  const known = new Set();
  const dark = matchMedia("(prefers-color-scheme: dark)");
  let told = null;
  let timer = 0;
  let asked = 0;

  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const plain = (text) => text.replace(/[&<>]/g, (sign) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;" })[sign]);

  // Of one run each model has a colour, and neighbours another dash; of several a colour is a model, a dash a run.
  function styles(models) {
    const runs = [...new Set(models.map((model) => model.run))];
    const names = [...new Set(models.map((model) => model.name))];
    let used = 0;
    return models.map((model) => {
      if (runs.length > 1) {
        const [color, dash] = [names.indexOf(model.name), runs.indexOf(model.run)];
        return { color: PALETTE[color % PALETTE.length], dash: DASHES[dash % DASHES.length] };
      }
      if (model.role === "base") return { color: css("--muted"), dash: "solid" };
      if (model.role === "first") return { color: css("--ink"), dash: "solid" };
      const cycle = Math.floor(used / PALETTE.length);
      const index = used++ % PALETTE.length;
      return { color: PALETTE[index], dash: DASHES[(index + cycle) % DASHES.length] };
    });
  }

  async function load() {
    clearTimeout(timer);
    const mine = ++asked;
    if (!document.hidden) {
      const query = new URLSearchParams({ smooth: form.elements.smooth.value, have: told ? told.version : "" });
      for (const run of section.dataset.runs.split(" ")) query.append("run", run);
      try {
        const response = await fetch(`/curves.json?${query}`);
        const found = response.ok ? await response.json() : null;
        if (mine !== asked) return;
        if (found && found.waiting) return void (timer = setTimeout(load, 700));
        if (found && found.panels) {
          told = found;
          draw();
        }
      } catch {
        if (mine !== asked) return;
      }
    }
    timer = setTimeout(load, told && told.live ? 2000 : 10000);
  }

  function draw() {
    for (const model of told.models) {
      if (!known.has(model.label) && !model.shown) hidden.add(model.label);
      known.add(model.label);
    }
    const looks = styles(told.models);
    drawLegend(looks);
    section.classList.toggle("empty", !told.panels.length);
    const there = new Map([...panels.children].map((figure) => [figure.dataset.key, figure]));
    for (const panel of told.panels) {
      const figure = there.get(panel.key) || newFigure(panel);
      there.delete(panel.key);
      const drawn = traces(panel, looks);
      figure.hidden = !drawn.length; // none of the models that are ticked has measured it
      if (drawn.length) Plotly.react(figure.lastChild, drawn, layout(panel), { displayModeBar: false, responsive: true });
    }
    for (const figure of there.values()) {
      Plotly.purge(figure.lastChild);
      figure.remove();
    }
    const trips = told.trips.filter((trip) => !hidden.has(told.models[trip.model].label));
    output.textContent = trips
      .map((trip) => `guard: a collapse of ${told.models[trip.model].label} at ${trip.count} steps, from step ${trip.steps[0]}`)
      .join("; ");
    section.dataset.drawn = String(told.panels.length);
    section.dataset.newest = String(Math.max(0, ...told.panels.flatMap((panel) => panel.series.map((line) => line.at))));
  }

  function newFigure(panel) {
    const figure = document.createElement("figure");
    figure.dataset.key = panel.key;
    const title = document.createElement("figcaption");
    title.textContent = panel.title;
    const plot = document.createElement("div");
    plot.className = "plot";
    figure.append(title, plot);
    panels.append(figure);
    return figure;
  }

  function traces(panel, looks) {
    const found = [];
    for (const line of panel.series) {
      const model = told.models[line.model];
      if (hidden.has(model.label)) continue;
      const look = looks[line.model];
      const shared = { type: "scatter", legendgroup: model.label, name: plain(model.label) };
      if (line.raw) {
        const faint = { color: look.color, width: 1 };
        found.push({ ...shared, ...line.raw, mode: "lines", line: faint, opacity: 0.28, hoverinfo: "skip" });
      }
      const mode = panel.dots || line.x.length === 1 ? "lines+markers" : "lines";
      const hover = `%{y:.4g}<extra>${plain(model.label)}</extra>`;
      found.push({ ...shared, x: line.x, y: line.y, mode, line: { ...look, width: 1.8 }, marker: { size: 5 }, hovertemplate: hover });
    }
    return found;
  }

  function layout(panel) {
    const logy = form.elements.logy.checked && panel.series.some((line) => line.y.some((value) => value > 0));
    const axis = { color: css("--muted"), gridcolor: css("--line"), zeroline: false, tickfont: { size: 11 } };
    const marks = told.trips
      .filter((trip) => !hidden.has(told.models[trip.model].label) && panel.series.some((line) => line.model === trip.model))
      .map((trip) => ({
        type: "line", yref: "paper", y0: 0, y1: 1, x0: trip.steps[0], x1: trip.steps[0],
        line: { color: css("--wrong"), width: 1, dash: "dot" },
      }));
    const xaxis = { ...axis, type: form.elements.logx.checked ? "log" : "linear", hoverformat: ",d" };
    return {
      height: 210, margin: { l: 46, r: 8, t: 6, b: 28 }, showlegend: false, hovermode: "x unified", shapes: marks,
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { family: "inherit", color: css("--ink"), size: 12 },
      hoverlabel: { bgcolor: css("--paper"), bordercolor: css("--line"), font: { size: 12 }, namelength: 40 },
      xaxis, yaxis: { ...axis, type: logy ? "log" : "linear", exponentformat: panel.key === "tokens_per_second" ? "SI" : "power" }, uirevision: "same",
    };
  }

  function drawLegend(looks) {
    const labels = told.models.map((model) => model.label).join("\n") + dark.matches;
    if (legend.dataset.labels === labels) return;
    legend.dataset.labels = labels;
    const all = document.createElement("button");
    all.type = "button";
    all.textContent = "all";
    all.addEventListener("click", () => {
      const any = hidden.size > 0;
      hidden.clear();
      if (!any) for (const model of told.models) hidden.add(model.label);
      legend.dataset.labels = "";
      draw();
    });
    legend.replaceChildren(
      ...(told.models.length > 1 ? [all] : []),
      ...told.models.map((model, number) => {
        const label = document.createElement("label");
        const box = document.createElement("input");
        const name = document.createElement("bdi");
        box.type = "checkbox";
        box.checked = !hidden.has(model.label);
        box.style.accentColor = looks[number].color;
        box.addEventListener("change", () => {
          if (box.checked) hidden.delete(model.label);
          else hidden.add(model.label);
          draw();
        });
        name.textContent = model.label;
        label.append(box, line(looks[number]), name);
        return label;
      }),
    );
  }

  function line(look) {
    const space = "http://www.w3.org/2000/svg";
    const svg = document.createElementNS(space, "svg");
    const stroke = document.createElementNS(space, "line");
    svg.setAttribute("viewBox", "0 0 32 10");
    const dashes = { solid: "", dash: "9 5", dot: "3 4", dashdot: "9 4 3 4" };
    for (const [name, value] of Object.entries({ x1: 0, x2: 32, y1: 5, y2: 5, "stroke-width": 3, stroke: look.color, "stroke-dasharray": dashes[look.dash] })) {
      stroke.setAttribute(name, value);
    }
    svg.append(stroke);
    return svg;
  }

  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("change", (event) => (event.target.name === "smooth" ? load() : told && draw()));
  dark.addEventListener("change", () => told && draw());
  load();
})();
