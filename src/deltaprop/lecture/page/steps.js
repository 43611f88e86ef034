// The steps of a training step in their order, and what each lights up.

const steps = [];

function makeSteps() {
  const add = (kind, layer, phase) => steps.push({ kind, layer, phase });
  for (let l = 2; l <= data.L; l++) {
    add("z", l, "Forward");
    add("a", l, "Forward");
  }
  add("J", null, "Cost");
  for (let l = data.L; l >= 2; l--) add("delta", l, "Backward");
  for (let l = 1; l < data.L; l++) add("Delta", l, "Gradient");
  for (let l = 1; l < data.L; l++) add("D", l, "Gradient");
  add("update", null, "Update");
}

function current() {
  return steps[view.at];
}

const LETTERS = { z: "z", a: "a", J: "J", delta: "δ", Delta: "Δ", D: "D" };

// What a step is called: as a symbol, and in words for those who listen.
function stepSymbol({ kind, layer }) {
  if (kind !== "update") return symbol(LETTERS[kind], layer);
  return isTheta() ? symbol("Θ", null) : el("span", {}, symbol("W"), ", ", symbol("b"));
}

function stepWords({ kind, layer }) {
  const words = { z: "z", a: "a", delta: "delta", Delta: "capital Delta", D: "D" };
  if (kind === "J") return "J, the cost";
  return kind === "update" ? "update of all parameters" : `${words[kind]} of layer ${layer}`;
}

// Between which layers edges are lit (the lower one; "all" for the update), what flows and where to.
function lit({ kind, layer }) {
  switch (kind) {
    case "z": return { gap: layer - 1, flow: "forward", layers: [layer - 1, layer], target: layer };
    case "delta": return layer === data.L ? { gap: null, layers: [layer], target: layer } : { gap: layer, flow: "backward", layers: [layer, layer + 1], target: layer };
    case "Delta":
    case "D": return { gap: layer, flow: "gradient", layers: [layer, layer + 1], target: layer + 1 };
    case "update": return { gap: "all", flow: "gradient", layers: [], target: null };
    case "J": return { gap: null, layers: [data.L], target: data.L };
    default: return { gap: null, layers: [layer], target: layer };
  }
}

// Which quantity a unit of layer l shows at a step: the last that is known, or the one that takes part.
function quantityAt({ kind, layer }, l) {
  if (kind === "z") return l === layer ? "z" : l < layer ? "a" : null;
  if (kind === "a") return l <= layer ? "a" : null;
  if (kind === "J") return "a";
  if (kind === "delta") return l >= layer ? "delta" : "a";
  if (kind === "update") return l === 1 ? "a" : "delta";
  return l <= layer ? "a" : "delta";
}

// What stands on the edges: a parameter, or what the step has made of it.
function onEdges({ kind }) {
  return { Delta: now().Delta, D: now().D, update: updated() }[kind] ?? now().Theta;
}

// The numbers of a step, as elements.
function numbersOf({ kind, layer }) {
  if (view.all && MATRICES[kind]) return el("div", { class: "equation" }, MATRICES[kind](layer));
  switch (kind) {
    case "z": return zLines(layer);
    case "a": return aLines(layer);
    case "J": return costLines();
    case "delta": return deltaLines(layer);
    case "Delta": return DeltaTable(layer);
    case "D": return DTable(layer);
    default: return [...data.layers.slice(1).map((_, position) => updateTable(position + 1)), goOn()];
  }
}

// After the update, the way to the next training step.
function goOn() {
  const next = view.training + 1;
  if (next >= data.steps.length) return "";
  return el("button", { type: "button", id: "go-on", onclick: () => {
    toTraining(next);
    toStep(0);
  } }, `Go on to training step ${next} →`);
}

// A sentence for those who listen: the step and its results, unit by unit.
function spoken(step) {
  const begin = `Step ${view.at + 1} of ${steps.length}, ${stepWords(step)}.`;
  if (step.kind === "J") return `${begin} J is ${shown(now().J)}.`;
  if (step.kind === "update" || view.all) return begin;
  if (step.kind === "Delta" || step.kind === "D") {
    const rows = now()[step.kind][step.layer - 1].map((row, j) => `unit ${j + 1}: ${row.map(shown).join(", ")}`);
    return `${begin} ${rows.join("; ")}.`;
  }
  const results = Array.from({ length: data.layers[step.layer - 1] }, (_, j) => `unit ${j + 1}: ${shown(value(step.kind, step.layer, j + 1))}`);
  return `${begin} ${results.join("; ")}.`;
}
