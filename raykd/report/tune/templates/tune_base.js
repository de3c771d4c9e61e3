"use strict";
const study = JSON.parse(document.getElementById("study").textContent);
const SVG = "http://www.w3.org/2000/svg";

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function shape(name, attributes = {}, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

function format(value) {
  if (value === null || value === undefined) return "–";
  if (typeof value !== "number") return String(value);
  if (value !== 0 && (Math.abs(value) < 1e-3 || Math.abs(value) >= 1e6)) {
    return value.toExponential(3).replace(/\.?0+e/, "e");
  }
  return String(Number(value.toPrecision(4)));
}

// Names of keys without their sections, where that is unambiguous.
const names = study.keys.map(key => key.name.split("."));
const shortNames = names.map(parts => {
  for (let k = 1; k < parts.length; k++) {
    const end = parts.slice(-k).join(".");
    if (names.filter(other => other.slice(-k).join(".") === end).length === 1) return end;
  }
  return parts.join(".");
});

const score = value => value === null ? "–" : value.toFixed(4);

// A scale maps a value to a pixel; `ticks` are (value, label) pairs.
function numberScale(low, high, from, to, log) {
  if (!(high > low)) [low, high] = log ? [low / 2, high * 2] : [low - 0.5, high + 0.5];
  const warp = log ? Math.log10 : value => value;
  const [a, b] = [warp(low), warp(high)];
  const scale = value => from + (warp(value) - a) / (b - a) * (to - from);
  scale.ticks = log ? logTicks(low, high) : linearTicks(low, high);
  return scale;
}

function linearTicks(low, high) {
  const raw = (high - low) / 5, base = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map(factor => factor * base).find(one => one >= raw);
  const ticks = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9; k++) {
    ticks.push([k * step, format(Number((k * step).toPrecision(12)))]);
  }
  return ticks;
}

function logTicks(low, high) {
  const ticks = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++) {
    for (const factor of high / low > 100 ? [1] : [1, 2, 5]) {
      const value = factor * 10 ** power;
      if (value >= low * 0.999 && value <= high * 1.001) ticks.push([value, format(value)]);
    }
  }
  return ticks.length ? ticks : [[low, format(low)], [high, format(high)]];
}

function categoryScale(labels, from, to) {
  const step = (to - from) / labels.length;
  const scale = index => from + (index + 0.5) * step;
  scale.ticks = labels.map((label, index) => [index, label]);
  return scale;
}

function keyScale(index, from, to) {
  const key = study.keys[index];
  if (key.categories) return categoryScale(key.categories, from, to);
  const values = study.trials.map(trial => trial.v[index]).filter(value => value !== null);
  return numberScale(Math.min(...values), Math.max(...values), from, to, key.log);
}

const scored = study.trials.filter(trial => trial.s !== null && trial.st !== "failed");
const scoreRange = scored.length
  ? [Math.min(...scored.map(trial => trial.s)), Math.max(...scored.map(trial => trial.s))]
  : [0, 1];

function color(trial) {
  if (trial.st === "failed") return "var(--failed)";
  const [low, high] = scoreRange;
  const share = high > low ? 100 * (trial.s - low) / (high - low) : 100;
  return `color-mix(in oklab, var(--high) ${share.toFixed(1)}%, var(--low))`;
}

const dotColor = trial => trial.st === "stopped" ? "var(--stopped)" : color(trial);

function short(text, length) {
  return text.length <= length ? text : `${text.slice(0, length - 1)}…`;
}

// Frame with both axes; `x` and `y` are scales.
function frame(width, height, box, x, y, title) {
  const svg = shape("svg", {width, height, viewBox: `0 0 ${width} ${height}`, role: "img"});
  svg.append(shape("title", {}, title));
  for (const [value, label] of y.ticks) {
    const at = y(value);
    svg.append(shape("line", {class: "grid", x1: box.left, x2: box.right, y1: at, y2: at}));
    svg.append(shape("text", {x: box.left - 6, y: at + 4, "text-anchor": "end"}, label));
  }
  const every = Math.ceil(x.ticks.length / Math.max(1, Math.floor((box.right - box.left) / 48)));
  x.ticks.forEach(([value, label], index) => {
    if (index % every) return;
    const at = x(value);
    svg.append(shape("line", {class: "axis", x1: at, x2: at, y1: box.bottom, y2: box.bottom + 4}));
    const place = {x: at, y: box.bottom + 16, "text-anchor": "middle"};
    svg.append(shape("text", place, short(label, 14)));
  });
  svg.append(shape("path", {
    class: "axis", d: `M${box.left},${box.bottom}H${box.right}`,
  }));
  return svg;
}

function boxOf(width, height) {
  return {left: 46, right: width - 10, top: 10, bottom: height - 26};
}

const scoreScale = box => {
  const [low, high] = scoreRange, room = (high - low) * 0.05;
  return numberScale(low - room, high + room, box.bottom, box.top, false);
};
