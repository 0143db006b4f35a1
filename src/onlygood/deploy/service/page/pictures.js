/** Pictures and their maps, from the file at hand or from the service. */

import { mapFor, mapOf, pictureOf, ServiceError } from "./service.js";

// `onlygood.report.heatmap`: what is more opaque is in an outlined region; the look just below it.
const FAINT = 48;
const BELOW = [203, 71, 119, FAINT];
const THUMBNAIL = 360; // longest side in pixels of a picture in the grid

/** The picture, in a form that this browser shows. */
export async function pictureBlob(item) {
  if (item.file && (await bitmap(item.file).then(close, () => false))) return item.file;
  const blob = await pictureOf(item);
  if (await bitmap(blob).then(close, () => false)) return blob;
  throw new ServiceError("This browser cannot show this kind of picture.");
}

/** The coloured map alone, in the picture's size. */
export async function mapBlob(item) {
  try {
    return await mapOf(item);
  } catch (error) {
    if (error.status !== 404 || !item.file) throw error;
    return mapFor(item.model, item.file); // the service keeps recent ones only
  }
}

/** A coloured map without its outlined regions, and whether it has any: `{blob, region}`.
 *
 * So looks the map of a picture that is called normal: the score decides, the map shows where. */
export async function quietMap(blob) {
  const whole = await bitmap(blob);
  const canvas = new OffscreenCanvas(whole.width, whole.height);
  const context = canvas.getContext("2d");
  context.drawImage(whole, 0, 0);
  whole.close();
  const image = context.getImageData(0, 0, canvas.width, canvas.height);
  let region = false;
  for (let at = 0; at < image.data.length; at += 4) {
    if (image.data[at + 3] <= FAINT) continue;
    region = true;
    image.data.set(BELOW, at);
  }
  context.putImageData(image, 0, 0);
  return { blob: await canvas.convertToBlob(), region };
}

/** Small copies on canvases: the grid must not hold hundreds of pictures in full. */
export async function drawThumbnail(canvas, blob) {
  const whole = await bitmap(blob);
  const scale = Math.min(1, THUMBNAIL / Math.max(whole.width, whole.height));
  canvas.width = Math.max(1, Math.round(scale * whole.width));
  canvas.height = Math.max(1, Math.round(scale * whole.height));
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(whole, 0, 0, canvas.width, canvas.height);
  whole.close();
}

const bitmap = (blob) => createImageBitmap(blob);

const close = (image) => {
  image.close();
  return true;
};
