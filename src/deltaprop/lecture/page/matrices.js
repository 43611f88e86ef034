// Matrices: in columns as one adds on paper (Δ, D and the update), and in brackets (all samples at once).

// The inputs of a layer's units, as heads of columns; Θ has the bias in column 0, and W, b have it at the end.
function order(columns) {
  const inputs = Array.from({ length: columns - 1 }, (_, k) => k + 1);
  return isTheta() ? [0, ...inputs] : [...inputs, 0];
}

function columnHead(k) {
  if (k === 0) return isTheta() ? plain("a", "0") : el("i", {}, "b");
  return plain("a", String(k));
}

// One row of a sum: what stands before it, and its cells.
function addend(head, cells, quantity, kind = "") {
  return el("tr", { class: kind }, el("th", { scope: "row" }, head), cells.map((text) => el("td", {}, text === null ? "" : number(text, quantity))));
}

function total(head, letter, quantity, l, j, row) {
  const cells = order(row.length).map((k) => el("td", { "data-column": k }, result(row[k], letter, l, j, k)));
  return el("tr", { class: "total" }, el("th", { scope: "row" }, head), cells);
}

// A table with a group of rows for each unit j of layer l + 1, whose parameters come from layer l.
function grouped(l, caption, group) {
  const columns = 1 + data.layers[l - 1];
  const head = el("thead", {}, el("tr", {}, el("td", {}), order(columns).map((k) => el("th", { scope: "col" }, columnHead(k)))));
  const bodies = Array.from({ length: data.layers[l] }, (_, j) => el("tbody", { class: "line", "data-layer": l + 1, "data-unit": j + 1, tabindex: 0 }, group(j)));
  return el("div", { class: "scroll" }, el("table", { class: "paper" }, el("caption", {}, caption), head, bodies));
}

const picked = (row) => order(row.length).map((k) => row[k]);

function DeltaTable(l) {
  const many = data.samples > 1, a = rows("a", l), delta = rows("delta", l + 1);
  const caption = ["Each ", plain("δ", "j"), " times each output of layer ", String(l), many ? "; the samples are added up" : ""];
  return grouped(l, caption, (j) => [
    a.map((outputs, i) => {
      const before = [many ? el("span", { class: "of" }, `sample ${i + 1} `) : [plain("δ", String(j + 1)), " = "], number(delta[i][j], "δ"), " ×"];
      return addend(before, picked(["1", ...outputs]), "a", many && i === view.sample && !view.all ? "addend active" : "addend");
    }),
    total([symbol("Δ", l, j + 1), " ="], "Δ", "Delta", l, j + 1, now().Delta[l - 1][j]),
  ]);
}

function DTable(l) {
  const Delta = now().Delta[l - 1], D = now().D[l - 1], Theta = now().Theta[l - 1];
  return grouped(l, [symbol("D", l), " for each unit of layer ", String(l + 1)], (j) => [
    addend([isMean() ? [fraction("1", String(data.samples)), " × "] : "", symbol("Δ", l, j + 1)], picked(Delta[j]), "Δ", "addend"),
    hasPenalty() ? addend(["+ ", number(data.objective.penalty), " × ", symbol("W", l, j + 1)], picked(["0", ...Theta[j].slice(1)]), "weight", "addend") : null,
    total([symbol("D", l, j + 1), " ="], "D", "D", l, j + 1, D[j]),
  ]);
}

function updateTable(l) {
  const before = now().Theta[l - 1], D = now().D[l - 1], after = updated()[l - 1];
  const name = (j) => (isTheta() ? symbol("Θ", l, j) : [symbol("W", l, j), ", ", symbol("b", l, j)]);
  return grouped(l, ["From layer ", String(l), " to layer ", String(l + 1)], (j) => [
    addend(name(j + 1), picked(before[j]), "weight", "addend"),
    addend(["− ", number(data.learningRate), " × ", symbol("D", l, j + 1)], picked(D[j]), "D", "addend"),
    total([name(j + 1), " :="], "Θ", "Theta", l, j + 1, after[j]),
  ]);
}

// -- in brackets ------------------------------------------------------------------------------------------------

