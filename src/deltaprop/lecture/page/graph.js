// The network as a drawing: units with their last number, edges as thick as their weights are large.

let drawing = null;
// A drawing that is a little too wide shrinks; below this, its text would be too small, and it scrolls.
const LEAST_SCALE = 0.85;

function drawGraph() {
  const box = byId("graph").querySelector(".scroll");
  const place = layout(box.clientWidth || 600);
  const shrinks = box.clientWidth >= LEAST_SCALE * place.width;
  const sizes = data.layers.join(" → ");
  const root = svg("svg", { width: place.width, height: place.height, viewBox: `0 0 ${place.width} ${place.height}`, style: shrinks ? "" : `min-width: ${place.width}px`, role: "group", "aria-labelledby": "graph-title graph-desc" },
    svg("title", { id: "graph-title" }, `The network ${sizes}`),
    svg("desc", { id: "graph-desc" }, "Layers from left to right. Each unit is a button that shows all of its numbers; edges carry weights, those below zero are dashed."),
    svg("defs", {}, ["forward", "backward"].map((flow) => svg("marker", { id: `arrow-${flow}`, class: flow, viewBox: "0 0 8 8", refX: 7.5, refY: 4, markerWidth: 8, markerHeight: 8, markerUnits: "userSpaceOnUse", orient: "auto-start-reverse" }, svg("path", { d: "M0,0.5 L8,4 L0,7.5 z" })))));
  const heads = svg("g", { class: "heads" }), lines = svg("g"), labels = svg("g", { class: "labels" }), units = svg("g");
  drawing = { root, place, labels, edges: [], units: new Map(), box };
  for (let l = 1; l <= data.L; l++) {
    const x = place.places.get(`${l},1`).x + UNIT.width / 2;
    heads.append(svg("text", { x, y: 14 }, layerName(l)), svg("text", { x, y: 30, class: "muted" }, l === 1 ? "x" : `g = ${activation(l)}`));
    if (l < data.L) drawing.edges.push(...edgesFrom(l, place.places).map((edge) => ({ ...edge, line: svg("line", { x1: edge.x1, y1: edge.y1, x2: edge.x2, y2: edge.y2 }) })));
    for (const unit of unitsOf(l)) units.append(drawUnit(l, unit, place.places.get(`${l},${unit}`)));
  }
  lines.append(...drawing.edges.map((edge) => edge.line));
  root.append(heads, lines, labels, units);
  box.replaceChildren(root);
}

function drawUnit(l, unit, { x, y }) {
  const middle = x + UNIT.width / 2;
  const name = svg("text", { class: "name", x: middle, y: y + 14 }), number = svg("text", { class: "value", x: middle, y: y + 30 });
  const note = svg("text", { class: "note", x: middle, y: y + UNIT.height + 12 });
  const group = svg("g", {
    class: `unit${unit === 0 ? " one" : ""}`, tabindex: 0, role: "button", "data-layer": l, "data-unit": unit,
  }, svg("rect", { x, y, width: UNIT.width, height: UNIT.height, rx: 10 }), name, number, note);
  drawing.units.set(`${l},${unit}`, { group, name, number, note });
  return group;
}

// A symbol in SVG: the unit below, the layer above.
function svgSymbol(letter, l, unit) {
  return [svg("tspan", { "font-style": "italic" }, letter), svg("tspan", { dy: 3, "font-size": 9 }, String(unit)), svg("tspan", { dy: -8, "font-size": 9 }, `(${l})`)];
}

// Light up what the step, and the unit pointed at, concern.
function paintGraph() {
  const step = current(), light = lit(step), numbers = onEdges(step), chosen = unitInStep(light);
  const largestWeight = largestOf(now().Theta), largest = largestOf(light.gap === null || light.gap === "all" ? numbers : [numbers[light.gap - 1]]);
  const shownEdges = [];
  for (const edge of drawing.edges) {
    const inGap = light.gap === "all" || edge.l === light.gap;
    const flows = inGap && !(light.flow === "backward" && edge.k === 0);
    const on = flows && (!chosen || isAtUnit(edge, chosen));
    const text = (inGap ? numbers : now().Theta)[edge.l - 1][edge.j - 1][edge.k], most = inGap ? largest : largestWeight;
    const size = Math.min(1, (Math.abs(Number(text)) || 0) / most); // "nan" and "inf" are no numbers to JavaScript
    edge.line.setAttribute("class", `edge${text.startsWith("-") && text !== "-0" ? " negative" : ""}${on ? ` lit ${light.flow}` : ""}`);
    edge.line.setAttribute("stroke-width", (1 + 3.5 * size).toFixed(2));
    edge.line.setAttribute("marker-end", on && light.flow === "forward" ? "url(#arrow-forward)" : "");
    edge.line.setAttribute("marker-start", on && light.flow === "backward" ? "url(#arrow-backward)" : "");
    if (on) shownEdges.push(edge);
  }
  paintLabels(shownEdges, numbers);
  byId("graph").querySelector(".on-edges").replaceChildren(...edgesKey(step));
  for (const [key, unit] of drawing.units) paintUnit(unit, ...key.split(",").map(Number), step, light, chosen, shownEdges);
}

