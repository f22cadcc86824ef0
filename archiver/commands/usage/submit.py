"""Usage of `submit`."""

from typing import Annotated

import typer

from archiver.commands.usage.completing import families
from archiver.commands.usage.options import AccountName

_Text = str | None
_Number = float | None


def submit(
    context: typer.Context,
    family: Annotated[
        str,
        typer.Argument(
            metavar="FAMILY", help="As in the API's path: images/generations.", autocompletion=families
        ),
    ],
    more: Annotated[list[str] | None, typer.Argument(hidden=True)] = None,
    *,
    prompt: Annotated[_Text, typer.Option(help="What to make; at most 2500 characters.")] = None,
    negative_prompt: Annotated[_Text, typer.Option(help="What to avoid; not together with an image.")] = None,
    model: Annotated[
        _Text, typer.Option(help="kling-v1, kling-v1-5, kling-v2, kling-v2-new, kling-v2-1, kling-v3.")
    ] = None,
    image: Annotated[
        _Text,
        typer.Option(metavar="FILE", help="PNG or JPEG file (at most 30 MB), or a URL, or Base64."),
    ] = None,
    image_reference: Annotated[
        _Text, typer.Option(help="What the image is a reference for: subject or face.")
    ] = None,
    image_fidelity: Annotated[_Number, typer.Option(help="How closely to keep to the image: 0 to 1.")] = None,
    human_fidelity: Annotated[_Number, typer.Option(help="How closely to keep to the face: 0 to 1.")] = None,
    resolution: Annotated[_Text, typer.Option(help="1k or 2k.")] = None,
    n: Annotated[int | None, typer.Option("--n", help="How many images: 1 to 9.")] = None,
    aspect_ratio: Annotated[_Text, typer.Option(help="16:9, 9:16, 1:1, 4:3, 3:4, 3:2, 2:3, 21:9.")] = None,
    watermark: Annotated[bool, typer.Option("--watermark", help="Make watermarked images too.")] = False,
    up: Annotated[_Number, typer.Option(help="Expand upwards, in heights of the image: 0 to 2.")] = None,
    down: Annotated[_Number, typer.Option(help="Expand downwards, in heights: 0 to 2.")] = None,
    left: Annotated[_Number, typer.Option(help="Expand to the left, in widths of the image: 0 to 2.")] = None,
    right: Annotated[_Number, typer.Option(help="Expand to the right, in widths: 0 to 2.")] = None,
    target_ratio: Annotated[
        _Text, typer.Option(metavar="W:H", help="Expand to this aspect ratio; calculates the four numbers.")
    ] = None,
    area: Annotated[
        _Number,
        typer.Option(help="Expand to this multiple of the image's area, at most 3."),
    ] = None,
    image_size: Annotated[
        _Text,
        typer.Option(metavar="WxH", help="Pixels of an image given by URL, for --target-ratio and --area."),
    ] = None,
    body: Annotated[
        _Text,
        typer.Option(metavar="BODY", help="The API's own body: JSON, @FILE, or - for standard input."),
    ] = None,
    no_check: Annotated[bool, typer.Option("--no-check", help="Send the body unchecked.")] = False,
    external_task_id: Annotated[
        _Text, typer.Option("--external-task-id", metavar="X", help="Your own name for the task; unique.")
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait for the results, and print their keys in the bucket.")
    ] = False,
    timeout: Annotated[
        _Number, typer.Option(metavar="SECONDS", min=0, help="Stop waiting for slots or results after this.")
    ] = None,
    account: AccountName = None,
    json: Annotated[bool, typer.Option("--json", "--as-json", help="Print JSON instead of text.")] = False,
) -> None:
    """Create a task, and follow it into the bucket.

    Checks the parameters before anything is paid, and registers the task before it creates it, so that no crash loses
    it. The request goes into the manifest. kling-receiver brings the results into the bucket. For families other than
    images/generations and images/editing/expand, give the body with --body.

    Exit status 1 if the API refuses, if the outcome is unknown, or if the task failed.

    \b
    Example: four images and their keys in the bucket; a wider picture
      kling-archiver submit images/generations --prompt "a red fox" --n 4 --wait
      kling-archiver submit images/editing/expand --image fox.png \\
          --target-ratio 16:9 --area 2.0 --wait
    """