// With a layer it is a result: of quantities rows are samples and columns units, of Δ rows are units.
function bracketed(name, values, letter, layer = null, columns = null) {
  const cell = (text, i, j) => {
    if (layer === null) return number(text, letter);
    return columns ? result(text, letter, layer, i + 1, columns[j]) : result(text, letter, layer, j + 1, null, i + 1);
  };
  const body = values.map((row, i) => el("tr", {}, row.map((text, j) => el("td", {}, cell(text, i, j)))));
  return el("figure", { class: "matrix" }, el("figcaption", {}, name, el("span", { class: "shape" }, ` ${values.length} × ${values[0].length}`)), el("div", { class: "brackets scroll" }, el("table", {}, el("tbody", {}, body))));
}

function sign(text) {
  return el("span", { class: "sign" }, text);
}

const transposed = (values) => values[0].map((_, j) => values.map((row) => row[j]));
const withOne = (values) => values.map((row) => ["1", ...row]);
const withoutBias = (values) => values.map((row) => row.slice(1));
const T = () => sup("T");

const MATRICES = {
  z(l) {
    const Theta = now().Theta[l - 2], a = rows("a", l - 1), left = bracketed(symbol("Z", l), rows("z", l), "z", l);
    if (isTheta()) return [left, sign("="), bracketed(["[1, ", symbol("A", l - 1), "]"], withOne(a), "a"), sign("·"), bracketed(["(", symbol("Θ", l - 1), ")", T()], transposed(Theta), "weight")];
    return [left, sign("="), bracketed(symbol("A", l - 1), a, "a"), sign("·"), bracketed(["(", symbol("W", l - 1), ")", T()], transposed(withoutBias(Theta)), "weight"),
      sign("+"), bracketed([symbol("b", l - 1), T(), ", to every row"], [Theta.map((row) => row[0])], "weight")];
  },
  a(l) {
    const slope = rows("slope", l);
    return [bracketed(symbol("A", l), rows("a", l), "a", l), sign("= g"), bracketed(symbol("Z", l), rows("z", l), "z"),
      slope ? [sign(","), bracketed([el("i", {}, "g′"), "(", symbol("Z", l), ")"], slope, "g′")] : ""];
  },
  delta(l) {
    const left = bracketed(symbol("δ", l), rows("delta", l), "δ", l), slope = rows("slope", l);
    const slopes = () => [sign("⊙"), bracketed([el("i", {}, "g′"), "(", symbol("Z", l), ")"], slope, "g′")];
    if (l < data.L) {
      const W = withoutBias(now().Theta[l - 1]);
      return [left, sign("="), bracketed(symbol("δ", l + 1), rows("delta", l + 1), "δ"), sign("·"), bracketed(isTheta() ? [symbol("Θ", l), " without column 0"] : symbol("W", l), W, "weight"), slopes()];
    }
    const difference = [bracketed(symbol("A", l), rows("a", l), "a"), sign("−"), bracketed(symbol("Y"), data.y, "y")];
    const kind = outputErrorKind();
    if (kind === "difference") return [left, sign("="), difference];
    if (kind === "softmax") return [left, sign("="), bracketed(symbol("A", l), rows("a", l), "a"), sign("⊙ (c − Σ a c), c ="), bracketed(["∂cost / ∂", symbol("A", l)], now().costSlope, "cost")];
    if (kind === "chain") return [left, sign("="), bracketed(["∂cost / ∂", symbol("A", l)], now().costSlope, "cost"), slopes()];
    const before = { product: "= (", sign: "= sign(", clip: "= clip(" }[kind];
    return [left, sign(before), difference, sign(kind === "clip" ? ", −1, 1)" : ")"), slopes()];
  },
  Delta(l) {
    const a = rows("a", l), delta = transposed(rows("delta", l + 1)), Delta = now().Delta[l - 1], left = ["(", symbol("δ", l + 1), ")", T()];
    const inputs = Delta[0].slice(1).map((_, k) => k + 1);
    if (isTheta()) return [bracketed(symbol("Δ", l), Delta, "Δ", l, [0, ...inputs]), sign("="), bracketed(left, delta, "δ"), sign("·"), bracketed(["[1, ", symbol("A", l), "]"], withOne(a), "a")];
    return [bracketed(symbol("Δ", l, "W"), withoutBias(Delta), "Δ", l, inputs), sign("="), bracketed(left, delta, "δ"), sign("·"), bracketed(symbol("A", l), a, "a"),
      sign(", "), bracketed([symbol("Δ", l, "b"), " = the sums of its rows"], Delta.map((row) => [row[0]]), "Δ", l, [0])];
  },
};
