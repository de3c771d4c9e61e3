// Selected range per axis, in pixels, by the index of the axis.
const brushes = new Map();
let axes = [];

function axisList(top, bottom) {
  const list = study.keys.map((key, index) => ({
    name: key.name, title: shortNames[index], scale: keyScale(index, bottom, top), of: trial => trial.v[index],
  }));
  study.targets.slice(1).forEach((target, place) => {
    const scale = targetScale(place, bottom, top);
    if (scale) list.push({name: target.name, title: target.name, scale, of: trial => trial.x[place]});
  });
  const [low, high] = scoreRange;
  list.push({
    name: "score", title: "score", scale: numberScale(low, high, bottom, top, false), of: trial => trial.s,
  });
  return list;
}

function inBrushes(trial) {
  for (const [index, [from, to]] of brushes) {
    const value = axes[index].of(trial);
    if (value === null) return false;
    const at = axes[index].scale(value);
    if (at < from - 0.5 || at > to + 0.5) return false;
  }
  return true;
}

function drawParallel(place) {
  const top = 40, height = 330, bottom = height - 20;
  axes = axisList(top, bottom);
  const room = place.parentElement.clientWidth;
  const width = Math.max(room, axes.length * 105);
  const x = index => 46 + index * (width - 120) / Math.max(1, axes.length - 1);
  const svg = shape("svg", {width, height, viewBox: `0 0 ${width} ${height}`, role: "img"});
  svg.append(shape("title", {}, "Values and score of each trial"));
  for (const trial of [...scored].sort((a, b) => a.s - b.s)) {
    let d = "", drawing = false;
    axes.forEach((axis, index) => {
      const value = axis.of(trial);
      // A key that a trial does not have interrupts its line.
      if (value !== null) d += `${drawing ? "L" : "M"}${x(index)},${axis.scale(value)}`;
      drawing = value !== null;
    });
    const line = shape("path", {class: `line parallel ${trial.st}`, d, "data-trial": trial.n});
    line.style.stroke = color(trial);
    line.style.strokeOpacity = crowdOpacity;
    line.append(shape("title", {}, label(trial)));
    svg.append(keep(trial, line));
  }
  axes.forEach((axis, index) => drawAxis(svg, axis, index, x(index), top, bottom));
  place.replaceChildren(svg);
}

function drawAxis(svg, axis, index, at, top, bottom) {
  const name = shape("text", {x: at, y: index % 2 ? 12 : 26, "text-anchor": index ? "middle" : "start"});
  if (!index) name.setAttribute("x", 0);
  name.textContent = short(axis.title, 22);
  name.append(shape("title", {}, axis.name));
  svg.append(name);
  svg.append(shape("line", {class: "axis", x1: at, x2: at, y1: top, y2: bottom}));
  const every = Math.ceil(axis.scale.ticks.length / 14);
  axis.scale.ticks.forEach(([value, text], k) => {
    if (k % every) return;
    svg.append(shape("text", {class: "halo", x: at + 5, y: axis.scale(value) + 4}, short(text, 13)));
  });
  const brush = shape("rect", {class: "brush", x: at - 6, width: 12, y: 0, height: 0});
  const handle = shape("rect", {
    class: "handle", x: at - 14, width: 28, y: top - 6, height: bottom - top + 12,
    "data-axis": axis.name,
  });
  const show = () => {
    const range = brushes.get(index);
    brush.setAttribute("y", range ? range[0] : 0);
    brush.setAttribute("height", range ? range[1] - range[0] : 0);
    brush.style.display = range ? "" : "none";
  };
  show();
  let start = null;
  const place = event => {
    const box = svg.getBoundingClientRect();
    return Math.min(bottom + 6, Math.max(top - 6, event.clientY - box.top));
  };
  handle.addEventListener("pointerdown", event => {
    start = place(event);
    handle.setPointerCapture(event.pointerId);
    event.preventDefault();
  });
  handle.addEventListener("pointermove", event => {
    if (start === null) return;
    const now = place(event);
    if (Math.abs(now - start) > 3) brushes.set(index, [Math.min(start, now), Math.max(start, now)]);
    show();
  });
  handle.addEventListener("pointerup", event => {
    if (start !== null && Math.abs(place(event) - start) <= 3) brushes.delete(index);
    start = null;
    show();
    applyFilters();
  });
  svg.append(brush, handle);
}
