import type { JsonObject } from '@cyberun/protocol'

/** An object that is no array; undefined for anything else. What ComfyUI and its extensions answer is never trusted. */
export function asObject(value: unknown): JsonObject | undefined {
  // The one cast: JSON.parse made it, so its members are JSON.
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as JsonObject) : undefined
}

export const asArray = (value: unknown): readonly unknown[] => (Array.isArray(value) ? value : [])
export const asText = (value: unknown): string | undefined => (typeof value === 'string' ? value : undefined)
export const asNumber = (value: unknown): number | undefined =>
  typeof value === 'number' && Number.isFinite(value) ? value : undefined
export const texts = (value: unknown): string[] => asArray(value).filter((item) => typeof item === 'string')
