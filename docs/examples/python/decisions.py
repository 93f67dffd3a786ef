"""Prints the rows of a public topic, each once, as JSON lines; where it stood is kept in a file.

    KAFKA_BROKERS=… SCHEMA_REGISTRY_URL=… python decisions.py --profile prf_… --state decisions.state
"""

import argparse
import json
import os
import sys
from datetime import timezone

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext


class Place:
    """Where a reader is in one partition: the offset to read next, and the last number taken of each source."""

    def __init__(self, offset, from_start, last=None):
        self.offset = offset
        self.from_start = from_start
        self.last = last or {}

    def take(self, message):
        """Whether this row is the next of its source. Any other is a repeat, or comes again behind the gap."""
        headers = {name: value.decode() for name, value in message.headers()}
        source, number = headers["ce_source"], int(headers["ce_sequence"])
        # Numbers begin at 1; where retention has dropped the beginning, with the first that is seen.
        last = self.last.get(source, 0 if self.from_start else number - 1)
        self.offset = message.offset() + 1
        if number != last + 1:
            return False
        self.last[source] = number
        return True


def places(consumer, topic, state):
    """By partition: as the file has it, else the topic's beginning."""
    stored = json.load(open(state, encoding="utf-8")) if os.path.exists(state) else {}
    metadata = consumer.list_topics(topic, timeout=30).topics[topic]
    if metadata.error is not None:
        raise KafkaException(metadata.error)
    found = {}
    for partition in metadata.partitions:
        if str(partition) in stored:
            found[partition] = Place(**stored[str(partition)])
        else:
            low, _ = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=30)
            found[partition] = Place(low, low == 0)
    return found


def save(state, found):
    """All at once: a reader that was killed finds the old file or the new one."""
    with open(f"{state}.new", "w", encoding="utf-8") as file:
        json.dump({partition: vars(place) for partition, place in found.items()}, file)
    os.replace(f"{state}.new", state)


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--topic", default="waypost.decisions.v1")
    arguments.add_argument("--profile", help="only of this person")
    arguments.add_argument("--state", default="decisions.state", help="where it stood, of one topic")
    arguments.add_argument("--idle", type=float, help="end when nothing has come for so many seconds")
    asked = arguments.parse_args()

    consumer = Consumer({
        "bootstrap.servers": os.environ["KAFKA_BROKERS"],
        # No group is joined and no offset committed: the file has them, beside the numbers that belong to them.
        "group.id": "decisions-example",
        "enable.auto.commit": False,
        # Rows that fell to retention before they were read are an error, and no reason to begin somewhere else.
        "auto.offset.reset": "error",
    })
    avro = AvroDeserializer(SchemaRegistryClient({"url": os.environ["SCHEMA_REGISTRY_URL"]}))
    found = places(consumer, asked.topic, asked.state)
    consumer.assign([TopicPartition(asked.topic, partition, place.offset) for partition, place in found.items()])
    printed = 0
    while True:
        message = consumer.poll(asked.idle or 5)
        if message is None:
            save(asked.state, found)
            if asked.idle:
                break
            continue
        if message.error() is not None:
            if message.error().code() == KafkaError._AUTO_OFFSET_RESET:
                sys.exit(f"rows of partition {message.partition()} are gone that were not read: {message.error().str()}")
            raise KafkaException(message.error())
        if not found[message.partition()].take(message):
            continue
        # By the schema that wrote it: fields may come and go, so ask for each by its name.
        row = avro(message.value(), SerializationContext(asked.topic, MessageField.VALUE))
        if asked.profile in (None, row["profile"]):
            print(json.dumps(row, default=lambda time: time.astimezone(timezone.utc).isoformat()), flush=True)
            printed += 1
            # Behind what was made of the row: after a crash in between it is printed again. A program that writes to
            # a database keeps both in one transaction.
            save(asked.state, found)
    consumer.close()
    print(f"{printed} new", file=sys.stderr)


if __name__ == "__main__":
    main()