function largestOf(matrices) {
  return Math.max(...matrices.flat(2).map((text) => Math.abs(Number(text)) || 0), 1e-300);
}

// The unit that is pointed at or kept, if the step concerns it.
function unitInStep(light) {
  const unit = view.unit ?? view.kept;
  return unit && (light.gap === "all" || light.layers.includes(unit.layer)) ? unit : null;
}

function isAtUnit(edge, { layer, unit }) {
  return (edge.l === layer && edge.k === unit) || (edge.l + 1 === layer && edge.j === unit);
}

function paintLabels(edges, numbers) {
  const texts = edges.map(({ l, j, k }) => shown(numbers[l - 1][j - 1][k]));
  const placed = edges.length ? placeLabels(edges, texts) : [];
  drawing.labels.replaceChildren(...(placed ?? []).map(({ edge, x, y, half, text }) => svg("g", { "data-layer": edge.l, "data-unit": edge.j, "data-column": edge.k },
    svg("rect", { x: x - half, y: y - LABEL.height / 2, width: 2 * half, height: LABEL.height, rx: 4 }), svg("text", { x, y: y + 4 }, text))));
  byId("graph").classList.toggle("crowded", placed === null);
}

function paintUnit(drawn, l, unit, step, light, chosen, edges) {
  const quantity = unit === 0 ? "a" : quantityAt(step, l), takesPart = light.layers.includes(l) || light.gap === "all";
  const isOne = unit === 0;
  const flows = !(isOne && (light.flow === "backward" || light.gap === null));
  const touches = !chosen || (chosen.layer === l && chosen.unit === unit) || edges.some((edge) => isAtUnit(edge, { layer: l, unit }));
  const letter = { z: "z", a: "a", delta: "δ" }[quantity] ?? "a";
  const text = quantity === null ? "" : view.all && !isOne ? `${data.samples} rows` : value(quantity, l, unit);
  const kept = view.kept?.layer === l && view.kept?.unit === unit;
  drawn.group.setAttribute("class", `unit ${quantity ?? "unknown"}${isOne ? " one" : ""}${takesPart && flows && touches && light.gap !== "all" ? " lit" : ""}${light.target === l && !isOne ? " target" : ""}${kept ? " kept" : ""}`);
  drawn.group.setAttribute("aria-pressed", String(Boolean(kept)));
  drawn.group.setAttribute("aria-label", `Layer ${l}, ${isOne ? "bias unit" : `unit ${unit}`}${quantity === null ? "" : `: ${letter} = ${shown(text)}`}`);
  drawn.name.replaceChildren(...svgSymbol(letter, l, unit));
  drawn.number.textContent = shown(text);
  drawn.number.classList.toggle("long", text.length > UNIT.digits);
  drawn.note.replaceChildren(...noteOf(l, unit, step));
}

// What stands below a unit: the target of an output where it is compared, and else its bias in W, b form.
function noteOf(l, unit, step) {
  const isCompared = l === data.L && (step.kind === "J" || (step.kind === "delta" && step.layer === l));
  if (isCompared) return view.all ? [] : [svg("tspan", { "font-style": "italic" }, "y"), ` = ${shown(data.y[view.sample][unit - 1])}`];
  if (isTheta() || l === 1) return [];
  const { gap } = lit(step), takesPart = gap === "all" || gap === l - 1;
  const letter = takesPart ? { Delta: "Δb", D: "∂J/∂b" }[step.kind] ?? "b" : "b";
  return [svg("tspan", { "font-style": "italic" }, letter), ` = ${shown((takesPart ? onEdges(step) : now().Theta)[l - 2][unit - 1][0])}`];
}

// What the numbers on the edges are.
function edgesKey(step) {
  const gap = lit(step).gap, letter = isTheta() ? "Θ" : "W";
  if (gap === null) return [];
  if (gap === "all") return ["On the edges: the updated ", symbol(letter)];
  return ["On the edges: ", { Delta: symbol("Δ", gap), D: symbol("D", gap) }[step.kind] ?? symbol(letter, gap)];
}

// Where the drawing is wider than the screen, bring what is lit into view.
function scrollToLight() {
  const { root, box, place } = drawing, light = lit(current());
  if (!light.layers.length) return;
  const xs = light.layers.map((l) => place.places.get(`${l},1`).x);
  const left = Math.min(...xs), right = Math.max(...xs) + UNIT.width;
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const scale = root.getBoundingClientRect().width / place.width;
  box.scrollTo({ left: (scale * (left + right) - box.clientWidth) / 2, behavior: calm ? "auto" : "smooth" });
}
