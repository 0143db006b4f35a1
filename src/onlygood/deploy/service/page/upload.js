/** Files to be scored: from a drop, in requests of a bearable size. */

import { score } from "./service.js";

const FILES = 8; // in one request
const BYTES = 24e6; // of one request; a larger picture goes alone

/** Files of a drop, those in folders too; hidden ones are passed over, as the library does. */
export async function droppedFiles(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.some((entry) => entry.isDirectory)) return [...transfer.files];
  return (await Promise.all(entries.map(filesIn))).flat();
}

async function filesIn(entry) {
  if (entry.name.startsWith(".")) return [];
  if (entry.isFile) return [await new Promise((done, fail) => entry.file(done, fail))];
  const reader = entry.createReader();
  const found = [];
  for (;;) {
    const some = await new Promise((done, fail) => reader.readEntries(done, fail)); // 100 at a time
    if (!some.length) break;
    found.push(...some);
  }
  return (await Promise.all(found.map(filesIn))).flat();
}

/** The files in portions that go into one request each. */
export function portions(files) {
  const found = [[]];
  let bytes = 0;
  for (const file of files) {
    if (found.at(-1).length === FILES || (bytes && bytes + file.size > BYTES)) {
      found.push([]);
      bytes = 0;
    }
    found.at(-1).push(file);
    bytes += file.size;
  }
  return found;
}

/** Results of files; those that the service refuses become errors. */
export async function scored(model, files) {
  try {
    return await score(model, files);
  } catch (error) {
    if (![400, 413, 422].includes(error.status)) throw error;
    if (files.length === 1) return [{ name: files[0].name, decision: "error", error: error.message }];
    const results = []; // one of them spoils the request; alone it shows which
    for (const file of files) results.push(...(await scored(model, [file])));
    return results;
  }
}
