#!/usr/bin/env python3
"""Makes the JetStream stream STATIONS, for hubs that bridge straight to NATS. Needs nats-py 2 (PyPI); run it once."""
import asyncio

import nats


async def main():
    with open("collector.password", encoding="utf-8") as file:
        password = file.read().strip()
    server = await nats.connect("nats://127.0.0.1:4222", user="collector", password=password)
    await server.jetstream().add_stream(name="STATIONS", subjects=["stations.>"])
    await server.close()


asyncio.run(main())
