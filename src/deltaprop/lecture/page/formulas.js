// What each step is called, its formula for all units at once and for one unit, and why it is taken.

const LOSSES = {
  squared_error: "squared error",
  binary_cross_entropy: "binary cross-entropy",
  clipped_binary_cross_entropy: "binary cross-entropy, clipped",
  categorical_cross_entropy: "categorical cross-entropy",
  clipped_categorical_cross_entropy: "categorical cross-entropy, clipped",
  absolute_error: "absolute error",
  poisson: "Poisson",
  huber: "Huber",
  "": "a pair of functions",
};

// What an activation is, of anything that can stand for z.
const ACTIVATIONS = {
  sigmoid: (z) => ["1 / (1 + ", power("e", "−", z), ")"],
  tanh: (z) => ["tanh ", z],
  relu: (z) => ["max(", z, ", 0)"],
  leaky_relu: (z) => ["max(", z, ", 0.01 · ", z, ")"],
  identity: (z) => [z],
  softplus: (z) => ["log(1 + ", power("e", z), ")"],
  silu: (z) => [z, " · σ(", z, ")"],
  gelu: (z) => [z, " · Φ(", z, ")"],
  exp: (z) => [power("e", z)],
};

function power(base, ...exponent) {
  return [el("i", {}, base), sup(copied(exponent))];
}

// A node can stand in one place only; a formula may want it twice.
function copied(parts) {
  return [parts].flat(Infinity).map((part) => (part instanceof Node ? part.cloneNode(true) : part));
}

function activationOf(name, ...z) {
  return ACTIVATIONS[name](z).flat(Infinity).map((part) => (part instanceof Node ? part.cloneNode(true) : part));
}

function activation(l) {
  return data.activations[l - 2];
}

function layerName(l) {
  if (l === 1) return "Layer 1, input";
  return l === data.L ? `Layer ${l}, output` : `Layer ${l}, hidden`;
}

function isTheta() {
  return view.form === "theta";
}

// The factor of the sum over samples, and λ/m or λ.
function isMean() {
  return data.objective.reduction === "mean" && data.samples > 1;
}

function hasPenalty() {
  return !isZero(data.objective.lambda);
}

function penaltySymbols() {
  if (data.objective.scaling === "absolute") return [el("i", {}, "λ")];
  return data.samples === 1 ? [el("i", {}, "λ")] : [fraction(el("i", {}, "λ"), el("i", {}, "m"))];
}

function fraction(above, below) {
  return el("span", { class: "fraction" }, el("span", {}, above), el("span", { class: "hidden" }, " / "), el("span", {}, below));
}

const over = (l) => ["(", symbol("Θ", l), ")", sup("T")];

