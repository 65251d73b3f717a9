export {
  CLOSE_CODES,
  type CloseCode,
  type CloseReason,
  type Hello,
  type JsonObject,
  type OpenInit,
  PRIORITY,
  type Priority,
  RESET_CODES,
  type ResetCode,
  type StreamTarget,
  type Welcome,
} from './model.ts'
export { formatKey, KEY_RANDOM_BYTES, type KeyKind, parseKey, redactSecrets } from './secrets.ts'
export { suggest } from './suggest.ts'
