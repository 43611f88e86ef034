// The numbers put into the formulas, a line for each unit: z, a, the cost and δ of the chosen sample.

function line(quantity, l, j, expression, text, more = "") {
  const found = result(text, quantity, l, j);
  return el("li", { class: "line", "data-layer": l, "data-unit": j, tabindex: 0 },
    el("span", { class: "left" }, symbol(quantity, l, j)), el("span", { class: "right" }, "= ", expression, together("= ", found), more));
}

// Lines for all units of a layer; `expression` makes the middle of one.
function linesOf(quantity, letter, l, expression, more = () => "") {
  const units = data.layers[l - 1];
  return el("ol", { class: "lines" }, Array.from({ length: units }, (_, i) => {
    const text = value(quantity, l, i + 1);
    return line(letter, l, i + 1, expression(i + 1), text, more(i + 1));
  }));
}

function zLines(l) {
  const Theta = now().Theta[l - 2];
  return linesOf("z", "z", l, (j) => {
    const [bias, ...weights] = Theta[j - 1];
    const terms = weights.map((w, k) => [new Leading(w), " · ", factor(value("a", l - 1, k + 1), "a")]);
    if (isTheta()) terms.unshift([new Leading(bias), " · ", number("1", "a")]);
    else terms.push([new Leading(bias)]);
    return sum(terms);
  });
}

function aLines(l) {
  const name = activation(l);
  const slope = (j) => {
    const text = value("slope", l, j);
    return text === null ? "" : el("span", { class: "aside" }, el("i", {}, "g′"), "(", plain("z", String(j)), ") = ", number(text, "g′", { "data-quantity": "slope", "data-layer": l, "data-unit": j }));
  };
  return linesOf("a", "a", l, (j) => {
    const z = value("z", l, j);
    if (name === "softmax") {
      const others = rows("z", l)[view.sample].map((each) => power("e", number(each, "z")));
      return [together(power("e", number(z, "z")), " / ("), sum(others, ")")];
    }
    if (name === "identity") return [number(z, "z"), " "];
    const inside = name.startsWith("relu") || name.startsWith("leaky") || name === "sigmoid" ? factor(z, "z") : number(z, "z");
    return [together(activationOf(name, name === "tanh" ? factor(z, "z") : inside)), " "];
  }, slope);
}

// What one sample costs, an expression with its outputs and targets.
function costTerms(i) {
  const outputs = rows("a", data.L)[i], targets = data.y[i];
  const term = {
    squared_error: (a, y) => ["½ (", number(a, "a"), " − ", factor(y, "y"), ")", sup("2")],
    binary_cross_entropy: (a, y) => ["−", factor(y, "y"), " · log ", number(a, "a"), " − (1 − ", number(y, "y"), ") · log(1 − ", number(a, "a"), ")"],
    categorical_cross_entropy: (a, y) => ["−", factor(y, "y"), " · log ", number(a, "a")],
    absolute_error: (a, y) => ["|", number(a, "a"), " − ", factor(y, "y"), "|"],
    poisson: (a, y) => [number(a, "a"), " − ", factor(y, "y"), " · log ", number(a, "a")],
    huber: (a, y) => ["huber(", number(a, "a"), " − ", factor(y, "y"), ")"],
  }[data.loss.replace("clipped_", "")];
  if (!term) {
    const list = (texts, quantity) => texts.map((text, k) => [k ? ", " : "", number(text, quantity)]);
    return [together("cost(", el("i", {}, "a"), ": ", list(outputs, "a"), "; ", el("i", {}, "y"), ": ", list(targets, "y"), ")"), " "];
  }
  const terms = outputs.map((a, k) => term(a, targets[k]));
  const needed = terms.length > 1 && !["squared_error", "absolute_error", "huber"].includes(data.loss);
  return sum(terms.map((each) => (needed ? ["(", each, ")"] : each)));
}

function costLines() {
  const { costs, squares, J } = now(), m = data.samples, lines = [];
  costs.forEach((cost, i) => {
    const place = { "data-quantity": "cost", "data-sample": i + 1 };
    lines.push(el("li", { class: `line sample${i === view.sample && !view.all && m > 1 ? " active" : ""}` },
      el("span", { class: "left" }, m > 1 ? `sample ${i + 1}` : "cost"),
      el("span", { class: "right breaks" }, "= ", costTerms(i), together("= ", el("b", { class: "result cost", ...place }, shown(cost))))));
  });
  const total = costs.map((cost) => [new Leading(cost, "cost")]), terms = [];
  if (m > 1) terms.push(isMean() ? [together(fraction("1", String(m)), " ("), sum(total, ")")] : sum(total));
  else terms.push(sum(total));
  if (hasPenalty()) terms.push(together("+ ½ · ", number(data.objective.penalty, "weight"), " · ", number(squares, "weight"), " "));
  if (m > 1 || hasPenalty()) {
    lines.push(el("li", { class: "line total" }, el("span", { class: "left" }, symbol("J")), el("span", { class: "right" }, "= ", terms, together("= ", result(J, "J", "", "")))));
  } else {
    lines.push(el("li", { class: "line total" }, el("span", { class: "left" }, symbol("J")), el("span", { class: "right" }, "= ", result(J, "J", "", ""))));
  }
  return el("ol", { class: "lines" }, lines);
}

function deltaLines(l) {
  if (l === data.L) return outputDeltaLines(l);
  const Theta = now().Theta[l - 1];
  return linesOf("delta", "δ", l, (j) => {
    const terms = Theta.map((row, i) => [new Leading(row[j]), " · ", factor(value("delta", l + 1, i + 1), "δ")]);
    const slope = factor(value("slope", l, j), "g′");
    if (terms.length === 1) return [sum(terms), together("· ", slope), " "];
    return ["(", sum(terms, ")"), together("· ", slope), " "];
  });
}

function outputDeltaLines(l) {
  const kind = outputErrorKind(), targets = data.y[view.sample], slopes = now().costSlope?.[view.sample];
  return linesOf("delta", "δ", l, (j) => {
    const a = value("a", l, j), difference = [number(a, "a"), " − ", factor(targets[j - 1], "y")];
    const slope = () => [" · ", factor(value("slope", l, j), "g′")];
    switch (kind) {
      case "difference": return [together(difference), " "];
      case "product": return [together("(", difference, ")"), together(slope()), " "];
      case "sign": return [together("sign(", difference, ")"), together(slope()), " "];
      case "clip": return [together("clip(", difference, ", −1, 1)"), together(slope()), " "];
      case "softmax": {
        const products = slopes.map((c, k) => [new Leading(value("a", l, k + 1), "a"), " · ", factor(c, "cost")]);
        return [together(number(a, "a"), " · (", factor(slopes[j - 1], "cost"), " − ("), sum(products, "))")];
      }
      default: return [together(factor(slopes[j - 1], "cost")), together(slope()), " "];
    }
  });
}
