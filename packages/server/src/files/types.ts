import type { IncomingMessage, ServerResponse } from 'node:http'
import type { LinkStream } from '@cyberun/link'

/** Where a caller sends a file's bytes, and what to send along unchanged. */
export interface PresignedUpload {
  fileKey: string
  uploadUrl: string
  uploadHeaders: Readonly<Record<string, string>>
}

/** What a caller says of a file before it sends it. */
export interface InputDescription {
  fileName: string
  /** In bytes; the upload must have exactly as many. */
  fileSize: number
  contentType: string
}

export interface SignedUrl {
  url: string
  /** Milliseconds since 1970. */
  expiresAt: number
}

/** Which agent is at the other end of a stream. */
export interface StreamAgent {
  teamId: string
  agentId: string
}

/** Everything about files that callers send and runs make. The bytes are in an object store, the truth is in the store. */
export interface Files {
  /**
   * Makes room for an input and says where to send it. Throws `ApiError`: `invalid_request` for a name or type that
   * cannot be kept, `payload_too_large` beyond `files.max_input_bytes`.
   */
  presignInput(teamId: string, userId: string, file: InputDescription): Promise<PresignedUpload>
  /** Where the bytes of a committed artifact are fetched, without further credentials, until it expires. */
  downloadUrl(artifactId: string): SignedUrl
  /**
   * The file door: answers requests below `/files/` and nothing else. False when the request is not for it.
   * Owns request and response when it returns true; never throws.
   */
  handleRequest(request: IncomingMessage, response: ServerResponse): boolean
  /** Takes an artifact that an agent sends. Owns the stream; never throws. */
  serveArtifactStream(stream: LinkStream, agent: StreamAgent): void
  /** Sends an input to the agent that holds an attempt which names it. Owns the stream; never throws. */
  serveInputStream(stream: LinkStream, agent: StreamAgent): void
  /** Ends the sweep, waits for transfers under way until `signal` aborts, then cuts them. */
  stop(signal: AbortSignal): Promise<void>
}
