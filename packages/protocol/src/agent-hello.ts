import type { JsonObject } from './model.ts'

/**
 * What an agent says of itself: `hello.fields`, and the JSON lines of its `control` stream (protocol.md, "The agent's
 * hello"). Written by agents, read by servers; unknown fields are skipped, every value is bounded before it is kept.
 */

/** The bounds of what an agent may say of itself, in characters and counts. */
export const AGENT_LIMITS = {
  idCharacters: 64,
  labels: 64,
  labelCharacters: 64,
  versionCharacters: 64,
  nameCharacters: 128,
  gpuDevices: 64,
  gpuCapacity: 1_024,
  /** One JSON line of the control stream, in bytes. */
  controlLineBytes: 64 * 1024,
} as const

export interface GpuDevice {
  device_name: string
  device_type: string
  /** Bytes. */
  vram_total: number
  /** Bytes. */
  vram_free: number
}

export interface SystemStats {
  comfyui_version: string | null
  pytorch_version: string | null
  /** `linux`, `darwin`, `win32`. */
  os_type: string
  gpu_devices: readonly GpuDevice[]
}

/** Proof of the machine: an Ed25519 public key (32 bytes) and its signature (64 bytes), both base64url. */
export interface MachineProof {
  public_key: string
  signature: string
}

export interface AgentHello {
  agent_id: string
  agent_version: string
  labels: readonly string[]
  platform_arch: string
  tool: string | null
  tool_version: string | null
  /** Slots: how many tasks at once. */
  gpu_capacity: number
  system_stats: SystemStats
  machine: MachineProof
}

/** A line the agent writes on its control stream. */
export type AgentLine = { type: 'heartbeat'; sequence: number; system_stats: SystemStats }
/** A line the server writes on it. */
export type ServerLine = { type: 'heartbeat_ok'; sequence: number }

/** A peer's field is missing or out of bounds; the message names the field and says what it must be. */
export class FieldError extends Error {
  constructor(path: string, expected: string) {
    super(`${path} must be ${expected}`)
    this.name = 'FieldError'
  }
}

/** The text a machine signs to prove that it holds its key: bound to this link by the server's challenge. */
export function machineProofText(challenge: string, agentId: string): string {
  return `cyberun.v1 machine\n${challenge}\n${agentId}`
}

