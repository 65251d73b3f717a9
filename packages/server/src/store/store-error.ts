/** The store cannot be opened. `message` is one line for the person who starts the server: what and what to do. */
export class StoreOpenError extends Error {
  override readonly name = 'StoreOpenError'
}
