// Where units and the numbers on edges stand in the drawing.

const UNIT = { width: 88, height: 38, digits: 10 }, LABEL = { letter: 6.3, height: 15 };
const LEAST_GAP = 126, MOST_GAP = 330, HEAD = 40, MARGIN = 14;

// The units of layer l, the bias unit 0 among them in Θ form.
function unitsOf(l) {
  const first = isTheta() && l < data.L ? 0 : 1;
  return Array.from({ length: data.layers[l - 1] + 1 - first }, (_, i) => i + first);
}

function layout(width) {
  const most = Math.max(...data.layers.map((_, position) => unitsOf(position + 1).length));
  const room = (width - 2 * MARGIN - data.L * UNIT.width) / (data.L - 1);
  const gap = Math.min(MOST_GAP, Math.max(LEAST_GAP, room));
  const drawn = 2 * MARGIN + data.L * UNIT.width + (data.L - 1) * gap;
  const spacing = most <= 4 ? 66 : most <= 6 ? 57 : 50;
  const left = MARGIN + Math.max(0, (width - drawn) / 2);
  const places = new Map();
  for (let l = 1; l <= data.L; l++) {
    const units = unitsOf(l);
    units.forEach((unit, i) => places.set(`${l},${unit}`, {
      x: left + (l - 1) * (UNIT.width + gap),
      y: HEAD + (most - units.length) * spacing / 2 + i * spacing + (spacing - UNIT.height) / 2,
    }));
  }
  return { width: Math.max(width, drawn), height: HEAD + most * spacing + 4, gap, places };
}

// All edges from layer l, with their ends.
function edgesFrom(l, places) {
  const edges = [];
  for (const k of unitsOf(l)) {
    for (let j = 1; j <= data.layers[l]; j++) {
      const from = places.get(`${l},${k}`), to = places.get(`${l + 1},${j}`);
      edges.push({ l, k, j, x1: from.x + UNIT.width, y1: from.y + UNIT.height / 2, x2: to.x, y2: to.y + UNIT.height / 2 });
    }
  }
  return edges;
}

function pointAt(edge, t) {
  return { x: edge.x1 + t * (edge.x2 - edge.x1), y: edge.y1 + t * (edge.y2 - edge.y1) };
}

// A place on its edge for each label, where it covers no other label and as few edges as can be; null if some have none.
function placeLabels(edges, texts) {
  const placed = [];
  for (const [position, edge] of edges.entries()) {
    const half = (texts[position].length * LABEL.letter + 6) / 2;
    let best = null;
    for (let t = 0.14; t <= 0.86; t += 0.04) {
      const { x, y } = pointAt(edge, t);
      if (x - half < edge.x1 + 4 || x + half > edge.x2 - 12) continue;
      if (placed.some((other) => Math.abs(other.x - x) < other.half + half + 2 && Math.abs(other.y - y) < LABEL.height + 1)) continue;
      const crossed = Math.abs(t - 0.4) / 3 + edges.reduce((all, other) => all + (other === edge ? 0 : closeness(other, x, y, half)), 0);
      if (!best || crossed < best.crossed) best = { edge, x, y, half, crossed, text: texts[position] };
    }
    if (!best) return null;
    placed.push(best);
  }
  return placed;
}

// How close an edge comes to a label: 1 where it goes through the middle, 0 where it stays away.
function closeness(edge, x, y, half) {
  let closest = 0;
  for (const at of [x - half, x, x + half]) {
    const t = (at - edge.x1) / (edge.x2 - edge.x1);
    if (t > 0 && t < 1) closest = Math.max(closest, 1 - Math.abs(pointAt(edge, t).y - y) / (1.2 * LABEL.height));
  }
  return closest;
}
