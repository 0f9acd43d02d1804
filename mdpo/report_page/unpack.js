// The page's data: gzip in base64 inside elements that no browser runs or shows.
"use strict";

/** The JSON value that the element with this id holds. */
async function unpack(id) {
  const letters = atob(document.getElementById(id).textContent.trim());
  const bytes = Uint8Array.from(letters, (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

const CHUNKS_KEPT = 12;
const chunks = new Map();

/** A chunk of trajectories; the ones that were looked at last stay unpacked. */
function chunk(number) {
  const found = chunks.get(number) ?? unpack(`chunk-${number}`);
  chunks.delete(number);
  chunks.set(number, found);
  if (chunks.size > CHUNKS_KEPT) chunks.delete(chunks.keys().next().value);
  return found;
}

/** An HTML element. Texts become text nodes, so nothing that a model wrote is ever read as markup. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}