// The formula of a step, in parts: for all units, and for each.
const FORMULAS = {
  z(l) {
    const a = symbol("a", l - 1), each = [symbol("z", l, "j"), " = "];
    const all = [symbol("z", l), " = "];
    if (isTheta()) {
      all.push(symbol("Θ", l - 1), " [1; ", a, "]");
      each.push(symbol("θ", l - 1, "j0"), " · 1 + ", symbol("θ", l - 1, "j1"), " · ", symbol("a", l - 1, "1"), " + …");
    } else {
      all.push(symbol("W", l - 1), " ", a, " + ", symbol("b", l - 1));
      each.push(symbol("w", l - 1, "j1"), " · ", symbol("a", l - 1, "1"), " + … + ", symbol("b", l - 1, "j"));
    }
    return { all, each };
  },
  a(l) {
    const all = [symbol("a", l), " = ", el("i", {}, "g"), "(", symbol("z", l), ")"];
    if (activation(l) === "softmax") {
      const each = [plain("a", "j"), " = ", power("e", plain("z", "j")), " / ", "Σ", el("sub", {}, "k"), " ", power("e", plain("z", "k"))];
      return { all, each };
    }
    const each = [el("i", {}, "g"), "(", el("i", {}, "z"), ") = ", activationOf(activation(l), el("i", {}, "z"))];
    return { all, each };
  },
  J() {
    const share = isMean() ? [fraction("1", el("i", {}, "m")), " "] : [];
    const total = data.samples > 1 ? [...share, "Σ", el("sub", {}, "i"), " cost"] : ["cost"];
    const penalty = hasPenalty() ? [" + ", fraction("1", "2"), " ", penaltySymbols(), " Σ ", el("i", {}, "W"), sup("2")] : [];
    return { all: [symbol("J"), " = ", total, penalty], each: ["cost = ", COSTS[data.loss.replace("clipped_", "")]()] };
  },
  delta(l) {
    if (l === data.L) return { all: [symbol("δ", l), " = ", outputError(l)], each: [symbol("δ", l, "j"), " = ", "∂cost / ∂", symbol("z", l, "j")] };
    const back = isTheta() ? over(l) : ["(", symbol("W", l), ")", sup("T")];
    const all = [symbol("δ", l), " = ", back, " ", symbol("δ", l + 1), " ⊙ ", el("i", {}, "g′"), "(", symbol("z", l), ")"];
    const letter = isTheta() ? "θ" : "w";
    const terms = [1, 2].slice(0, data.layers[l]).map((i) => [i > 1 ? " + " : "", symbol(letter, l, `${i}j`), " · ", symbol("δ", l + 1, String(i))]);
    const more = data.layers[l] > 2 ? " + …" : "";
    const each = [symbol("δ", l, "j"), " = (", terms, more, ") · ", el("i", {}, "g′"), "(", symbol("z", l, "j"), ")"];
    return { all, each };
  },
  Delta(l) {
    const sigma = data.samples > 1 ? ["Σ", el("sub", {}, "i"), " "] : [];
    if (isTheta()) {
      const all = [symbol("Δ", l), " = ", sigma, symbol("δ", l + 1), " [1; ", symbol("a", l), "]", sup("T")];
      return { all, each: [symbol("Δ", l, "jk"), " = ", copied(sigma), symbol("δ", l + 1, "j"), " · ", symbol("a", l, "k")] };
    }
    const all = [symbol("Δ", l, "W"), " = ", sigma, symbol("δ", l + 1), " (", symbol("a", l), ")", sup("T"), ",  ", symbol("Δ", l, "b"), " = ", copied(sigma), symbol("δ", l + 1)];
    return { all, each: [symbol("Δ", l, "jk"), " = ", copied(sigma), symbol("δ", l + 1, "j"), " · ", symbol("a", l, "k")] };
  },
  D(l) {
    const share = isMean() ? [fraction("1", el("i", {}, "m")), " "] : [];
    const penalty = (what) => (hasPenalty() ? [" + ", penaltySymbols(), " ", what] : []);
    if (isTheta()) {
      const all = [symbol("D", l), " = ∂J/∂", symbol("Θ", l), " = ", share, symbol("Δ", l), penalty(["[0, ", symbol("W", l), "]"])];
      return { all, each: [] };
    }
    const all = [symbol("D", l, "W"), " = ∂J/∂", symbol("W", l), " = ", share, symbol("Δ", l, "W"), penalty(symbol("W", l)), ",  ",
      symbol("D", l, "b"), " = ∂J/∂", symbol("b", l), " = ", copied(share), symbol("Δ", l, "b")];
    return { all, each: [] };
  },
  update() {
    const eta = el("i", {}, "η"), rate = [",  ", copied([eta]), " = ", shown(data.learningRate)];
    if (isTheta()) return { all: [symbol("Θ", "l"), " := ", symbol("Θ", "l"), " − ", eta, " ", symbol("D", "l"), rate], each: [] };
    const all = ["W", "b"].map((letter, i) => [i ? ",  " : "", symbol(letter, "l"), " := ", symbol(letter, "l"), " − ", copied([eta]), " ", symbol("D", "l", letter)]);
    return { all: [all, rate], each: [] };
  },
};

const h = () => symbol("a", data.L);
const COSTS = {
  squared_error: () => ["½ Σ", el("sub", {}, "k"), " (", plain("a", "k"), " − ", plain("y", "k"), ")", sup("2")],
  binary_cross_entropy: () => ["Σ", el("sub", {}, "k"), " −", plain("y", "k"), " log ", plain("a", "k"), " − (1 − ", plain("y", "k"), ") log(1 − ", plain("a", "k"), ")"],
  categorical_cross_entropy: () => ["Σ", el("sub", {}, "k"), " −", plain("y", "k"), " log ", plain("a", "k")],
  absolute_error: () => ["Σ", el("sub", {}, "k"), " |", plain("a", "k"), " − ", plain("y", "k"), "|"],
  poisson: () => ["Σ", el("sub", {}, "k"), " ", plain("a", "k"), " − ", plain("y", "k"), " log ", plain("a", "k")],
  huber: () => ["Σ", el("sub", {}, "k"), " ½ ", plain("r", "k"), sup("2"), " where |", plain("r", "k"), "| ≤ 1, else |", plain("r", "k"), "| − ½,  ", plain("r", "k"), " = ", plain("a", "k"), " − ", plain("y", "k")],
  "": () => ["a function of ", h(), " and ", symbol("y")],
};

