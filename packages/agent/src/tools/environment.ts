/** The variables of the agent's environment that programs are given: what finding programs, GPUs and a language takes. */
const PASSED_ON = [
  'PATH',
  'HOME',
  'USER',
  'LANG',
  'LC_ALL',
  'TZ',
  'TMPDIR',
  'LD_LIBRARY_PATH',
  'CUDA_VISIBLE_DEVICES',
  'NVIDIA_VISIBLE_DEVICES',
  'NVIDIA_DRIVER_CAPABILITIES',
] as const

const DEFAULT_PATH = '/usr/local/bin:/usr/bin:/bin'

/** The environment of a program that a task runs: these and its own, and nothing else; the agent's key is no business of it. */
export function programEnvironment(
  env: Readonly<Record<string, string | undefined>>,
  own: Readonly<Record<string, string>>,
): Record<string, string> {
  const passed = PASSED_ON.flatMap((name) => {
    const value = env[name]
    return value === undefined ? [] : [[name, value] as const]
  })
  return { PATH: DEFAULT_PATH, ...Object.fromEntries(passed), ...own }
}
