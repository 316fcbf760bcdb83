// How the store fares: what all processes did in the last hour, and what its operations cost.

import { get } from "../api.js";
import { chart } from "../charts.js";
import { h } from "../dom.js";
import { bytes, count, duration, visible } from "../format.js";
import { figure, table } from "../parts.js";
import { openMeasured } from "./measuring.js";

const EVERY_MS = 5_000;
const FEWEST = 60; // slices that are shown also where nothing has happened yet
const COLUMNS = [
  ["Operation", "wide"],
  ["Calls", "number"],
  ["Failed", "number"],
  ["Mean", "number"],
  ["Half within", "number"],
  ["95 % within", "number"],
  ["99 % within", "number"],
  ["Longest", "number"],
];

export function openPerformance({ redraw }) {
  const load = (signal) => get("/api/metrics", {}, signal);
  return openMeasured({ title: "Performance", load, everyMs: EVERY_MS, draw: drawAll, what: "Counting", redraw });
}

function drawAll({ activity, process }) {
  return [drawActivity(activity), drawProcess(process ?? {})];
}

function drawActivity(hour) {
  const first = hour.findIndex((each) => each.commits > 0);
  const activity = hour.slice(Math.max(0, Math.min(first < 0 ? hour.length : first - 2, hour.length - FEWEST)));
  const total = (name) => activity.reduce((sum, each) => sum + each[name], 0);
  const points = (...names) =>
    activity.map((each) => ({ at: Date.parse(each.at), values: names.map((name) => each[name]) }));
  const whole = (number) => (Number.isInteger(number) ? count(number) : String(number));
  return h(
    "section",
    { "aria-labelledby": "activity", "data-key": "activity" },
    h("h2", { id: "activity" }, "The last hour"),
    h(
      "p",
      { class: "dim" },
      "What every process did in the store since this page's server began to watch, each ten seconds.",
    ),
    h(
      "div",
      { class: "figures" },
      figure("Commits", count(total("commits"))),
      figure("Steps completed", count(total("steps_completed"))),
      figure("Steps failed", count(total("steps_failed"))),
    ),
    h(
      "div",
      { class: "charts" },
      chart({
        label: "Commits",
        kind: "bars",
        points: points("commits"),
        series: [{ name: "commits", style: "log" }],
        format: whole,
      }),
      chart({
        label: "Steps ended",
        kind: "bars",
        points: points("steps_completed", "steps_failed"),
        format: whole,
        series: [
          { name: "completed", style: "completed" },
          { name: "failed", style: "failed" },
        ],
      }),
    ),
  );
}

function drawProcess(process) {
  if (process.operations === undefined) return drawServer(process);
  const operations = Object.entries(process.operations);
  const series = process.series ?? [];
  return h(
    "section",
    { "aria-labelledby": "process", "data-key": "process" },
    h("h2", { id: "process" }, "This server"),
    h(
      "p",
      { class: "dim" },
      `What the operations of the page's own server took, over the last ${duration(process.window_s * 1000)}.`,
    ),
    process.enabled === false && h("p", {}, "Metrics are off (", h("code", {}, "monitoring.metrics"), ")."),
    h(
      "div",
      { class: "figures" },
      figure("Operations", `${process.operations_per_second.toFixed(1)}/s`),
      figure("95 % within", duration(process.p95_ms)),
      figure("Errors", `${(process.error_rate * 100).toFixed(1)} %`),
      figure("Memory", bytes(process.memory_usage_bytes)),
      process.cache_hit_rate !== null &&
        process.cache_hit_rate !== undefined &&
        figure("Found in memory", `${(process.cache_hit_rate * 100).toFixed(0)} %`),
    ),
    series.some((each) => each.count > 0) && h("div", { class: "charts" }, drawLatency(series)),
    operations.length > 0
      ? table("Operations", COLUMNS, operations.map(operationRow))
      : h("p", { class: "dim" }, "No operation in that time."),
  );
}

function drawLatency(series) {
  const points = (values) => series.map((each) => ({ at: Date.parse(each.start), values: values(each) }));
  return [
    chart({
      label: "Latency, 95 % within",
      kind: "lines",
      points: points((each) => [each.p95_ms]),
      series: [{ name: "95 %", style: "running" }],
      format: duration,
    }),
    chart({
      label: "Operations by second",
      kind: "lines",
      format: (number) => String(Math.round(number * 10) / 10),
      points: points((each) => [each.operations_per_second, each.failures / Math.max(each.seconds, 1e-3)]),
      series: [
        { name: "operations", style: "log" },
        { name: "failures", style: "failed" },
      ],
    }),
  ];
}

function operationRow([name, each]) {
  return {
    key: name,
    props: { class: "row", "data-operation": name },
    cells: [
      visible(name.replaceAll("_", " ")),
      count(each.count),
      each.failures ? count(each.failures) : "–",
      duration(each.average_ms),
      duration(each.p50_ms),
      duration(each.p95_ms),
      duration(each.p99_ms),
      duration(each.longest_ms),
    ],
  };
}

function drawServer(process) {
  return h(
    "section",
    { "aria-labelledby": "process", "data-key": "process" },
    h("h2", { id: "process" }, "This server"),
    h(
      "div",
      { class: "figures" },
      process.uptime_s !== undefined && figure("Runs for", duration(process.uptime_s * 1000)),
      process.streams !== undefined && figure("Pages that are live", count(process.streams)),
    ),
  );
}
