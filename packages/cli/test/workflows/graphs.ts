/** Graphs in API format as ComfyUI exports them, shortened to what matters. */

/** Its default graph. */
export const TEXT_TO_IMAGE = {
  '3': {
    inputs: {
      ...{ seed: 156680208700286, steps: 20, cfg: 8, sampler_name: 'euler', scheduler: 'normal', denoise: 1 },
      ...{ model: ['4', 0], positive: ['6', 0], negative: ['7', 0], latent_image: ['5', 0] },
    },
    class_type: 'KSampler',
    _meta: { title: 'KSampler' },
  },
  '4': { inputs: { ckpt_name: 'v1-5-pruned-emaonly-fp16.safetensors' }, class_type: 'CheckpointLoaderSimple' },
  '5': { inputs: { width: 512, height: 512, batch_size: 1 }, class_type: 'EmptyLatentImage' },
  '6': {
    inputs: { text: 'a galaxy in a bottle', clip: ['4', 1] },
    class_type: 'CLIPTextEncode',
    _meta: { title: 'CLIP Text Encode (Prompt)' },
  },
  '7': { inputs: { text: 'text, watermark', clip: ['4', 1] }, class_type: 'CLIPTextEncode' },
  '8': { inputs: { samples: ['3', 0], vae: ['4', 2] }, class_type: 'VAEDecode' },
  '9': { inputs: { filename_prefix: 'ComfyUI', images: ['8', 0] }, class_type: 'SaveImage' },
}

/** A sampler in parts: guider, noise, sigmas; the prompt in a node of its own; a guidance between. */
export const FLUX = {
  '6': { inputs: { text: ['40', 0], clip: ['11', 0] }, class_type: 'CLIPTextEncode' },
  '11': {
    inputs: { clip_name1: 't5xxl_fp16.safetensors', clip_name2: 'clip_l.safetensors', type: 'flux' },
    class_type: 'DualCLIPLoader',
  },
  '12': { inputs: { unet_name: 'flux1-dev.safetensors', weight_dtype: 'default' }, class_type: 'UNETLoader' },
  '13': {
    inputs: { noise: ['25', 0], guider: ['22', 0], sampler: ['16', 0], sigmas: ['17', 0], latent_image: ['27', 0] },
    class_type: 'SamplerCustomAdvanced',
  },
  '16': { inputs: { sampler_name: 'euler' }, class_type: 'KSamplerSelect' },
  '17': { inputs: { scheduler: 'simple', steps: 28, denoise: 1, model: ['12', 0] }, class_type: 'BasicScheduler' },
  '22': { inputs: { model: ['12', 0], conditioning: ['26', 0] }, class_type: 'BasicGuider' },
  '25': { inputs: { noise_seed: 7 }, class_type: 'RandomNoise' },
  '26': { inputs: { guidance: 3.5, conditioning: ['6', 0] }, class_type: 'FluxGuidance' },
  '27': { inputs: { width: 1024, height: 1024, batch_size: 1 }, class_type: 'EmptySD3LatentImage' },
  '40': { inputs: { value: 'cute anime girl' }, class_type: 'PrimitiveStringMultiline', _meta: { title: 'My prompt' } },
}

/** A picture to start from, a control net that hands on both conditionings, a LoRA, and two samplers. */
export const IMAGE_TO_IMAGE = {
  '1': { inputs: { ckpt_name: 'SDXL/base.safetensors' }, class_type: 'CheckpointLoaderSimple' },
  '2': {
    inputs: { lora_name: 'detail.safetensors', strength_model: 0.8, strength_clip: 1, model: ['1', 0], clip: ['1', 1] },
    class_type: 'LoraLoader',
  },
  '3': { inputs: { text: 'a castle', clip: ['2', 1] }, class_type: 'CLIPTextEncode' },
  '4': { inputs: { text: 'blurry', clip: ['2', 1] }, class_type: 'CLIPTextEncode' },
  '5': { inputs: { image: 'pasted/castle.png', upload: 'image' }, class_type: 'LoadImage', _meta: { title: 'Start' } },
  '6': { inputs: { control_net_name: 'depth.pth' }, class_type: 'ControlNetLoader' },
  '7': {
    inputs: { strength: 1, positive: ['3', 0], negative: ['4', 0], control_net: ['6', 0], image: ['5', 0] },
    class_type: 'ControlNetApplyAdvanced',
  },
  '8': { inputs: { pixels: ['5', 0], vae: ['1', 2] }, class_type: 'VAEEncode' },
  '9': {
    inputs: { seed: 1, steps: 20, positive: ['7', 0], negative: ['7', 1], model: ['2', 0], latent_image: ['8', 0] },
    class_type: 'KSampler',
  },
  '10': {
    inputs: { seed: 2, steps: 12, positive: ['3', 0], negative: ['4', 0], model: ['2', 0], latent_image: ['9', 0] },
    class_type: 'KSampler',
  },
}
