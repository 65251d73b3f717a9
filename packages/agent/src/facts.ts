import type { Log } from '@cyberun/link/log'
import { AGENT_LIMITS, type GpuDevice, type SystemStats } from '@cyberun/protocol'
import { gpuLabels, readGpus } from './hardware.ts'

/** How often nvidia-smi is asked again: it costs tens of milliseconds of CPU, more than everything else here together. */
const GPU_REFRESH_MS = 30_000

/** What is known of this machine now. */
export interface MachineFacts {
  labels(): readonly string[]
  systemStats(): SystemStats
  /** Asks for what changes; at most one question is under way. */
  refresh(now: number): Promise<void>
}

/** Finds out about the machine. Resolves when the first answers are there; never rejects. */
export async function learnMachine(
  options: { ownLabels: readonly string[]; nvidiaSmi: string; osType: string },
  log: Log,
  signal: AbortSignal,
): Promise<MachineFacts> {
  let devices: readonly GpuDevice[] = []
  let state: 'ask' | 'asking' | 'no-gpu' = 'ask'
  let askedAt = -GPU_REFRESH_MS
  let lastError: string | undefined

  async function refresh(now: number): Promise<void> {
    if (state !== 'ask' || now - askedAt < GPU_REFRESH_MS) return
    state = 'asking'
    askedAt = now
    const report = await readGpus(options.nvidiaSmi, signal)
    state = report.kind === 'absent' ? 'no-gpu' : 'ask'
    if (report.kind === 'gpus') devices = report.devices
    const error = report.kind === 'failed' ? report.error : undefined
    if (error !== undefined && error !== lastError && !signal.aborted) {
      log.warn({ error, hint: 'the machine is listed without its GPU until nvidia-smi works' }, 'gpu.unknown')
    }
    lastError = error
  }

  await refresh(0)
  return {
    labels: () => [...new Set([...gpuLabels(devices), ...options.ownLabels])].slice(0, AGENT_LIMITS.labels),
    systemStats: () => ({
      comfyui_version: null,
      pytorch_version: null,
      os_type: options.osType,
      gpu_devices: devices,
    }),
    refresh,
  }
}
