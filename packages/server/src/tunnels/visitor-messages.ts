import { IncomingMessage, ServerResponse } from 'node:http'

/** Who reads a request's body. */
export interface BodyReader {
  takeRequestBytes(bytes: Buffer): void
  takeRequestEnd(): void
}

/**
 * Node's two halves of a visitor's request, with a place for who reads its body: listeners can then be plain functions
 * shared by all requests instead of closures made for each.
 */
export class VisitorRequest extends IncomingMessage {
  reader: BodyReader | undefined
}

export class VisitorResponse extends ServerResponse<VisitorRequest> {}
