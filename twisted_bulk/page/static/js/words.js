// The words of the page, in the viewer's language.

import en from "../words/en.js";
import zh from "../words/zh.js";

const LANGUAGES = { en, zh };
const KEY = "bulkwav.language";

function remembered() {
  try {
    return localStorage.getItem(KEY);
  } catch {
    return null; // the browser keeps nothing for this page
  }
}

function wanted() {
  const known = [remembered(), ...(navigator.languages || [])];
  const found = known.map((one) => (one || "").slice(0, 2).toLowerCase()).find((one) => one in LANGUAGES);
  return found || "en";
}

export const language = wanted();
export const locale = language === "zh" ? "zh-CN" : navigator.languages.find((one) => one.startsWith(language)) || language;
export const names = { en: "English", zh: "中文" };

const words = LANGUAGES[language];
const plural = new Intl.PluralRules(locale);

// The text of a key. `values` replace `{name}`; with `n` the form for that number is taken, where a
// key has several: `key.one`, `key.other`.
export function t(key, values = {}) {
  let text = words[key];
  if (text === undefined && "n" in values) text = words[`${key}.${plural.select(Number(values.n))}`] ?? words[`${key}.other`];
  if (text === undefined) return key;
  return text.replace(/\{(\w+)\}/g, (all, name) => (name in values ? values[name] : all));
}

// The codes of errors that there are words for.
export function codes() {
  return Object.keys(en).filter((key) => key.startsWith("code_")).map((key) => key.slice(5));
}

// Whether there are words for a key.
export function has(key) {
  return key in words;
}

export function choose(name) {
  try {
    localStorage.setItem(KEY, name);
  } catch {
    // The choice holds until the page is left.
  }
  location.reload();
}
