// What stands beside the steps: the numbers of one unit, all numbers as tables, and J over the training steps.

// -- one unit ---------------------------------------------------------------------------------------------------

function unitPanel() {
  const light = lit(current());
  const { layer, unit } = view.unit ?? view.kept ?? { layer: light.target ?? data.L, unit: 1 };
  const where = unit === 0 ? `The bias unit of layer ${layer}` : `Unit ${unit} of layer ${layer}`;
  byId("unit-title").textContent = view.kept && !view.unit ? `${where}, kept` : where;
  byId("unit-rows").replaceChildren(...(unit === 0 ? [el("p", {}, "It is always 1. The weights on its edges are the biases.")] : [samplesOfUnit(layer, unit), parametersOfUnit(layer, unit)]).filter(Boolean));
}

const QUANTITIES = [["z", "z"], ["a", "a"], ["slope", "g′"], ["delta", "δ"]];

// Its z, a, g′(z) and δ, for the chosen sample or for all.
function samplesOfUnit(layer, unit) {
  const which = view.all ? data.y.map((_, i) => i) : [view.sample];
  const found = QUANTITIES.map(([quantity, letter]) => [quantity, letter, layer === 1 && quantity !== "a" ? null : rows(quantity, layer)]).filter(([, , values]) => values);
  const name = (letter) => (letter === "g′" ? [el("i", {}, "g′"), "(", symbol("z", layer, unit), ")"] : symbol(letter, layer, unit));
  const list = found.map(([quantity, letter, values]) => el("tr", { "data-row": quantity }, el("th", { scope: "row" }, name(letter)), which.map((i) => el("td", {}, number(values[i][unit - 1], letter)))));
  if (layer === data.L) list.push(el("tr", { "data-row": "y" }, el("th", { scope: "row" }, plain("y", String(unit))), which.map((i) => el("td", {}, number(data.y[i][unit - 1], "y")))));
  const head = view.all ? el("thead", {}, el("tr", {}, el("th", {}, "sample"), which.map((i) => el("th", { scope: "col" }, String(i + 1))))) : "";
  return el("div", { class: "scroll" }, el("table", {}, head, el("tbody", {}, list)));
}

// Its row of Θ, Δ and D, and of the updated Θ: a line for each edge that comes in.
function parametersOfUnit(layer, unit) {
  if (layer === 1) return null;
  const parameter = isTheta() ? symbol("Θ", layer - 1) : symbol("W", layer - 1);
  const named = [["Theta", parameter, "Θ", now().Theta], ["Delta", symbol("Δ", layer - 1), "Δ", now().Delta], ["D", symbol("D", layer - 1), "D", now().D], ["updated", "updated", "Θ", updated()]];
  const head = el("thead", {}, el("tr", {}, el("th", {}, "edge"), named.map(([, name]) => el("th", { scope: "col" }, name))));
  const body = order(1 + data.layers[layer - 2]).map((k) => el("tr", { "data-column": k }, el("th", { scope: "row" }, columnHead(k)),
    named.map(([row, , letter, values]) => el("td", { "data-row": row }, number(values[layer - 2][unit - 1][k], letter)))));
  return el("div", { class: "scroll" }, el("table", { class: "narrow" }, head, el("tbody", {}, body)));
}

// -- all numbers ------------------------------------------------------------------------------------------------

function table(caption, heads, body) {
  const head = el("thead", {}, el("tr", {}, el("th", {}, ""), heads.map((text) => el("th", { scope: "col" }, text))));
  const lines = body.map(([name, texts]) => el("tr", {}, el("th", { scope: "row" }, name), texts.map((text) => el("td", {}, shown(text)))));
  return el("div", { class: "scroll" }, el("table", {}, el("caption", {}, caption), head, el("tbody", {}, lines)));
}

function allTables() {
  const parts = [];
  const add = (caption, values, row) => parts.push(table(caption, values[0].map((_, k) => String(k + (row === "unit" ? 0 : 1))), values.map((texts, i) => [`${row} ${i + 1}`, texts])));
  const parameters = (letter, values, l) => {
    if (isTheta()) return add(symbol(letter, l), values, "unit");
    const heads = values[0].slice(1).map((_, k) => String(k + 1));
    parts.push(table([symbol(letter === "Θ" ? "W" : letter, l), letter === "Θ" ? [" and ", symbol("b", l)] : ""], [...heads, "b"], values.map((texts, j) => [`unit ${j + 1}`, picked(texts)])));
  };
  now().Theta.forEach((values, position) => parameters("Θ", values, position + 1));
  add([symbol("a", 1), " = x"], data.x, "sample");
  for (let l = 2; l <= data.L; l++) {
    for (const [quantity, letter] of QUANTITIES) {
      const values = rows(quantity, l);
      if (values) add(letter === "g′" ? [el("i", {}, "g′"), "(", symbol("z", l), ")"] : symbol(letter, l), values, "sample");
    }
  }
  add(symbol("y"), data.y, "sample");
  now().Delta.forEach((values, position) => parameters("Δ", values, position + 1));
  now().D.forEach((values, position) => parameters("D", values, position + 1));
  return parts;
}

