/** Pictures and their maps, from the file at hand or from the service. */

import { mapFor, mapOf, pictureOf, ServiceError } from "./service.js";

const THUMBNAIL = 360; // longest side in pixels of a picture in the grid

/** The picture, in a form that this browser shows. */
export async function pictureBlob(item) {
  if (item.file && (await bitmap(item.file).then(close, () => false))) return item.file;
  const blob = await pictureOf(item.id);
  if (await bitmap(blob).then(close, () => false)) return blob;
  throw new ServiceError("This browser cannot show this kind of picture.");
}

/** The coloured map alone, in the picture's size. */
export async function mapBlob(item) {
  try {
    return await mapOf(item.id);
  } catch (error) {
    if (error.status !== 404 || !item.file) throw error;
    return mapFor(item.model, item.file); // the service keeps recent ones only
  }
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
