"use strict";
// The page: a form over a config's numbers, two charts and a table. Numbers come from TABLES until something is edited.
(() => {
  const page = document.getElementById("explore");
  const form = page.querySelector("form");
  const { config, group, variant } = form.elements;
  const FIELDS = {
    default: [], linear: ["factor"], ntk: ["factor"], proportional: ["partial_rotary_factor", "factor"],
    dynamic_ntk: ["factor", "max_position_embeddings", "length"],
    llama3: ["factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"],
    yarn: ["factor", "original_max_position_embeddings", "beta_fast", "beta_slow"],
    longrope: ["length", "original_max_position_embeddings"],
  };
  const SUGGESTED = {
    factor: 8, partial_rotary_factor: 0.25, low_freq_factor: 1, high_freq_factor: 4, beta_fast: 32, beta_slow: 1,
  };
  const INK = "currentColor";
  const COLOURS = { unchanged: "#2a7fb8", blended: "#8e5bb0", stretched: "#d1632a", shortened: "#5b9a3c", still: "#999" };
  let shown; // { row, args, variant, w, magnitude, edited }

  const option = (value, text = value) => new Option(text, value);
  const number = (v) => (v < 1e5 ? Number(v.toPrecision(6)) : Math.round(v)).toLocaleString("en");
  const model = () => TABLES[config.selectedIndex];

  function chooseModel() {
    group.replaceChildren(...model().layers.map((row, i) => option(i, `${row.layers} (${row.type})`)));
    chooseLayers();
  }

  function chooseLayers() {
    const row = model().layers[group.value];
    const lists = row.given.short_factor !== undefined;
    const known = Object.keys(FIELDS).filter((name) => name !== "longrope" || lists);
    variant.replaceChildren(...(row.variant ? known.map((name) => option(name)) : [option(row.type)]));
    variant.disabled = !row.variant;
    if (row.variant) variant.value = row.variant;
    shown = { row, args: row.given, w: row.inv_freq, magnitude: row.magnitude, edited: false };
    fields();
    draw();
  }

  function fields() {
    const { row } = shown;
    const trained = model().length ?? 8192;
    const suggested = {
      ...SUGGESTED, theta: row.theta, rotary_dim: 2 * row.inv_freq.length, head_dim: row.head_dim,
      original_max_position_embeddings: trained, max_position_embeddings: trained, length: 2 * trained, ...row.given,
    };
    const width = variant.value === "proportional" ? "head_dim" : "rotary_dim";
    const fixed = variant.value === "longrope";
    const names = row.variant ? ["theta", ...(fixed ? [] : [width]), ...FIELDS[variant.value]] : [];
    form.querySelector(".fields").replaceChildren(...names.map((name) => {
      const label = document.createElement("label");
      const input = Object.assign(document.createElement("input"), {
        name, type: "number", step: "any", min: 0, value: suggested[name], required: true,
      });
      label.append(`${name} `, input);
      return label;
    }));
    shown.args = { ...suggested };
  }

  function edit() {
    for (const input of form.querySelectorAll(".fields input")) shown.args[input.name] = input.valueAsNumber;
    const r = variant.value === "proportional" ? shown.args.head_dim : shown.args.rotary_dim;
    const [w, magnitude] = VARIANTS[variant.value](shown.args);
    const sound = r % 2 === 0 && r > 0 && r <= 1024 && w.every(Number.isFinite) && !(shown.args.factor < 1);
    if (!sound) return say("These numbers make no rotary embedding: widths are even, factors at least 1.");
    Object.assign(shown, { w, magnitude, edited: true });
    draw();
  }

  const say = (words) => (page.querySelector(".words").textContent = words);

  function draw() {
    const { w, magnitude, row, edited } = shown;
    const theta = edited ? shown.args.theta : row.theta;
    const runs = w.length ? bands(w, theta) : [];
    const longest = Math.max(0, ...w.filter((v) => v > 0).map((v) => (2 * Math.PI) / v));
    const last = row.head_dim > 2 * w.length ? ` of a head of ${row.head_dim} channels` : "";
    say(!w.length ? `${model().model}, layers ${row.layers}: no rotation.`
      : `${model().model}, layers ${row.layers}${edited ? ", edited" : ""}: ${w.length} ${row.pairing} pairs${last}, ` +
        `magnitude ${number(magnitude)}, longest wavelength ${number(longest)} positions.` +
        (row.axis ? " Axes of the pairs: " + [0, 1, 2].map((a) => row.axis.filter((b) => a === b).length).join(", ") + "." : "") +
        (row.variant ? "" : " Its numbers cannot be edited here."));
    page.dataset.state = JSON.stringify({ w, magnitude, edited });
    page.querySelector(".bands tbody").innerHTML = runs.map((run) => {
      const ends = (f) => [...new Set([f(run.pairs[0]), f(run.pairs[run.pairs.length - 1])])].join(" to ");
      const wave = run.name === "still" ? "never turns" : ends((i) => number((2 * Math.PI) / w[i]));
      const by = run.name === "still" ? "" : ends((i) => number(run.slowed[run.pairs.indexOf(i)]));
      return `<tr><td style="color:${COLOURS[run.name]}">${run.name}</td><td>${ends((i) => i)}</td><td>${wave}</td><td>${by}</td></tr>`;
    }).join("");
    const plain = w.length ? geometric(2 * w.length, theta) : [];
    waves(runs, w, plain);
    scores(w, magnitude, plain);
  }

  function chart(name, x, y, marks, body) {
    const [left, right, top, bottom] = [52, 508, 10, 272];
    const X = (v) => left + ((v - x[0]) / (x[1] - x[0])) * (right - left);
    const Y = (v) => bottom - ((v - y[0]) / (y[1] - y[0])) * (bottom - top);
    const grid = [
      ...marks.x.map(([v, text]) => `<path d="M${X(v)},${top}V${bottom}"/><text x="${X(v)}" y="288" text-anchor="middle">${text}</text>`),
      ...marks.y.map(([v, text]) => `<path d="M${left},${Y(v)}H${right}"/><text x="46" y="${Y(v) + 4}" text-anchor="end">${text}</text>`),
    ];
    const svg = page.querySelector(`.${name}`);
    svg.setAttribute("viewBox", "0 0 520 296");
    svg.innerHTML = `<g class="grid">${grid.join("")}</g>${body(X, Y)}`;
  }

  const line = (points, rest) => `<polyline fill="none" points="${points.map((p) => p.map((v) => v.toFixed(1))).join(" ")}" ${rest}/>`;
  const decades = (low, high) =>
    Array.from({ length: high - low + 1 }, (_, k) => [low + k, low + k < 4 ? 10 ** (low + k) : `1e${low + k}`]);

  function waves(runs, w, plain) {
    const height = (v) => Math.log10((2 * Math.PI) / v);
    const top = Math.ceil(Math.max(5, ...[...w, ...plain].filter((v) => v > 0).map(height)));
    const step = Math.max(1, Math.ceil(w.length / 8));
    const x = w.map((_, i) => i).filter((i) => i % step === 0).map((i) => [i, i]);
    chart("waves", [-0.5, Math.max(w.length, 2) - 0.5], [0, top], { x, y: decades(0, top) }, (X, Y) => {
      const length = shown.args.original_max_position_embeddings ?? shown.args.max_position_embeddings ?? model().length;
      const trained = length ? `<path class="trained" d="M52,${Y(Math.log10(length))}H508"/>` : "";
      const dots = runs.flatMap((run) => run.pairs.filter((i) => w[i] > 0).map(
        (i) => `<circle cx="${X(i)}" cy="${Y(height(w[i]))}" r="3" fill="${COLOURS[run.name]}"><title>pair ${i}: ${number((2 * Math.PI) / w[i])} positions, ${run.name}</title></circle>`));
      return trained + line(plain.map((v, i) => [X(i), Y(height(v))]), `stroke="${INK}" stroke-dasharray="5 4" opacity=".5"`) + dots.join("");
    });
  }

  function scores(w, magnitude, plain) {
    const distances = [...new Set(Array.from({ length: 700 }, (_, k) => Math.round(10 ** ((k / 699) * 5.12))))];
    const [now, was] = w.length ? [distances.map((d) => decay(w, magnitude, d)), distances.map((d) => decay(plain, 1, d))] : [[], []];
    const [low, high] = [Math.min(-0.2, ...now), Math.max(1, ...now)];
    const y = [low, 0, high].map((v) => [v, v.toFixed(1)]);
    chart("decay", [0, 5.12], [low, high], { x: decades(0, 5), y }, (X, Y) => {
      const path = (values) => values.map((v, k) => [X(Math.log10(distances[k])), Y(v)]);
      return line(path(was), `stroke="${INK}" opacity=".3"`) + line(path(now), `stroke="${COLOURS.unchanged}" stroke-width="1.4"`);
    });
  }

  config.replaceChildren(...TABLES.map((one) => option(one.name, one.model)));
  config.value = new URLSearchParams(location.search).get("config") ?? "llama-3.1-8b";
  if (config.selectedIndex < 0) config.selectedIndex = 0;
  config.addEventListener("change", chooseModel);
  group.addEventListener("change", chooseLayers);
  variant.addEventListener("change", () => { fields(); edit(); });
  form.querySelector(".fields").addEventListener("input", edit);
  form.addEventListener("reset", (event) => { event.preventDefault(); chooseLayers(); });
  form.addEventListener("submit", (event) => event.preventDefault());
  chooseModel();
})();
