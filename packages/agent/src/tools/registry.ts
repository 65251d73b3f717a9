import { createDemoTool } from './demo/demo.ts'
import type { ToolSettings } from './settings.ts'
import type { Tool, ToolDeps } from './tool.ts'

/** The tools that the settings ask for; the first is the one the machine is listed with. A new tool is a line here. */
export function createTools(settings: ToolSettings, deps: ToolDeps): Tool[] {
  const tools: (Tool | false)[] = [settings.demo && createDemoTool()]
  void deps
  return tools.filter((tool) => tool !== false)
}
