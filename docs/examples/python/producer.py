"""Writes events to waypost.events.v1: a JSON object a line on standard input, a record each.

    KAFKA_BROKERS=127.0.0.1:9092 SCHEMA_REGISTRY_URL=http://127.0.0.1:8081 python producer.py <events.jsonl
"""

import json
import os
import sys
import time

from confluent_kafka import Producer
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

TOPIC = "waypost.events.v1"
SOURCE = "kafka"  # a Source of kind kafka: what it may say is in journeys/shop.yaml


class Events:
    """A producer of events. Sending one again under the same message id changes nothing."""

    def __init__(self, brokers, registry):
        self.failed = 0
        self._kafka = Producer({
            "bootstrap.servers": brokers,
            "acks": "all",  # acknowledged is what every replica in sync has
            "enable.idempotence": True,  # a retry of the client neither doubles nor reorders
            "partitioner": "murmur2_random",  # as Java's: one person, one partition, whoever writes
        })
        # The registry's newest version is written; a producer registers none of its own.
        conf = {"auto.register.schemas": False, "use.latest.version": True}
        self._avro = AvroSerializer(SchemaRegistryClient({"url": registry}), conf=conf)

    def send(self, event):
        """Hands an event over; `close` waits until the broker has it."""
        value = self._avro(envelope(event), SerializationContext(TOPIC, MessageField.VALUE))
        who = event["identifiers"][0]["value"] if event.get("identifiers") else None
        while True:
            try:
                self._kafka.produce(TOPIC, key=who, value=value, on_delivery=self._delivered)
                break
            except BufferError:  # the client's queue is full: wait until some has gone
                self._kafka.poll(1)
        self._kafka.poll(0)

    def close(self):
        """Waits for the broker; how many events it does not have."""
        return self._kafka.flush(60) + self.failed

    def _delivered(self, error, _):
        # What comes here was tried for `delivery.timeout.ms`: keep the event, and send it again under its message id.
        if error is not None:
            self.failed += 1
            print(f"not written: {error}", file=sys.stderr)


def envelope(event):
    """The record of an event; absent fields have their schema's default."""
    text = {name: json.dumps(event[name]) for name in ("properties", "traits", "context") if name in event}
    return {
        "message_id": event.get("message_id", ""),
        "name": event.get("name", ""),
        "identifiers": event.get("identifiers", []),
        # When it happened, and not when it is sent: an outbox keeps it.
        "event_time": event.get("event_time", int(time.time() * 1000)),
        "source": SOURCE,
        **text,
    }


def main():
    events = Events(os.environ["KAFKA_BROKERS"], os.environ["SCHEMA_REGISTRY_URL"])
    count = 0
    for count, line in enumerate(sys.stdin, start=1):
        events.send(json.loads(line))
    lost = events.close()
    print(f"{count - lost} of {count} written")
    sys.exit(1 if lost else 0)


if __name__ == "__main__":
    main()
