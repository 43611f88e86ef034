// The numbers. Python has written each as text with six significant digits, and this page shows that text as it is.
// A matrix is text too: numbers apart by spaces, rows by semicolons. Rows of z, a, g′ and δ are samples.

let data;

async function unpack() {
  const packed = document.getElementById("packed").textContent;
  const bytes = Uint8Array.from(atob(packed), (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  data = JSON.parse(await new Response(stream).text());
  data.J = data.J.split(" ");
  data.x = matrix(data.x);
  data.y = matrix(data.y);
  data.steps = data.steps.map(read);
  data.after = data.after.map(matrix);
  data.L = data.layers.length;
}

function matrix(text) {
  return text.split(";").map((row) => row.split(" "));
}

function read(step) {
  const Delta = step.Delta.map(matrix);
  return {
    Theta: step.Theta.map(matrix),
    z: step.z.map(matrix),
    a: [data.x, ...step.a.map(matrix)],
    slope: step.slope.map((text) => (text ? matrix(text) : null)),
    costs: step.costs.split(" "),
    squares: step.squares,
    J: step.J,
    costSlope: step.costSlope ? matrix(step.costSlope) : null,
    delta: step.delta.map(matrix),
    Delta,
    D: step.D.length ? step.D.map(matrix) : Delta, // the same to the last digit where it was left out
  };
}

// What the reader has chosen: a training step, a step of the derivation, a sample (or all, in matrix form), Θ or W and
// b, and the unit that is pointed at or kept.
const view = { training: 0, at: 0, sample: 0, all: false, form: "theta", unit: null, kept: null };

function now() {
  return data.steps[view.training];
}

// The parameters after the update of this training step.
function updated() {
  const next = data.steps[view.training + 1];
  return next ? next.Theta : data.after;
}

// A quantity of layer l (counted from 1) for every sample, one a row; null where there is none.
function rows(quantity, l) {
  if (quantity === "a") return now().a[l - 1];
  return now()[quantity][l - 2] ?? null;
}

// The same for unit j (counted from 1) of the chosen sample; a_0 is 1.
function value(quantity, l, j) {
  if (quantity === "a" && j === 0) return "1";
  const found = rows(quantity, l);
  return found ? found[view.sample][j - 1] : null;
}

function isZero(text) {
  return Number(text) === 0;
}