// δ^(L) as this loss, this output activation and this output error have it.
function outputError(l) {
  const slope = [" ⊙ ", el("i", {}, "g′"), "(", symbol("z", l), ")"];
  const difference = [symbol("a", l), " − ", symbol("y")];
  switch (outputErrorKind()) {
    case "difference": return difference;
    case "product": return ["(", difference, ")", slope];
    case "sign": return ["sign(", difference, ")", slope];
    case "clip": return ["clip(", difference, ", −1, 1)", slope];
    case "softmax": return [el("i", {}, "a"), " ⊙ (", el("i", {}, "c"), " − Σ ", el("i", {}, "a c"), "),  ", el("i", {}, "c"), " = ∂cost / ∂", symbol("a", l)];
    default: return ["∂cost / ∂", symbol("a", l), slope];
  }
}

function outputErrorKind() {
  if (data.outputError === "simplified") return "difference";
  if (data.loss === "") return activation(data.L) === "softmax" ? "softmax" : "chain";
  return { squared_error: "product", absolute_error: "sign", huber: "clip" }[data.loss] ?? "difference";
}

function whyOutputError() {
  const kind = outputErrorKind(), begin = "δ of a unit says how the cost changes as its z changes. ";
  if (data.outputError === "simplified") return `${begin}The simplified output error is the difference of output and target; it leaves out g′(z), by which the exact one is multiplied.`;
  if (kind === "difference") return `${begin}With this cost and ${activation(data.L)} outputs, g′(z) cancels: the difference of output and target remains.`;
  if (kind === "softmax") return `${begin}Each softmax output depends on every z, so that the slopes c of the cost by all outputs come together.`;
  return `${begin}It is the slope of the cost by the output, times the slope g′(z) of the activation: the chain rule.`;
}

// Why a step is taken, in a sentence or two.
const WHY = {
  z: (l) => `Each unit of layer ${l} takes the outputs of layer ${l - 1}, multiplies each by the weight on its edge, and adds them up; ${isTheta() ? "the unit a₀ = 1 brings in the bias" : "its bias b is added as well"}.`,
  a: (l) => (activation(l) === "softmax"
    ? "Softmax makes probabilities of all z of the layer: each is positive, and their sum is 1."
    : `Each unit applies its activation ${activation(l)} to z. The slope g′(z), on the right, is needed on the way back.`),
  J: () => `The cost J measures how far the outputs are from the targets y: ${LOSSES[data.loss]}${data.samples > 1 ? `, ${isMean() ? "the mean" : "the sum"} over the samples` : ""}. ${data.loss.startsWith("clipped_") ? "No output costs more than −log ε of the number type. " : ""}${hasPenalty() ? "The penalty λ makes large weights cost as well, but not biases." : ""}`,
  delta: (l) => (l === data.L ? whyOutputError()
    : `The errors go back along the same edges: each unit of layer ${l} collects δ from every unit that it feeds, times the weight on the edge, and multiplies the sum by its own slope g′(z).${isTheta() ? " The unit a₀ = 1 has no z, and so no δ." : ""}`),
  Delta: (l) => `The slope of the cost by a weight is the δ at the end of its edge times the output a at its beginning${data.samples > 1 ? ", added up over all samples" : ""}. ${isTheta() ? "Column 0 belongs to a₀ = 1." : "A bias has an output of 1 at its beginning."}`,
  D: () => (isMean() || hasPenalty()
    ? `The gradient of J: ${isMean() ? "Δ divided by the number of samples, as J is a mean" : "Δ"}${hasPenalty() ? `${isMean() ? ", and" : " and"} the slope of the penalty, which pulls each weight towards 0 and leaves biases alone` : ""}.`
    : "The gradient of J is Δ itself here: there is neither a mean over samples nor a penalty."),
  update: () => "Every parameter takes a step against its slope, in proportion to the learning rate η. The next training step begins with the results.",
};

const TITLES = {
  z: (l) => ["The weighted sums of layer ", String(l)],
  a: (l) => ["The outputs of layer ", String(l)],
  J: () => ["The cost"],
  delta: (l) => [l === data.L ? "The error of the outputs" : `The errors of layer ${l}`],
  Delta: (l) => ["Error times output, for every edge from layer ", String(l)],
  D: (l) => ["The gradient of the parameters from layer ", String(l)],
  update: () => ["The update of all parameters"],
};
