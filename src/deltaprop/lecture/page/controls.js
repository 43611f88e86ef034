// What the reader chooses, by pointer and by keys; everything is drawn anew from the view.

function toStep(at) {
  view.at = Math.max(0, Math.min(steps.length - 1, at));
  render();
  scrollToLight();
}

function toTraining(k) {
  view.training = Math.max(0, Math.min(data.steps.length - 1, k));
  render();
}

// A button that leads no further. The attribute "disabled" would take the focus from it, and from those who use keys.
function setOff(id, isOff) {
  byId(id).setAttribute("aria-disabled", String(isOff));
}

function render() {
  const step = current(), hadFocus = byId("step").contains(document.activeElement);
  byId("phase").textContent = `${step.phase} · step ${view.at + 1} of ${steps.length}${data.samples > 1 && !view.all && ["z", "a", "delta"].includes(step.kind) ? ` · sample ${view.sample + 1}` : ""}`;
  byId("step-title").replaceChildren(...TITLES[step.kind](step.layer));
  byId("why").textContent = WHY[step.kind](step.layer);
  const { all, each } = FORMULAS[step.kind](step.layer);
  byId("formulas").replaceChildren(el("p", { class: "formula" }, view.all ? inRows(step, all) : all), each.length && !view.all ? el("p", { class: "formula each" }, each) : "");
  byId("numbers").replaceChildren(...[numbersOf(step)].flat());
  byId("spoken").textContent = spoken(step);
  if (hadFocus) byId("step-title").focus({ preventScroll: true });
  const slider = byId("slider");
  slider.value = view.at;
  slider.setAttribute("aria-valuetext", `step ${view.at + 1} of ${steps.length}, ${stepWords(step)}`);
  for (const id of ["first", "back"]) setOff(id, view.at === 0);
  for (const id of ["last", "next"]) setOff(id, view.at === steps.length - 1);
  paintChips();
  trainingPanel();
  if (byId("tables").open) showTables();
  paintLight();
}

// In matrix form rows are samples, so that products stand the other way round.
function inRows(step, all) {
  return MATRICES[step.kind] && step.kind !== "a" && step.kind !== "J" ? [all, el("span", { class: "aside" }, "and with samples as rows:")] : all;
}

// What moves with the pointer: the lit units and edges, the line of the unit, and its panel.
function paintLight() {
  paintGraph();
  unitPanel();
  const unit = view.unit ?? view.kept;
  for (const line of byId("numbers").querySelectorAll(".line[data-unit]")) {
    line.classList.toggle("active", Boolean(unit) && line.dataset.layer === String(unit.layer) && line.dataset.unit === String(unit.unit));
  }
}

function showTables() {
  byId("tables").querySelector("div").replaceChildren(...allTables());
}

// -- the chips: every step as a button --------------------------------------------------------------------------

function makeChips() {
  const groups = new Map();
  steps.forEach((step, at) => {
    if (!groups.has(step.phase)) groups.set(step.phase, el("div", { class: "phase-group" }, el("span", {}, step.phase)));
    groups.get(step.phase).append(el("button", { type: "button", "aria-label": `Step ${at + 1}, ${stepWords(step)}`, "data-at": at, onclick: () => toStep(at) }, stepSymbol(step)));
  });
  byId("stepper").querySelector(".chips").replaceChildren(...groups.values());
}

function paintChips() {
  const chips = byId("stepper").querySelector(".chips"), hadFocus = chips.contains(document.activeElement);
  for (const chip of chips.querySelectorAll("button")) {
    const at = Number(chip.dataset.at), isCurrent = at === view.at;
    chip.classList.toggle("done", at < view.at);
    chip.tabIndex = isCurrent ? 0 : -1;
    if (!isCurrent) chip.removeAttribute("aria-current");
    else {
      chip.setAttribute("aria-current", "step");
      if (hadFocus) chip.focus({ preventScroll: true });
      chips.scrollTo({ left: chip.offsetLeft - chips.offsetLeft - chips.clientWidth / 2 + chip.offsetWidth / 2 });
    }
  }
}

// -- settings ---------------------------------------------------------------------------------------------------

function makeSettings() {
  for (const input of document.querySelectorAll("input[name=form]")) {
    input.addEventListener("change", () => {
      view.form = input.value;
      if (view.kept?.unit === 0) view.kept = null;
      view.unit = null;
      makeChips();
      drawGraph();
      render();
    });
  }
  const choice = (text, chosen, isChecked) => el("label", {}, el("input", { type: "radio", autocomplete: "off", name: "sample", value: text, checked: isChecked, onchange: () => {
    view.all = chosen === null;
    view.sample = chosen ?? view.sample;
    render();
  } }), el("span", {}, text));
  byId("samples").hidden = data.samples === 1;
  for (let i = 0; i < data.samples; i++) byId("samples").append(choice(String(i + 1), i, i === 0));
  if (data.samples > 1) byId("samples").append(choice(`all ${data.samples}, as matrices`, null, false));
}

