import { FieldError, list, matching, object, oneOf, optionalText, text, whole } from './fields.ts'
import type { JsonObject } from './model.ts'
import { type AttemptName, parseAttemptName, TOOL_TYPES, type ToolType } from './task-lines.ts'

/**
 * What an agent says of itself in `hello.fields` (protocol.md, "The agent's hello"). Written by agents, read by servers;
 * unknown fields are skipped, every value is bounded before it is kept.
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
  tools: 16,
  /** Attempts that a hello names: more than one frame of it could not hold. An agent is given no more at once. */
  runningTasks: 512,
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

export interface OfferedTool {
  type: ToolType
  version: string
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
  /** What it takes tasks for; an agent of before 0.2.0 names none and is given none. */
  tools: readonly OfferedTool[]
  /** The attempts it still has, running or not yet fully reported: any other that the server thinks it has is lost. */
  running_tasks: readonly AttemptName[]
  /** Its owner lets the team open shells on it. */
  terminal: boolean
  machine: MachineProof
}

/** The text a machine signs to prove that it holds its key: bound to this link by the server's challenge. */
export function machineProofText(challenge: string, agentId: string): string {
  return `cyberun.v1 machine\n${challenge}\n${agentId}`
}

const AGENT_ID = /^[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?$/
const LABEL = /^[\w.:/=+@-]+$/
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
    system_stats: parseSystemStats('system_stats', fields['system_stats']),
    tools: list('tools', fields['tools'] ?? [], AGENT_LIMITS.tools).map((tool, index) =>
      offeredTool(`tools[${index}]`, tool),
    ),
    running_tasks: list('running_tasks', fields['running_tasks'] ?? [], AGENT_LIMITS.runningTasks).map(
      (attempt, index) => parseAttemptName(`running_tasks[${index}]`, object(`running_tasks[${index}]`, attempt)),
    ),
    terminal: fields['terminal'] === true,
    machine: {
      public_key: matching('machine.public_key', machine['public_key'], KEY_BYTES_32, '32 bytes in base64url'),
      signature: matching('machine.signature', machine['signature'], SIGNATURE_BYTES_64, '64 bytes in base64url'),
    },
  }
}

/** Reads what a machine says of itself. Throws `FieldError`. */
export function parseSystemStats(path: string, raw: unknown): SystemStats {
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

function offeredTool(path: string, raw: unknown): OfferedTool {
  const tool = object(path, raw)
  return {
    type: oneOf(`${path}.type`, tool['type'], TOOL_TYPES),
    version: text(`${path}.version`, tool['version'], AGENT_LIMITS.versionCharacters),
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
