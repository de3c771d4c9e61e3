// Many lines cover each other.
const crowdOpacity = Math.max(0.25, Math.min(1, 8 / Math.sqrt(scored.length || 1)));
const paths = new Map();  // lines of a trial, by its number

function keep(trial, drawn) {
  if (!paths.has(trial.n)) paths.set(trial.n, []);
  paths.get(trial.n).push(drawn);
  drawn.addEventListener("click", () => showTrial(trial.n));
  drawn.addEventListener("pointerenter", () => mark(trial.n, true));
  drawn.addEventListener("pointerleave", () => mark(trial.n, false));
  return drawn;
}

function mark(number, over) {
  for (const drawn of paths.get(number) || []) drawn.classList.toggle("over", over);
}

function label(trial) {
  return `trial ${trial.n}: ${score(trial.s)}${trial.st === "complete" ? "" : ` (${trial.st})`}`;
}

function dot(trial, x, y) {
  const drawn = shape("circle", {class: "dot", cx: x, cy: y, r: 4, "data-trial": trial.n});
  drawn.style.fill = dotColor(trial);
  drawn.append(shape("title", {}, label(trial)));
  return keep(trial, drawn);
}

function drawHistory(place) {
  const width = place.clientWidth, height = 260, box = boxOf(width, height);
  const last = Math.max(1, study.trials.length - 1);
  const x = numberScale(0, last, box.left + 4, box.right - 4, false), y = scoreScale(box);
  x.ticks = x.ticks.filter(([value]) => Number.isInteger(value));
  const svg = frame(width, height, box, x, y, "Score of each trial, and best score so far");
  let best = null, line = "";
  for (const trial of study.trials) {
    if (trial.st === "complete" && (best === null || trial.s > best)) {
      line += best === null ? `M${x(trial.n)},${y(trial.s)}` : `H${x(trial.n)}V${y(trial.s)}`;
      best = trial.s;
    }
  }
  if (line) svg.append(shape("path", {class: "best", d: `${line}H${x(last)}`}));
  for (const trial of scored) svg.append(dot(trial, x(trial.n), y(trial.s)));
  place.replaceChildren(svg);
}

function drawSlices(place) {
  place.replaceChildren();
  study.keys.forEach((key, index) => {
    const figure = element("figure", {}, element("figcaption", {}, key.name));
    place.append(figure);
    const width = figure.clientWidth, height = 190, box = boxOf(width, height);
    const x = keyScale(index, box.left + 6, box.right - 6), y = scoreScale(box);
    const svg = frame(width, height, box, x, y, `Score by ${key.name}`);
    const spread = key.categories
      ? Math.min(14, (box.right - box.left) / key.categories.length / 3) : 0;
    for (const trial of scored) {
      if (trial.v[index] === null) continue;
      // Trials of a category are spread by their number, so that they do not cover each other.
      const beside = spread * (((trial.n * 0.618) % 1) * 2 - 1);
      svg.append(dot(trial, x(trial.v[index]) + beside, y(trial.s)));
    }
    figure.append(svg);
  });
}

function drawCurves(place) {
  const points = study.trials.flatMap(trial => trial.c);
  if (!points.length) {
    place.replaceChildren(element("p", {class: "note"}, "No trial has a learning curve."));
    return;
  }
  const width = place.clientWidth, height = 320, box = boxOf(width, height);
  let [low, high] = [Infinity, -Infinity], last = 1;
  for (const [epoch, value] of points) {
    low = Math.min(low, value);
    high = Math.max(high, value);
    last = Math.max(last, epoch);
  }
  const x = numberScale(0, last, box.left, box.right - 6, false);
  const y = numberScale(low, high, box.bottom - 4, box.top, false);
  const svg = frame(width, height, box, x, y, "Score per epoch of each trial");
  const ordered = [...study.trials].sort((a, b) => (a.s ?? -Infinity) - (b.s ?? -Infinity));
  for (const trial of ordered) {
    if (!trial.c.length) continue;
    const d = trial.c.map(([epoch, value], k) => `${k ? "L" : "M"}${x(epoch)},${y(value)}`).join("");
    const line = shape("path", {class: `line ${trial.st}`, d, "data-trial": trial.n});
    line.style.stroke = trial.st === "stopped" ? "var(--stopped)" : color(trial);
    line.style.strokeOpacity = crowdOpacity;
    line.append(shape("title", {}, label(trial)));
    svg.append(keep(trial, line));
    const [epoch, value] = trial.c[trial.c.length - 1];
    if (trial.st !== "complete" || trial.c.length === 1) {
      const end = shape("circle", {class: "dot", cx: x(epoch), cy: y(value), r: 2.5});
      end.style.fill = trial.st === "stopped" ? "var(--stopped)" : color(trial);
      svg.append(keep(trial, end));
    }
  }
  place.replaceChildren(svg);
}
