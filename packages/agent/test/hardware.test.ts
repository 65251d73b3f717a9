import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { gpuLabels, parseNvidiaSmi, readGpus } from '../src/hardware.ts'

const fixture = (name: string): Promise<string> => readFile(new URL(`fixtures/${name}`, import.meta.url), 'utf8')
const MIB = 1024 * 1024

describe('what nvidia-smi prints', () => {
  test('two different GPUs', async () => {
    const report = parseNvidiaSmi(await fixture('nvidia-smi-two.csv'))
    expect(report).toEqual({
      kind: 'gpus',
      devices: [
        {
          device_name: 'NVIDIA GeForce RTX 4090',
          device_type: 'cuda',
          vram_total: 24_564 * MIB,
          vram_free: 23_012 * MIB,
        },
        {
          device_name: 'NVIDIA A100-SXM4-80GB',
          device_type: 'cuda',
          vram_total: 81_920 * MIB,
          vram_free: 81_037 * MIB,
        },
      ],
    })
    expect(report.kind === 'gpus' && gpuLabels(report.devices)).toEqual([
      'gpu',
      'nvidia-geforce-rtx-4090',
      'nvidia-a100-sxm4-80gb',
    ])
  })

  test('memory that the driver does not know, as on unified memory', async () => {
    const report = parseNvidiaSmi(await fixture('nvidia-smi-unified.csv'))
    expect(report).toEqual({
      kind: 'gpus',
      devices: [{ device_name: 'NVIDIA GB10', device_type: 'cuda', vram_total: 0, vram_free: 0 }],
    })
  })

  test('equal GPUs give one label', async () => {
    const report = parseNvidiaSmi(await fixture('nvidia-smi-eight.csv'))
    expect(report.kind === 'gpus' && report.devices.length).toBe(8)
    expect(report.kind === 'gpus' && gpuLabels(report.devices)).toEqual(['gpu', 'nvidia-h100-80gb-hbm3'])
  })

  test('nothing, and nonsense', () => {
    expect(parseNvidiaSmi('')).toEqual({ kind: 'gpus', devices: [] })
    expect(gpuLabels([])).toEqual([])
    expect(parseNvidiaSmi('Unable to determine the device handle')).toMatchObject({ kind: 'failed' })
  })
})

describe('asking it', () => {
  let dir: string
  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), 'cyberun-gpu-'))
  })
  afterAll(() => rm(dir, { recursive: true }))

  async function program(script: string): Promise<string> {
    const file = join(dir, `smi-${Math.random().toString(36).slice(2)}`)
    await writeFile(file, `#!/bin/sh\n${script}\n`)
    await chmod(file, 0o755)
    return file
  }

  test('with the one fixed query', async () => {
    const smi = await program(
      'test "$1 $2" = "--query-gpu=name,memory.total,memory.free --format=csv,noheader,nounits" && echo "Tesla T4, 100, 50"',
    )
    expect(await readGpus(smi, new AbortController().signal)).toEqual({
      kind: 'gpus',
      devices: [{ device_name: 'Tesla T4', device_type: 'cuda', vram_total: 100 * MIB, vram_free: 50 * MIB }],
    })
  })

  test('where there is none', async () => {
    expect(await readGpus(join(dir, 'missing'), new AbortController().signal)).toEqual({ kind: 'absent' })
  })

  test('where the driver is in trouble', async () => {
    const smi = await program(`echo "Failed to initialize NVML: Driver/library version mismatch"; exit 18`)
    expect(await readGpus(smi, new AbortController().signal)).toEqual({
      kind: 'failed',
      error: 'Failed to initialize NVML: Driver/library version mismatch',
    })
  })
})