// -- J over the training steps ----------------------------------------------------------------------------------

const CURVE = { width: 320, height: 180, left: 68, right: 12, top: 12, bottom: 26 };

function curve() {
  const J = data.J.map(Number), known = J.filter(Number.isFinite), low = Math.min(...known), high = Math.max(...known);
  const { width, height, left, right, top, bottom } = CURVE;
  const x = (k) => left + (width - left - right) * (J.length > 1 ? k / (J.length - 1) : 0.5);
  const y = (cost) => (high > low ? top + (height - top - bottom) * ((high - cost) / (high - low)) : (top + height - bottom) / 2);
  const at = J.map((cost, k) => ({ k, cost })).filter(({ cost }) => Number.isFinite(cost));
  const path = at.map(({ k, cost }, position) => `${position ? "L" : "M"}${x(k).toFixed(1)},${y(cost).toFixed(1)}`).join("");
  const points = at.map(({ k, cost }) => svg("circle", { cx: x(k), cy: y(cost), r: k === view.training ? 6 : 3, class: k === view.training ? "current" : k < data.steps.length ? "point" : "beyond" }));
  const ticks = [...new Set([high, low])].filter(Number.isFinite).map((cost) => svg("text", { x: left - 6, y: y(cost) + 4, class: `tick end${data.J.find((text) => Number(text) === cost).length > 9 ? " long" : ""}` }, shown(data.J.find((text) => Number(text) === cost))));
  const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-labelledby": "curve-title curve-desc",
    onclick: (event) => toTraining(Math.round((J.length - 1) * (event.offsetX * width / root.clientWidth - left) / (width - left - right))) },
    svg("title", { id: "curve-title" }, "J over the training steps"),
    svg("desc", { id: "curve-desc" }, `From ${data.J[0]} to ${data.J[J.length - 1]}; now ${now().J} at training step ${view.training}.`),
    svg("line", { class: "axis", x1: left, x2: left, y1: top - 4, y2: height - bottom }), svg("line", { class: "axis", x1: left, x2: width - right, y1: height - bottom, y2: height - bottom }),
    ticks,
    J.length > 1 ? svg("text", { x: x(0), y: height - 8, class: "tick middle" }, "0") : "", J.length > 1 ? svg("text", { x: x(J.length - 1), y: height - 8, class: "tick middle" }, String(J.length - 1)) : "",
    svg("text", { x: (left + width - right) / 2, y: height - 8, class: "tick middle" }, "training step"),
    svg("path", { d: path, class: "curve" }), points);
  return root;
}

function trainingNote() {
  const kept = data.steps.length, made = data.J.length, parts = [];
  if (!data.finite && !Number.isFinite(Number(data.J[0]))) parts.push("J is not finite: the samples or the parameters are too large.");
  else if (!data.finite) parts.push(`J or a parameter is no longer finite after step ${made - 1}; a smaller learning rate would help.`);
  if (kept < made) parts.push(`To stay below 300 kB, the page has the numbers of training steps 0 … ${kept - 1}; the curve goes on to ${made - 1}.`);
  return parts.join(" ");
}

function trainingPanel() {
  const most = data.steps.length - 1;
  byId("training").hidden = most === 0 && !trainingNote();
  byId("training-title").replaceChildren(`Training step ${view.training}`, el("span", { class: "muted" }, ` of ${most}`), "  ", symbol("J"), " = ", el("b", { class: "result cost", id: "training-cost" }, shown(now().J)));
  byId("curve").replaceChildren(curve());
  const slider = byId("training-slider");
  slider.max = most;
  slider.value = view.training;
  slider.setAttribute("aria-valuetext", `training step ${view.training}, J = ${now().J}`);
  setOff("training-back", view.training === 0);
  setOff("training-next", view.training === most);
  byId("training-note").textContent = trainingNote();
}
