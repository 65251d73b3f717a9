import { IncomingMessage, ServerResponse } from 'node:http'
import type { Exchange } from './exchange.ts'

/**
 * Node's two halves of a visitor's request, with a place for the exchange they belong to: listeners can then be plain
 * functions shared by all requests instead of closures made for each.
 */
export class VisitorRequest extends IncomingMessage {
  exchange: Exchange | undefined
}

export class VisitorResponse extends ServerResponse<VisitorRequest> {}
