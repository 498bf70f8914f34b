// Orders out of texts: URLs line by line, CSV with or without a line of titles, JSON.

import { t } from "./words.js";

const COLUMNS = ["name", "sha256"]; // beside the URL

// {download: [...]}, and what else a JSON order has. Raises an error that says what is wrong.
export function parse(text, name) {
  if (text.includes("\0")) throw new Error(t("bad_text"));
  const clean = text.replace(/^\uFEFF/, "").trim();
  if (/\.json$/i.test(name) || /^[[{]/.test(clean)) return json(clean);
  // A URL may have commas and semicolons, so a text is CSV by its file's name or by its titles only.
  const titles = clean.split("\n")[0].toLowerCase().split(/[,;\t]/).map((one) => one.trim().replace(/^"(.*)"$/, "$1"));
  if (/\.(csv|tsv)$/i.test(name) || (titles.length > 1 && titles.includes("url"))) return csv(clean);
  return { download: clean.split(/\r\n|\r|\n/).map((line) => line.trim()).filter((line) => line && !line.startsWith("#")) };
}

function json(text) {
  let found;
  try {
    found = JSON.parse(text);
  } catch (error) {
    throw new Error(t("bad_json", { why: error.message }));
  }
  if (Array.isArray(found)) return { download: found };
  if (found && Array.isArray(found.download)) return found;
  throw new Error(t("bad_json", { why: "download" }));
}

function isUrl(text) {
  return /^https?:/i.test(text.trim());
}

function csv(text) {
  const mark = ["\t", ";", ","].find((one) => text.split("\n")[0].includes(one)) || ",";
  const rows = cells(text, mark);
  const titles = rows[0].map((one) => one.trim().toLowerCase());
  const first = rows[0].findIndex(isUrl);
  const isTitled = titles.includes("url") || (first < 0 && rows.length > 1);
  // Where no column is called so, the one that has a URL in its first row.
  const url = titles.includes("url") ? titles.indexOf("url") : isTitled ? rows[1].findIndex(isUrl) : first;
  if (url < 0) throw new Error(t("bad_csv"));
  const download = rows.slice(isTitled ? 1 : 0).filter((row) => row[url]?.trim()).map((row) => {
    if (!isTitled) return row[url].trim();
    const member = {};
    member.url = row[url].trim();
    for (const column of COLUMNS) {
      const value = row[titles.indexOf(column)]?.trim();
      if (value) member[column] = value;
    }
    return Object.keys(member).length === 1 ? member.url : member;
  });
  return { download };
}

// The cells of a CSV text (RFC 4180): quoted ones may have marks and line ends.
function cells(text, mark) {
  const rows = [[]];
  let value = "", isQuoted = false;
  for (let at = 0; at < text.length; at += 1) {
    const letter = text[at];
    if (isQuoted) {
      if (letter !== '"') value += letter;
      else if (text[at + 1] === '"') {
        value += '"';
        at += 1;
      } else isQuoted = false;
    } else if (letter === '"' && !value) isQuoted = true;
    else if (letter === mark || letter === "\n") {
      rows.at(-1).push(value.replace(/\r$/, ""));
      value = "";
      if (letter === "\n") rows.push([]);
    } else value += letter;
  }
  rows.at(-1).push(value.replace(/\r$/, ""));
  return rows;
}
