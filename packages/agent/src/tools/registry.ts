import { createComfyuiTool } from './comfyui/comfyui.ts'
import { createCommandTool } from './command/command.ts'
import { createDemoTool } from './demo/demo.ts'
import { createNerfstudioTool } from './nerfstudio/nerfstudio.ts'
import type { ToolSettings } from './settings.ts'
import type { Tool, ToolDeps } from './tool.ts'

/** The tools that the settings ask for; the first is the one the machine is listed with. A new tool is a line here. */
export function createTools(settings: ToolSettings, deps: ToolDeps): Tool[] {
  const { comfyui, nerfstudio, commands, demo } = settings
  const tools = [
    comfyui && createComfyuiTool(comfyui, deps),
    nerfstudio && createNerfstudioTool(nerfstudio, deps),
    commands.length > 0 && createCommandTool(commands, deps),
    demo && createDemoTool(),
  ]
  return tools.filter((tool): tool is Tool => tool !== false && tool !== undefined)
}