const AGENT_ID = /^[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?$/
const LABEL = /^[\w.:/=+@-]+$/
const PRINTABLE = /^[^\p{Cc}\p{Cs}]*$/u
const KEY_BYTES_32 = /^[\w-]{43}$/
const SIGNATURE_BYTES_64 = /^[\w-]{86}$/

/** Whether `id` may name an agent: 1 to 64 letters, digits, dots, dashes, underscores; a letter or digit at both ends. */
export function isAgentId(id: string): boolean {
  return id.length <= AGENT_LIMITS.idCharacters && AGENT_ID.test(id)
}

/** Whether `label` may be a label: 1 to 64 letters, digits and `_.:/=+@-`. */
export function isLabel(label: string): boolean {
  return label.length <= AGENT_LIMITS.labelCharacters && LABEL.test(label)
}

/** Reads an agent's `hello.fields`. Throws `FieldError`. */
export function parseAgentHello(fields: JsonObject): AgentHello {
  const agentId = fields['agent_id']
  if (typeof agentId !== 'string' || !isAgentId(agentId)) {
    throw new FieldError('agent_id', `1 to ${AGENT_LIMITS.idCharacters} letters, digits, dots, dashes or underscores`)
  }
  const machine = object('machine', fields['machine'])
  return {
    agent_id: agentId,
    agent_version: text('agent_version', fields['agent_version'], AGENT_LIMITS.versionCharacters),
    labels: labels(fields['labels']),
    platform_arch: text('platform_arch', fields['platform_arch'], AGENT_LIMITS.versionCharacters),
    tool: optionalText('tool', fields['tool'], AGENT_LIMITS.versionCharacters),
    tool_version: optionalText('tool_version', fields['tool_version'], AGENT_LIMITS.versionCharacters),
    gpu_capacity: whole('gpu_capacity', fields['gpu_capacity'], 0, AGENT_LIMITS.gpuCapacity),
    system_stats: systemStats('system_stats', fields['system_stats']),
    machine: {
      public_key: matching('machine.public_key', machine['public_key'], KEY_BYTES_32, '32 bytes in base64url'),
      signature: matching('machine.signature', machine['signature'], SIGNATURE_BYTES_64, '64 bytes in base64url'),
    },
  }
}

/** Reads one line of an agent's control stream; undefined for a type this end does not know. Throws `FieldError`. */
export function parseAgentLine(line: string): AgentLine | undefined {
  const fields = jsonObject(line)
  if (fields['type'] !== 'heartbeat') return undefined
  return {
    type: 'heartbeat',
    sequence: whole('sequence', fields['sequence'], 0, Number.MAX_SAFE_INTEGER),
    system_stats: systemStats('system_stats', fields['system_stats']),
  }
}

/** Reads one line of the server on a control stream; undefined for a type this end does not know. Throws `FieldError`. */
export function parseServerLine(line: string): ServerLine | undefined {
  const fields = jsonObject(line)
  if (fields['type'] !== 'heartbeat_ok') return undefined
  return { type: 'heartbeat_ok', sequence: whole('sequence', fields['sequence'], 0, Number.MAX_SAFE_INTEGER) }
}

function systemStats(path: string, raw: unknown): SystemStats {
  const stats = object(path, raw)
  return {
    comfyui_version: optionalText(`${path}.comfyui_version`, stats['comfyui_version'], AGENT_LIMITS.versionCharacters),
    pytorch_version: optionalText(`${path}.pytorch_version`, stats['pytorch_version'], AGENT_LIMITS.versionCharacters),
    os_type: text(`${path}.os_type`, stats['os_type'], AGENT_LIMITS.versionCharacters),
    gpu_devices: list(`${path}.gpu_devices`, stats['gpu_devices'], AGENT_LIMITS.gpuDevices).map((device, index) =>
      gpuDevice(`${path}.gpu_devices[${index}]`, device),
    ),
  }
}

function gpuDevice(path: string, raw: unknown): GpuDevice {
  const device = object(path, raw)
  return {
    device_name: text(`${path}.device_name`, device['device_name'], AGENT_LIMITS.nameCharacters),
    device_type: text(`${path}.device_type`, device['device_type'], AGENT_LIMITS.nameCharacters),
    vram_total: whole(`${path}.vram_total`, device['vram_total'], 0, Number.MAX_SAFE_INTEGER),
    vram_free: whole(`${path}.vram_free`, device['vram_free'], 0, Number.MAX_SAFE_INTEGER),
  }
}

function labels(raw: unknown): readonly string[] {
  const seen = new Set<string>()
  for (const [index, label] of list('labels', raw, AGENT_LIMITS.labels).entries()) {
    if (typeof label !== 'string' || !isLabel(label)) {
      throw new FieldError(
        `labels[${index}]`,
        `1 to ${AGENT_LIMITS.labelCharacters} letters, digits or any of _ . : / = + @ -`,
      )
    }
    seen.add(label)
  }
  return [...seen]
}

function jsonObject(line: string): JsonObject {
  let raw: unknown
  try {
    raw = JSON.parse(line)
  } catch {
    throw new FieldError('a control line', 'one JSON object')
  }
  return object('a control line', raw)
}

function object(path: string, raw: unknown): JsonObject {
  if (typeof raw !== 'object' || raw === null || Array.isArray(raw)) throw new FieldError(path, 'an object')
  return raw as JsonObject
}

function list(path: string, raw: unknown, most: number): readonly unknown[] {
  if (!Array.isArray(raw) || raw.length > most) throw new FieldError(path, `a list of at most ${most}`)
  return raw
}

function text(path: string, raw: unknown, most: number): string {
  if (typeof raw !== 'string' || raw.length > most || !PRINTABLE.test(raw)) {
    throw new FieldError(path, `a string of at most ${most} printable characters`)
  }
  return raw
}

function optionalText(path: string, raw: unknown, most: number): string | null {
  return raw === undefined || raw === null ? null : text(path, raw, most)
}

function whole(path: string, raw: unknown, least: number, most: number): number {
  if (typeof raw !== 'number' || !Number.isSafeInteger(raw) || raw < least || raw > most) {
    throw new FieldError(path, `a whole number from ${least} to ${most}`)
  }
  return raw
}

function matching(path: string, raw: unknown, pattern: RegExp, expected: string): string {
  if (typeof raw !== 'string' || !pattern.test(raw)) throw new FieldError(path, expected)
  return raw
}
