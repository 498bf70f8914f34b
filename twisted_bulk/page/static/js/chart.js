// Parts that were done and that failed, minute by minute, as bars.

import { h, svg } from "./dom.js";
import { count } from "./format.js";
import { t } from "./words.js";

const WIDTH = 600, HEIGHT = 80;

// minutes: the newest first, each with `done` and `failed`
export function chart(minutes) {
  const shown = [...minutes].reverse();
  const most = Math.max(1, ...shown.map((one) => one.done + one.failed));
  const wide = WIDTH / shown.length;
  const bars = shown.flatMap((one, n) => {
    const done = (one.done / most) * HEIGHT, failed = (one.failed / most) * HEIGHT;
    const place = { x: n * wide + 1, width: Math.max(1, wide - 2) };
    return [
      done > 0 && svg("rect", { ...place, y: HEIGHT - done, height: done, class: "done" }),
      failed > 0 && svg("rect", { ...place, y: HEIGHT - done - failed, height: failed, class: "failed" }),
    ];
  });
  const sum = shown.reduce((all, one) => all + one.done, 0);
  const bad = shown.reduce((all, one) => all + one.failed, 0);
  const text = t("chart", { minutes: shown.length, done: count(sum), failed: count(bad), most: count(most) });
  return h("figure", null, svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": text, preserveAspectRatio: "none" }, bars), h("figcaption", null, text));
}