function subtitle() {
  const hidden = [...new Set(data.activations.slice(0, -1))].join(", ");
  const { lambda, scaling, reduction } = data.objective;
  const parts = [`${data.layers.join(" → ")} units`, hidden ? `hidden ${hidden}` : "no hidden layer", `output ${activation(data.L)}`,
    `cost: ${LOSSES[data.loss]}`, `${data.samples} ${data.samples > 1 ? "samples" : "sample"}`, `η = ${data.learningRate}`];
  if (hasPenalty()) parts.push(`λ = ${lambda}${scaling === "absolute" ? ", absolute" : ""}`);
  if (data.outputError === "simplified") parts.push("simplified output error");
  if (reduction === "sum" && data.samples > 1) parts.push("J is a sum");
  if (data.dtype !== "float64") parts.push(data.dtype);
  byId("subtitle").textContent = parts.join(" · ");
  byId("graph").querySelector(".legend").replaceChildren(
    el("span", { class: "key" }, el("span", { class: "sample-line" }), "above 0"), el("span", { class: "key" }, el("span", { class: "sample-line dashed" }), "below 0"),
    el("span", {}, "the thicker, the larger"), el("span", { class: "on-edges" }), el("span", { class: "when-crowded" }, "Point at a unit for the numbers on its edges."));
}

// -- pointer and keys -------------------------------------------------------------------------------------------

function unitAt(target) {
  const found = target.closest?.("[data-layer][data-unit]");
  return found && found.closest("#graph, #numbers") && found.dataset.unit !== "" ? { layer: Number(found.dataset.layer), unit: Number(found.dataset.unit) } : null;
}

function same(one, other) {
  return one?.layer === other?.layer && one?.unit === other?.unit;
}

function point(event) {
  const unit = unitAt(event.target);
  if (same(unit, view.unit)) return;
  view.unit = unit;
  paintLight();
}

function keep(unit) {
  view.kept = same(unit, view.kept) ? null : unit;
  paintLight();
}

const KEYS = {
  ArrowRight: () => toStep(view.at + 1), ArrowLeft: () => toStep(view.at - 1), Home: () => toStep(0), End: () => toStep(steps.length - 1),
  PageDown: () => toTraining(view.training + 1), PageUp: () => toTraining(view.training - 1),
};

function listen() {
  // Arrow keys would move on to the next choice where one was clicked; they are to take steps.
  let byPointer = false;
  document.addEventListener("pointerdown", () => { byPointer = true; });
  document.addEventListener("keydown", () => { byPointer = false; }, true);
  byId("settings").addEventListener("click", (event) => { if (byPointer && event.target.matches("input")) event.target.blur(); });
  byId("first").addEventListener("click", KEYS.Home);
  byId("back").addEventListener("click", KEYS.ArrowLeft);
  byId("next").addEventListener("click", KEYS.ArrowRight);
  byId("last").addEventListener("click", KEYS.End);
  byId("slider").addEventListener("input", (event) => toStep(Number(event.target.value)));
  byId("training-back").addEventListener("click", KEYS.PageUp);
  byId("training-next").addEventListener("click", KEYS.PageDown);
  byId("training-slider").addEventListener("input", (event) => toTraining(Number(event.target.value)));
  byId("tables").addEventListener("toggle", showTables);
  document.addEventListener("pointermove", point); // not "pointerover", which comes too where a pointer that rests meets new lines
  document.documentElement.addEventListener("pointerleave", point);
  document.addEventListener("focusin", point);
  document.addEventListener("click", (event) => {
    const unit = unitAt(event.target);
    if (unit) keep(unit);
  });
  document.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || event.target.matches("input, summary, .scroll")) return;
    const unit = unitAt(event.target);
    if (event.key === "Escape") keep(view.kept);
    else if (unit && (event.key === "Enter" || event.key === " ")) keep(unit);
    else if (KEYS[event.key] && !event.shiftKey) KEYS[event.key]();
    else return;
    event.preventDefault();
  });
  let width = drawing.box.clientWidth;
  new ResizeObserver(() => {
    if (drawing.box.clientWidth === width) return;
    width = drawing.box.clientWidth;
    drawGraph();
    paintGraph();
  }).observe(drawing.box);
}

async function begin() {
  if (typeof DecompressionStream === "undefined") throw new Error("this browser is too old: it has no DecompressionStream");
  await unpack();
  makeSteps();
  byId("page").hidden = byId("tables").hidden = byId("help").hidden = false;
  subtitle();
  makeSettings();
  makeChips();
  byId("slider").max = steps.length - 1;
  drawGraph();
  listen();
  render();
  document.documentElement.dataset.ready = "";
}

begin().catch((error) => {
  byId("problem").hidden = false;
  byId("problem").textContent = `The page cannot be shown: ${error.message}`;
  throw error;
});
