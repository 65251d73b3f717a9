"""What the zoo visits as a Gradio application: a queue with streaming output, and a file there and back."""

import os
import time

import gradio as gr


def count(word):
    """Goes on behind the first number when there is a file of that name."""
    said = word
    for number in range(1, 5):
        said += f" {number}"
        yield said
        while not os.path.exists(word):
            time.sleep(0.02)


with gr.Blocks() as demo:
    say = gr.Textbox(label="Say")
    answer = gr.Textbox(label="Answer")
    gr.Button("Go").click(count, say, answer)
    up = gr.File(label="Up", elem_id="up")
    down = gr.File(label="Down", elem_id="down")
    up.upload(lambda path: path, up, down)

demo.queue().launch(max_file_size="200mb")
