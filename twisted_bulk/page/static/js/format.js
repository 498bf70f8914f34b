// Numbers, sizes and times, as the viewer's language writes them.

import { h } from "./dom.js";
import { locale, t } from "./words.js";

const numbers = new Intl.NumberFormat(locale);
const decimal = new Intl.NumberFormat(locale, { maximumFractionDigits: 1 });
const short = new Intl.DateTimeFormat(locale, { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit" });
const exact = new Intl.DateTimeFormat(locale, { dateStyle: "full", timeStyle: "long" });
const UNITS = ["B", "KB", "MB", "GB", "TB", "PB"];

// A whole number. One beyond 2^53 comes as a string.
export function count(value) {
  return numbers.format(typeof value === "string" ? BigInt(value) : value);
}

export function size(bytes) {
  let value = Number(bytes), unit = 0;
  while (value >= 1000 && unit < UNITS.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${(unit ? decimal : numbers).format(value)} ${UNITS[unit]}`;
}

export function speed(bytes) {
  return t("per_second", { size: size(bytes) });
}

// A time span in seconds, in its two largest units.
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  const whole = Math.max(0, Math.round(seconds));
  const days = Math.floor(whole / 86400), hours = Math.floor((whole % 86400) / 3600);
  const minutes = Math.floor((whole % 3600) / 60), rest = whole % 60;
  if (days) return t("days_hours", { days, hours });
  if (hours) return t("hours_minutes", { hours, minutes });
  if (minutes) return t("minutes_seconds", { minutes, seconds: rest });
  return t("seconds", { seconds: rest });
}

// A moment in the viewer's zone; the exact one shows when the pointer rests on it.
export function moment(iso) {
  if (!iso) return "–";
  const date = new Date(iso);
  return h("time", { datetime: iso, title: exact.format(date) }, short.format(date));
}

// A moment as text; what is none stays as it is.
export function clock(iso) {
  const date = new Date(iso);
  return Number.isNaN(date.getTime()) || !iso.includes("T") ? iso : short.format(date);
}

// How many there are: exactly, or at least, with an older figure and its age.
export function howMany(found) {
  if (!found) return "";
  if (found.exact === null) return t("at_least", { n: count(found.at_least) });
  if (!found.age) return count(found.exact);
  return t("about", { n: count(found.exact), age: duration(found.age) });
}
