/** The service's HTTP interface. Whatever goes wrong becomes a ServiceError in words. */

export class ServiceError extends Error {
  constructor(words, { status = 0, body = null, retryAfter = 0 } = {}) {
    super(words);
    this.status = status;
    this.body = body;
    this.retryAfter = retryAfter;
  }
}

const TOKEN = "onlygood.token";

/** Kept until the tab is closed. */
export const keepToken = (token) => sessionStorage.setItem(TOKEN, token);

export const models = async () => (await json("v1/models")).models;

export const calibration = (name) => json(`v1/models/${encodeURIComponent(name)}/calibration`);

/** The key of an item: its number, and its picture, as a log that is begun anew counts from 1 again. */
export const keyOf = ({ id, picture_sha256 }) => `${id} ${picture_sha256}`;

/** `{log, inspections}`, newest first; with `after`, only those with a larger id. */
export async function inspections(model, limit, after = null) {
  const query = new URLSearchParams({ model, limit });
  if (after !== null) query.set("after", after);
  return json(`v1/inspections?${query}`);
}

export const pictureOf = ({ id, picture_sha256 }) =>
  blob(`v1/inspections/${id}/picture?${new URLSearchParams({ picture_sha256 })}`);

/** With every region outlined: what is normal is decided here, by a threshold that moves. */
export const mapOf = ({ id, picture_sha256 }) =>
  blob(`v1/inspections/${id}/map?${new URLSearchParams({ picture_sha256, outline_normal: true })}`);

export async function mapFor(model, file) {
  const body = new FormData();
  body.append("file", file, file.name);
  return blob(`v1/map?${new URLSearchParams({ model, outline_normal: true })}`, { method: "POST", body });
}

/** Scores files in one request; waits as long as a busy service asks for. */
export async function score(model, files) {
  const body = new FormData();
  for (const file of files) body.append("files", file, file.name);
  for (let attempt = 1; ; attempt++) {
    try {
      const path = `v1/score?${new URLSearchParams({ model })}`;
      return (await json(path, { method: "POST", body })).results;
    } catch (error) {
      // 422 says that none of the pictures could be read; what is wrong with each is said inside.
      if (error.status === 422 && Array.isArray(error.body?.results)) return error.body.results;
      if (error.status !== 429 || attempt === 20) throw error;
      await new Promise((done) => setTimeout(done, 1000 * Math.max(error.retryAfter, 0.5)));
    }
  }
}

export const giveFeedback = ({ id, picture_sha256 }, verdict, comment) =>
  request("v1/feedback", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ id, picture_sha256, verdict, comment }),
  });

const json = (path, options) => read(path, options, (response) => response.json());

const blob = (path, options) => read(path, options, (response) => response.blob());

/** An answer may break off, or be the page of a proxy in between. */
async function read(path, options, body) {
  const response = await request(path, options);
  try {
    return await body(response);
  } catch {
    throw new ServiceError("The answer broke off, or is not the service's. Is it reached through something else?");
  }
}

async function request(path, options = {}) {
  const headers = new Headers(options.headers);
  const token = sessionStorage.getItem(TOKEN);
  let response;
  try {
    if (token) headers.set("Authorization", `Bearer ${token}`);
  } catch {
    throw new ServiceError("The token has letters that no token has. Type it again.", { status: 401 });
  }
  try {
    response = await fetch(path, { ...options, headers });
  } catch {
    throw new ServiceError("The service does not answer. Is it running?");
  }
  if (response.ok) return response;
  const body = await response.json().catch(() => null);
  const words = typeof body?.error === "string" ? body.error : `The service answered ${response.status}.`;
  const retryAfter = Number(response.headers.get("Retry-After")) || 0;
  throw new ServiceError(words, { status: response.status, body, retryAfter });
}
