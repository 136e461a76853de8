/** Return a text that stands alone: a part of a larger one, such as of a piece of a stream, keeps all of it in memory. */
export const copied = (text) => JSON.parse(JSON.stringify(text ?? null));
