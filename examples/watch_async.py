"""Follow all temperatures for ten seconds, in asyncio. The plant must be up."""

import asyncio

import tagwerk


async def follow() -> None:
    """Print the values as they are, then every change."""
    async with await tagwerk.attach_async() as plant:
        async for samples in plant.watch("*.temperature"):
            for value in samples.rows():
                mark = "is" if samples.snapshot else "->"
                print(mark, value.tag, value.value, value.unit, "Good" if value.good else "not good")


async def main() -> None:
    """Stop after ten seconds; leaving `async with` says goodbye."""
    try:
        await asyncio.wait_for(follow(), 10)
    except TimeoutError:
        print("ten seconds are over")


asyncio.run(main())
