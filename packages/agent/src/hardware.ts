import { execFile } from 'node:child_process'
import { AGENT_LIMITS, type GpuDevice } from '@cyberun/protocol'

/** One fixed query: these columns, in this order, sizes in MiB without a unit. */
export const NVIDIA_SMI_ARGUMENTS = [
  '--query-gpu=name,memory.total,memory.free',
  '--format=csv,noheader,nounits',
] as const
/** A driver in trouble can hang for ever. */
const NVIDIA_SMI_TIMEOUT_MS = 10_000
const MEBIBYTE = 1024 * 1024

/** What asking for the machine's GPUs brought. */
export type GpuReport =
  | { kind: 'gpus'; devices: readonly GpuDevice[] }
  /** There is no nvidia-smi: the normal case of a machine without a GPU. */
  | { kind: 'absent' }
  | { kind: 'failed'; error: string }

/** Asks nvidia-smi, or whatever program `command` names, for the GPUs of this machine. Never rejects. */
export function readGpus(command: string, signal: AbortSignal): Promise<GpuReport> {
  return new Promise((resolve) => {
    const options = { timeout: NVIDIA_SMI_TIMEOUT_MS, maxBuffer: 256 * 1024, signal, windowsHide: true }
    execFile(command, NVIDIA_SMI_ARGUMENTS, options, (error, output) => {
      if (!error) resolve(parseNvidiaSmi(output))
      else if (error.code === 'ENOENT') resolve({ kind: 'absent' })
      // It says what is wrong with the driver on standard output.
      else
        resolve({ kind: 'failed', error: output.trim().split('\n')[0] || error.message.split('\n')[0] || 'it failed' })
    })
  })
}

/** Reads nvidia-smi's answer to `NVIDIA_SMI_ARGUMENTS`. A value it does not know (`[N/A]`) counts as 0. */
export function parseNvidiaSmi(output: string): GpuReport {
  const lines = output.split('\n').filter((line) => line.trim() !== '')
  const devices: GpuDevice[] = []
  for (const line of lines.slice(0, AGENT_LIMITS.gpuDevices)) {
    const cells = line.split(',').map((cell) => cell.trim())
    // A name may hold a comma: the two numbers are the last cells.
    const [total, free] = cells.slice(-2)
    const name = cells.slice(0, -2).join(', ')
    if (name === '' || total === undefined || free === undefined) {
      return { kind: 'failed', error: `nvidia-smi printed a line that is no GPU: ${line.slice(0, 200)}` }
    }
    devices.push({
      device_name: printable(name).slice(0, AGENT_LIMITS.nameCharacters).toWellFormed(),
      device_type: 'cuda',
      vram_total: mebibytes(total),
      vram_free: mebibytes(free),
    })
  }
  return { kind: 'gpus', devices }
}

/** `gpu` and each GPU's name in kebab case: `NVIDIA GeForce RTX 4090` is `nvidia-geforce-rtx-4090`. */
export function gpuLabels(devices: readonly GpuDevice[]): string[] {
  if (devices.length === 0) return []
  return ['gpu', ...new Set(devices.map(({ device_name }) => kebabCase(device_name)).filter((label) => label !== ''))]
}

function kebabCase(name: string): string {
  return name
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .replace(/^-+|-+$/g, '')
    .slice(0, AGENT_LIMITS.labelCharacters)
}

function mebibytes(cell: string): number {
  const value = Number.parseInt(cell, 10)
  return Number.isSafeInteger(value) && value > 0 ? value * MEBIBYTE : 0
}

function printable(text: string): string {
  return text.replace(/[\p{Cc}\p{Cs}]/gu, '')
}
